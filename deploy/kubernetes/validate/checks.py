"""Checks of what an overlay renders to: each yields its problems, a line each."""

import json

import kubernetes_validate
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as monitoring
from pydantic import ValidationError

from manifests import MICROSERVICES, label, matches, title

# Of objects that no Kubernetes knows by itself.
CUSTOM = {
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("keda.sh/v1alpha1", "TriggerAuthentication"): keda.TriggerAuthentication,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): monitoring.ServiceMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): monitoring.PrometheusRule,
}
# What may never be without.
PROBES = ["startupProbe", "livenessProbe", "readinessProbe"]


def schemas(overlay, facts):
    """Every field of every object is one that Kubernetes, KEDA or the Prometheus operator knows, and of the right kind."""
    seen = set()
    for one in overlay.objects + overlay.secrets:
        key = (one["kind"], title(one))
        if key in seen:
            yield f"{label(one)} is there twice"
        seen.add(key)
        content = json.dumps(one, sort_keys=True)
        if content in facts.valid:
            continue
        model = CUSTOM.get((one["apiVersion"], one["kind"]))
        try:
            if model:
                known = model.model_validate(one).model_dump(by_alias=True, exclude_unset=True, mode="json")
                unknown = list(dropped(one, known))
                yield from (f"{label(one)}: unknown field {field}" for field in unknown)
            else:
                unknown = []
                kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
            if not unknown:
                facts.valid.add(content)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"{label(one)}: {error}"
        except ValidationError as error:
            yield f"{label(one)}: {error}"


