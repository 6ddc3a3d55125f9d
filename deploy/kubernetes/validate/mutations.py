"""Ways to spoil deploy/, and what has to be told of each."""

from typing import NamedTuple


class Mutation(NamedTuple):
    path: str
    before: str
    after: str
    told: str


BASE = "deploy/kubernetes/base"
SCALING = "deploy/kubernetes/components/scaling"
MONITORING = "deploy/kubernetes/components/monitoring"
TOOLBOX = "deploy/kubernetes/components/toolbox/toolbox.yaml"
DISPATCHER = f"{BASE}/cron-dispatcher.yaml"
EVERY = f"{BASE}/every-microservice.yaml"

MUTATIONS = [
    # Fields that nobody knows.
    Mutation(DISPATCHER, "      serviceAccountName:", "      serviceAccountNames:", "serviceAccountNames"),
    Mutation(DISPATCHER, "limits: {memory: 768Mi}", "limits: {memory: [768]}", "Deployment cron-dispatcher"),
    Mutation(f"{SCALING}/workers.yaml", "minReplicaCount: 2", "minReplicas: 2", "minReplica"),
    Mutation(f"{SCALING}/workers.yaml", "pollingInterval: 10", "pollInterval: 10", "unknown field .spec.pollInterval"),
    Mutation(f"{SCALING}/workers.yaml", "maxReplicaCount: 31", "maxReplicaCount: many", "ScaledObject agent-runner"),
    Mutation(f"{MONITORING}/rules.yaml", "for: 5m", "during: 5m", "unknown field .spec.groups[0].rules[0].during"),
    Mutation(f"{MONITORING}/service-monitor.yaml", "interval: 15s", "every: 15s", "unknown field .spec.endpoints[0].every"),
    # Keys of the configuration.
    Mutation(f"{BASE}/kustomization.yaml", "CARILLON__HTTP__ADMIN_LISTEN", "CARILLON__HTTP__ADMIN_LISTENS", "admin_listens"),
    Mutation(f"{BASE}/kustomization.yaml", "FORMAT=json", "FORMAT=jsonl", "telemetry"),
    Mutation(f"{BASE}/agent-registry.yaml", "CRON_DISPATCHER_URL", "DISPATCHER_URL", "dispatcher_url"),
    Mutation(DISPATCHER, "secretRef: {name: cron-dispatcher}", "secretRef: {name: dispatcher}", "there is no Secret dispatcher"),
    Mutation(DISPATCHER, "configMapRef: {name: carillon}", "configMapRef: {name: common}", "there is no ConfigMap common"),
    # Ports and paths.
    Mutation(DISPATCHER, "containerPort: 9090", "containerPort: 9091", "listens at {'admin': 9090}"),
    Mutation(DISPATCHER, "targetPort: admin", "targetPort: metrics", "no pod of it has a port metrics"),
    Mutation(EVERY, "path: /readyz", "path: /ready", "asks /ready, which is not served"),
    Mutation(EVERY, "{port: admin, path: /healthz}", "{port: http, path: /healthz}", "where no health is served"),
    Mutation(f"{MONITORING}/service-monitor.yaml", "path: /metrics", "path: /metric", "serves no metrics"),
    Mutation(f"{BASE}/agent-registry.yaml", "http://cron-dispatcher:9090", "http://cron-dispatcher:8080", "no Service's admin port"),
    Mutation(f"{BASE}/ingress.yaml", "{path: /v1beta1,", "{path: /v1,", "nowhere"),
    Mutation(f"{BASE}/ingress.yaml", "{service: {name: service-registry,", "{service: {name: agent-registry,", "does not serve it"),
    Mutation(f"{BASE}/ingress.yaml", "port: {name: http}", "port: {name: admin}", "does not lead to the port http"),
    Mutation(DISPATCHER, "podSelector: {matchLabels: {app.kubernetes.io/name: agent-registry}}\n      ports: [{port: admin}]",
             "podSelector: {matchLabels: {app.kubernetes.io/name: agent-registry}}\n      ports: [{port: http}]",
             "opens port http"),
    Mutation(f"{BASE}/ingress.yaml", "proxy-body-size: 4m", "proxy-body-size: 3m", "lets in 3145728 bytes"),
    # What keeps it safe.
    Mutation(EVERY, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "may write to its image"),
    Mutation(EVERY, "runAsNonRoot: true", "runAsNonRoot: false", "may run as root"),
    Mutation(EVERY, "drop: [ALL]", "drop: [CHOWN]", "has capabilities"),
    Mutation(EVERY, "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 30", "may drain for 30 s"),
    # Scaling.
    Mutation(f"{SCALING}/workers.yaml", "queueName: carillon.agent-runner.runs", "queueName: carillon.agent-runner.requests",
             "there is no queue carillon.agent-runner.requests"),
    Mutation(f"{SCALING}/workers.yaml", "queueName: carillon.agent-runner.runs", "queueName: agent-runner.runs",
             "there is no queue agent-runner.runs"),
    Mutation(f"{SCALING}/workers.yaml", "scaleTargetRef: {name: agent-runner}", "scaleTargetRef: {name: runner}", "there is no Deployment runner"),
    Mutation(f"{SCALING}/workers.yaml", "key: CARILLON__BUS__URL", "key: BUS_URL", "there is no BUS_URL"),
    Mutation(f"{SCALING}/workers.yaml", "maxReplicaCount: 31", "maxReplicaCount: 32", "32 runners have 2048 slots"),
    Mutation(f"{SCALING}/http.yaml", "maxReplicas: 8", "maxReplicas: 80", "may open 424 connections"),
    Mutation("deploy/kubernetes/overlays/production/kustomization.yaml", "nodeTaintsPolicy, value: Honor", "minDomains, value: 3",
             "is not placed anew when a zone is away"),
    # The operator's commands.
    Mutation(TOOLBOX, "secretRef: {name: toolbox}", "secretRef: {name: tools}", "there is no Secret tools"),
    Mutation(TOOLBOX, "secretRef: {name: toolbox}", "secretRef: {name: agent-registry}", "carillon failed"),
    Mutation(TOOLBOX, "http://agent-registry:8080", "http://agent-registry:80", "is not where the API is"),
    Mutation("deploy/docker/profiles.toml", "http://agent-runner:9090", "http://runner:9090", "not have where agent-runner is asked"),
    # Settings.
    Mutation("docs/configuring.md", "| `window` |", "| `windows` |", "dispatcher.window, which cron-dispatcher knows"),
    Mutation("docs/configuring.md", "Read by agent-runner.", "Read by agent-registry.", "agent-registry does not know sessions.issuer"),
    # Metrics.
    Mutation(f"{SCALING}/workers.yaml", "carillon_deliveries_due", "carillon_due_deliveries", "no metric carillon_due_deliveries"),
    Mutation(f"{MONITORING}/rules.yaml", "carillon_dead_letters_total", "carillon_dead_letters", "no metric carillon_dead_letters "),
    Mutation(f"{MONITORING}/rules.yaml", "by (namespace, queue)", "by (namespace, queues)", "has no label queues"),
    Mutation(f"{MONITORING}/rules.yaml", '{status="exhausted"}', '{state="exhausted"}', "has no label state"),
    Mutation(f"{MONITORING}/rules.yaml", "abs(carillon_clock_offset_seconds)", "abs(carillon_clock_offset_seconds", "cannot be read"),
    Mutation(f"{MONITORING}/rules.yaml", "alert: CarillonClockOff", "alert: CarillonClockIsOff", "no section in docs/runbooks.md"),
    Mutation(f"{MONITORING}/rules.yaml", 'job="agent-runner"', 'job="runner"', "no alert tells that agent-runner is gone"),
    Mutation("deploy/grafana/carillon.json", "carillon_runs{", "carillon_run{", "no metric carillon_run "),
]
