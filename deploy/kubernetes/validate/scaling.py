"""Checks of the scalers: each looks at what is there, and what they may ask for has room."""

import re

from manifests import MICROSERVICES, decoded, label, title


def scalers(overlay, facts):
    """Scalers look at queues and secrets that there are; no workload has two scalers."""
    targets = [one["spec"]["scaleTargetRef"]["name"] for one in overlay.of("ScaledObject", "HorizontalPodAutoscaler")]
    for name in sorted(set(targets)):
        if targets.count(name) > 1:
            yield f"{name} has {targets.count(name)} scalers"
    if overlay.name == "production" and set(targets) != set(MICROSERVICES):
        yield f"only {sorted(targets)} are scaled"
    for authentication in overlay.of("TriggerAuthentication"):
        for reference in authentication["spec"]["secretTargetRef"]:
            secret = overlay.named("Secret", reference["name"])
            if not secret or reference["key"] not in decoded(secret):
                yield f"{label(authentication)}: there is no {reference['key']} in a Secret {reference['name']}"
    for scaler in overlay.of("ScaledObject"):
        if scaler["spec"]["minReplicaCount"] < 1:
            yield f"{label(scaler)} may end everything"
        for trigger in scaler["spec"]["triggers"]:
            if trigger["type"] == "rabbitmq":
                queue = trigger["metadata"]["queueName"]
                if queue not in facts.queues:
                    yield f"{label(scaler)}: there is no queue {queue}"
                name = trigger.get("authenticationRef", {}).get("name")
                if not overlay.named("TriggerAuthentication", name):
                    yield f"{label(scaler)}: there is no TriggerAuthentication {name}"


def room(overlay, facts):
    """What scalers may ask for has room: in the window, and at a PostgreSQL that is set up as docs/deploying.md says."""
    page = (overlay.root / "docs/deploying.md").read_text()
    connections_max = int(re.search(r"`max_connections = (\d+)`", page)[1])
    maxima = {one["spec"]["scaleTargetRef"]["name"]: one["spec"].get("maxReplicaCount", one["spec"].get("maxReplicas"))
              for one in overlay.of("ScaledObject", "HorizontalPodAutoscaler")}
    settings = {}
    for deployment, container, name in overlay.microservices():
        if title(deployment) in maxima and container["name"] == "microservice":
            try:
                settings[name] = facts.effective(name, facts.image_environment | overlay.environment(container))
            except (KeyError, ValueError):
                continue
    # What is wrong then, other checks tell.
    if not {"agent-runner", "cron-dispatcher"} <= set(settings) or not all(type(one) is int for one in maxima.values()):
        return
    slots = maxima["agent-runner"] * settings["agent-runner"]["runner"]["concurrency"]
    window = settings["cron-dispatcher"]["dispatcher"]["window"]
    if slots > window:
        yield f"{maxima['agent-runner']} runners have {slots} slots, but the window has room for {window}"
    # One more of each while it is rolled out.
    connections = sum((maxima[name] + 1) * one["database"]["pool_size"] for name, one in settings.items() if "database" in one)
    if connections > connections_max:
        yield f"microservices may open {connections} connections, but docs/deploying.md says {connections_max}"
