"""What an overlay renders to, and ways to find things in it."""

import base64
import os
import subprocess

import yaml

MICROSERVICES = ["agent-registry", "service-registry", "cron-dispatcher", "agent-runner", "callback-deliverer"]

# What an operator says of their own servers, for secrets.sh.
ADDRESSES = {
    f"{name.upper().replace('-', '_')}_DATABASE_URL": f"postgres://{name}:s3cret@db.example.com/{name}"
    for name in MICROSERVICES
} | {"BUS_URL": "amqps://carillon:s3cret@mq.example.com/%2f"}


class Overlay:
    """The objects of an overlay, and the Secrets that secrets.sh prints for it."""

    def __init__(self, root, name, facts):
        folder = root / "deploy/kubernetes"
        self.root, self.name = root, name
        self.objects = documents(run(["kubectl", "kustomize", folder / "overlays" / name]))
        script = [folder / "secrets.sh", name, facts.folder / f"secrets-{name}"]
        # Keys are made once for all the times that this is done.
        if name not in facts.secrets:
            facts.secrets[name] = documents(run(script, ADDRESSES))
        self.secrets = facts.secrets[name]

    def of(self, *kinds):
        return [one for one in self.objects if one["kind"] in kinds]

    def named(self, kind, name):
        return next((one for one in self.of(kind) + self.secrets if one["kind"] == kind and title(one) == name), None)

    def pods(self):
        """Every object that makes pods, and its template."""
        of_jobs = [(one, one["spec"]["jobTemplate"]["spec"]["template"]) for one in self.of("CronJob")]
        return [(one, one["spec"]["template"]) for one in self.of("Deployment", "StatefulSet")] + of_jobs

    def selected(self, selector):
        """The templates of pods with these labels."""
        return [(one, template) for one, template in self.pods() if matches(template["metadata"]["labels"], selector)]

    def microservices(self):
        """Every container that runs one of ours: its deployment, its container, and which it is."""
        for deployment in self.of("Deployment"):
            spec = deployment["spec"]["template"]["spec"]
            for container in spec.get("initContainers", []) + spec["containers"]:
                yield deployment, container, image_name(container)

    def environment(self, container):
        """What a container is given, as the kubelet puts it together; what is not there raises KeyError."""
        variables = {}
        for source in container.get("envFrom", []):
            kind = "ConfigMap" if "configMapRef" in source else "Secret"
            name = (source.get("configMapRef") or source["secretRef"])["name"]
            found = self.named(kind, name)
            if found is None:
                raise KeyError(f"there is no {kind} {name}")
            variables |= found["data"] if kind == "ConfigMap" else decoded(found)
        for variable in container.get("env", []):
            variables[variable["name"]] = variable.get("value", "")
        return variables


def title(one):
    return one["metadata"]["name"]


def label(one):
    return f"{one['kind']} {title(one)}"


def matches(labels, selector):
    return all(labels.get(key) == value for key, value in (selector or {}).items())


def image_name(container):
    """`cron-dispatcher` of `registry.example.com/carillon/cron-dispatcher:0.1.0`."""
    return container["image"].rsplit("/", 1)[-1].split(":")[0]


def decoded(secret):
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def documents(text):
    return [one for one in yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if one]


def run(command, environment=None):
    """What a command prints; ValueError with what it says if it fails."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CARILLON__")}
    done = subprocess.run([str(part) for part in command], env=clean | (environment or {}), capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{command[0]} failed: {done.stderr.strip()}")
    return done.stdout
