"""Checks of the way in: which process a path is led to, and how much may come by it."""

import json
import re

from manifests import label

# What nginx calls them.
BYTES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def paths(overlay, facts):
    """Every documented path is led to a process that serves it, and none to an admin listener."""
    for one in overlay.of("Ingress"):
        rules = [path for rule in one["spec"]["rules"] for path in rule["http"]["paths"]]
        for path in rules:
            service = overlay.named("Service", path["backend"]["service"]["name"])
            if not service:
                yield f"{label(one)}: there is no Service {path['backend']['service']['name']}"
            elif path["backend"]["service"]["port"].get("name") != "http":
                yield f"{label(one)}: {path['path']} does not lead to the port http"
        for page in ["openapi.json", "openapi-services.json"]:
            documented = json.loads((facts.root / "docs" / page).read_text())["paths"]
            for path, operations in documented.items():
                rule = next((rule for rule in rules if leads(rule, path)), None)
                if rule is None:
                    yield f"{label(one)} leads {path} nowhere"
                    continue
                name = rule["backend"]["service"]["name"]
                # By a method that it has not: what is served there and not found is 404, too.
                method = next(one for one in ["DELETE", "PATCH", "PUT", "POST"] if one.lower() not in operations)
                address = path.replace("{", "").replace("}", "")
                answer = facts.get(name, "public", address, method) if name in facts.addresses else None
                if answer is None or answer[0] == 404:
                    yield f"{label(one)} leads {path} to {name}, which does not serve it"


def leads(rule, path):
    prefix = rule["path"]
    if rule["pathType"] == "Exact":
        return path == prefix
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")


def bodies(overlay, facts):
    """What the public API takes, nginx takes too."""
    for one in overlay.of("Ingress"):
        said = one["metadata"].get("annotations", {}).get("nginx.ingress.kubernetes.io/proxy-body-size", "1m")
        number, unit = re.fullmatch(r"(\d+)([kmg]?)", said).groups()
        let_in = int(number) * BYTES.get(unit, 1)
        for _, container, name in overlay.microservices():
            if container["name"] != "microservice" or "public" not in facts.addresses.get(name, {}):
                continue
            try:
                settings = facts.effective(name, facts.image_environment | overlay.environment(container))
            except (KeyError, ValueError):
                continue
            if let_in < settings["http"]["body_bytes_max"]:
                yield f"{label(one)} lets in {let_in} bytes, but {name} takes {settings['http']['body_bytes_max']}"
