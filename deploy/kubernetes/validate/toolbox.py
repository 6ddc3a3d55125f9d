"""Checks of the place of the operator's commands."""

import tomllib

from manifests import MICROSERVICES, image_name, label

# What each command needs, as its `--help` says.
NEEDED = [
    ("bus", "url"),
    ("database", "agent_registry_url"),
    ("database", "cron_dispatcher_url"),
    ("internal", "key"),
    ("auth", "jwt_secret"),
    ("http", "public_url"),
]


def commands(overlay, facts):
    """The real command line takes what it is given, which is all that it needs and the addresses that there are."""
    toolbox = overlay.named("CronJob", "toolbox")
    if not toolbox:
        yield "there is no CronJob toolbox"
        return
    [container] = toolbox["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    try:
        environment = overlay.environment(container)
        facts.effective(image_name(container), facts.image_environment | environment)
    except (KeyError, ValueError, OSError) as error:
        yield f"{label(toolbox)}: {error}"
        return
    for section, key in NEEDED:
        if not environment.get(f"CARILLON__{section}__{key}".upper()):
            yield f"{label(toolbox)} is not given {section}.{key}"
    admin = tomllib.loads((overlay.root / "deploy/docker/profiles.toml").read_text())["default"]["admin"]
    for name in MICROSERVICES:
        if f"http://{name}:{port(overlay, name, 'admin')}" not in admin:
            yield f"deploy/docker/profiles.toml does not have where {name} is asked"
    if environment["CARILLON__HTTP__PUBLIC_URL"] != f"http://agent-registry:{port(overlay, 'agent-registry', 'http')}":
        yield f"{label(toolbox)}: CARILLON__HTTP__PUBLIC_URL is not where the API is"


def port(overlay, name, which):
    service = overlay.named("Service", name)
    return next((one["port"] for one in service["spec"]["ports"] if one["name"] == which), None) if service else None
