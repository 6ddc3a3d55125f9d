"""Checks of the scalers: each looks at what is there, and what they may ask for has room."""

from manifests import MICROSERVICES, decoded, label


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