def dropped(given, known, path=""):
    """Fields that were given and that a model, which passes over what it does not know, has not taken."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key in known:
                yield from dropped(value, known[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(given, list) and isinstance(known, list):
        for index, (one, other) in enumerate(zip(given, known)):
            yield from dropped(one, other, f"{path}[{index}]")


def references(overlay, _):
    """Whatever is named is there: secrets, config maps, accounts, ports, pods, and what is to be scaled."""
    for owner, template in overlay.pods():
        spec = template["spec"]
        # A Job's selector is made with it.
        selector = owner["spec"].get("selector", {}).get("matchLabels")
        if not matches(template["metadata"]["labels"], selector):
            yield f"{label(owner)} does not select its own pods"
        account = spec.get("serviceAccountName")
        if account and not overlay.named("ServiceAccount", account):
            yield f"{label(owner)}: there is no ServiceAccount {account}"
        for constraint in spec.get("topologySpreadConstraints", []):
            if not matches(template["metadata"]["labels"], constraint["labelSelector"]["matchLabels"]):
                yield f"{label(owner)} spreads other pods than its own"
            # A zone that must have its share, or is counted while its nodes are tainted, keeps the others from taking it.
            strict = constraint["whenUnsatisfiable"] == "DoNotSchedule"
            if strict and ("minDomains" in constraint or constraint.get("nodeTaintsPolicy") != "Honor"):
                yield f"{label(owner)} is not placed anew when a zone is away"
        for volume in spec.get("volumes", []):
            if "secret" in volume and not overlay.named("Secret", volume["secret"]["secretName"]):
                yield f"{label(owner)}: there is no Secret {volume['secret']['secretName']}"
        volumes = {one["name"] for one in spec.get("volumes", []) + claims(owner)}
        for container in spec.get("initContainers", []) + spec["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in PROBES:
                asked = container.get(probe, {}).get("httpGet", {}).get("port")
                if asked and asked not in ports:
                    yield f"{label(owner)}: its {probe} asks port {asked}, which it has not"
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{label(owner)}: there is no volume {mount['name']}"
    for service in overlay.of("Service"):
        pods = overlay.selected(service["spec"]["selector"])
        if len(pods) != 1:
            yield f"{label(service)} selects the pods of {len(pods)} workloads"
        for port in service["spec"]["ports"]:
            if not any(port["targetPort"] in port_names(template) for _, template in pods):
                yield f"{label(service)}: no pod of it has a port {port['targetPort']}"
    for budget in overlay.of("PodDisruptionBudget"):
        if len(overlay.selected(budget["spec"]["selector"]["matchLabels"])) != 1:
            yield f"{label(budget)} does not select the pods of one workload"
    yield from policies(overlay)
    for scaler in overlay.of("ScaledObject", "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        if not overlay.named("Deployment", target):
            yield f"{label(scaler)}: there is no Deployment {target}"
    for monitor in overlay.of("ServiceMonitor"):
        services = [one for one in overlay.of("Service")
                    if matches(one["metadata"].get("labels", {}), monitor["spec"]["selector"]["matchLabels"])]
        if {title(one) for one in services} != set(MICROSERVICES):
            yield f"{label(monitor)} finds the services {[title(one) for one in services]}"
        for endpoint in monitor["spec"]["endpoints"]:
            for service in services:
                if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                    yield f"{label(monitor)}: {label(service)} has no port {endpoint['port']}"


def claims(owner):
    return [one["metadata"] for one in owner["spec"].get("volumeClaimTemplates", [])]


def port_names(template):
    return {port["name"] for container in template["spec"]["containers"] for port in container.get("ports", [])}


def policies(overlay):
    """Network policies select pods that are there, and open ports that these have; every pod has one."""
    covered = set()
    for policy in overlay.of("NetworkPolicy"):
        selector = policy["spec"]["podSelector"].get("matchLabels")
        pods = overlay.selected(selector)
        if not pods:
            yield f"{label(policy)} selects no pods"
        if selector:
            covered |= {title(owner) for owner, _ in pods}
        for rule in policy["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                for owner, template in pods:
                    if port["port"] not in port_names(template):
                        yield f"{label(policy)} opens port {port['port']}, which {label(owner)} has not"
        for rule in policy["spec"].get("egress", []):
            others = [overlay.selected(peer["podSelector"].get("matchLabels"))
                      for peer in rule.get("to", []) if "podSelector" in peer]
            for pods_there in others:
                names = set().union(*(port_names(template) for _, template in pods_there)) if pods_there else set()
                for port in rule.get("ports", []):
                    if port["port"] not in names:
                        yield f"{label(policy)}: nobody there has port {port['port']}"
    for owner, _ in overlay.pods():
        if title(owner) not in covered:
            yield f"{label(owner)} has no NetworkPolicy of its own"


def hardening(overlay, _):
    """No pod has any right that it does not need, each has its budget, and no microservice is missing."""
    names = {title(one) for one in overlay.of("Deployment")}
    for name in set(MICROSERVICES) - names:
        yield f"there is no Deployment {name}"
    for kind in ["Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"]:
        for name in names:
            if not overlay.named(kind, name):
                yield f"there is no {kind} {name}"
    for owner, template in overlay.pods():
        spec = template["spec"]
        pod = spec.get("securityContext", {})
        if not pod.get("runAsNonRoot") or not pod.get("runAsUser"):
            yield f"{label(owner)} may run as root"
        if pod.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{label(owner)} has no seccomp profile"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{label(owner)} is given a token of the cluster"
        for container in spec.get("initContainers", []) + spec["containers"]:
            what = f"{label(owner)}, {container['name']}"
            rights = container.get("securityContext", {})
            if rights.get("allowPrivilegeEscalation") is not False or rights.get("privileged"):
                yield f"{what} may gain privileges"
            if rights.get("readOnlyRootFilesystem") is not True:
                yield f"{what} may write to its image"
            if rights.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{what} has capabilities"
            resources = container.get("resources", {})
            if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
                yield f"{what} does not say what it needs"
            if container["image"].endswith(":latest") or ":" not in container["image"]:
                yield f"{what} does not say which version of its image"


def configuration(overlay, facts):
    """The real binary takes what its container is given: every key is known, every value can work."""
    for deployment, container, name in overlay.microservices():
        what = f"{label(deployment)}, {container['name']}"
        if facts.entry_points.get(name) != [name] or name not in MICROSERVICES:
            yield f"{what}: no image {name} is built by deploy/docker/Dockerfile"
            continue
        try:
            facts.effective(name, facts.image_environment | overlay.environment(container))
        except (KeyError, ValueError) as error:
            yield f"{what}: {error}"


def ports_and_paths(overlay, facts):
    """Ports are those that the process would listen at; paths are those that it serves there."""
    for deployment, container, name in overlay.microservices():
        if container["name"] != "microservice":
            continue
        try:
            http = facts.effective(name, facts.image_environment | overlay.environment(container))["http"]
        except (KeyError, ValueError):
            continue
        listens = {"admin": http["admin_listen"]} | ({"http": http["listen"]} if "public" in facts.addresses[name] else {})
        listens = {key: int(address.rsplit(":", 1)[1]) for key, address in listens.items()}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        if ports != listens:
            yield f"{label(deployment)} has the ports {ports}, but the process listens at {listens}"
        for probe in PROBES:
            asked = container.get(probe, {}).get("httpGet")
            if not asked:
                yield f"{label(deployment)} has no {probe}"
            elif asked["port"] != "admin":
                yield f"{label(deployment)}: its {probe} asks port {asked['port']}, where no health is served"
            elif not serves_health(facts.get(name, "admin", asked["path"])):
                yield f"{label(deployment)}: its {probe} asks {asked['path']}, which is not served"
    for monitor in overlay.of("ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            for name in MICROSERVICES:
                server = {"admin": "admin", "http": "public"}.get(endpoint["port"], endpoint["port"])
                status, body = facts.get(name, server, endpoint["path"]) or (None, "")
                # Of every process from its start on: an alert takes who has none for gone.
                if status != 200 or "carillon_condition_met{" not in body:
                    yield f"{label(monitor)}: {name} serves no metrics at {endpoint['port']}{endpoint['path']}"
    peers = {f"CARILLON__PEERS__{name.upper().replace('-', '_')}_URL": name for name in MICROSERVICES}
    for deployment, container, _ in overlay.microservices():
        for variable in container.get("env", []):
            if variable["name"].startswith("CARILLON__PEERS__"):
                service = overlay.named("Service", peers.get(variable["name"], ""))
                ports = {port["name"]: port["port"] for port in service["spec"]["ports"]} if service else {}
                if variable["value"] != f"http://{peers.get(variable['name'])}:{ports.get('admin')}":
                    yield f"{label(deployment)}: {variable['name']} is no Service's admin port"


def serves_health(answer):
    """Whether this is an answer of /healthz or /readyz; what is started here has no peers, and may not be ready."""
    if answer is None or answer[0] not in (200, 503):
        return False
    try:
        return bool({"status", "ready"} & set(json.loads(answer[1])))
    except ValueError:
        return False


def grace(overlay, facts):
    """Nobody is killed while it drains."""
    for deployment, container, name in overlay.microservices():
        if container["name"] != "microservice":
            continue
        try:
            settings = facts.effective(name, facts.image_environment | overlay.environment(container))
        except (KeyError, ValueError):
            continue
        # As `drain` of each microservice and `DRAIN_MARGIN` say; HTTP servers give requests in progress 20 s.
        drain = settings.get("runner", {}).get("drain_seconds", 0)
        if name == "callback-deliverer":
            drain = settings["callbacks"]["deadline_ms"] / 1000
        if "public" in facts.addresses[name]:
            drain = 20
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])[1]
        given = deployment["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
        if given <= float(sleep) + drain + 5:
            yield f"{label(deployment)} is killed after {given} s, but may drain for {drain} s after {sleep} s"
