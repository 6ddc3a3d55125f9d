"""What the real binaries say and serve: each microservice is started, over SQLite files, and stays while things are checked."""

import json
import pathlib
import re
import subprocess
import tempfile
import time
import tomllib
import urllib.error
import urllib.request

from manifests import MICROSERVICES, decoded, documents, run

PATIENCE_SECONDS = 60


class Facts:
    def __init__(self, root, binaries):
        self.root, self.binaries = root, binaries
        # What was asked once: of a spoiled copy, most is as it was.
        self.secrets, self.answers, self.settings, self.valid = {}, {}, {}, set()
        self.processes, self.environments = [], {}
        # By microservice, and then `admin` or `public`: where it listens.
        self.addresses = {name: {} for name in MICROSERVICES}
        dockerfile = (root / "deploy/docker/Dockerfile").read_text()
        base = dockerfile.split(" AS base\n")[1].split("\nFROM ")[0]
        self.image_environment = dict(re.findall(r"(CARILLON__\w+)=([^\s\\]+)", base))
        stages = re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", dockerfile, re.M | re.S)
        self.entry_points = {stage: re.findall(r'^ENTRYPOINT \["([^"]+)"\]', text, re.M) for stage, text in stages}

    def __enter__(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        # As they are called at RabbitMQ: with the prefix, which `carillon bus` leaves out.
        [prefix] = re.findall(r'^pub const DEFAULT_PREFIX: &str = "(.+)";$',
                              (self.root / "crates/bus/src/rabbitmq/mod.rs").read_text(), re.M)
        self.queues = {f"{prefix}.{one['queue']}" for one in json.loads(
            run([self.binaries / "carillon", "bus", "status", "--output", "json", "--url", f"sqlite:{self.folder}/q.db"]))}
        keys = {one["metadata"]["name"]: one for one in documents(
            run([self.root / "deploy/kubernetes/secrets.sh", "local", self.folder / "keys"]))}
        for name in MICROSERVICES:
            self.start(name, decoded(keys[name]))
        self.await_addresses()
        return self

    def __exit__(self, *_):
        for process, _ in self.processes:
            process.kill()
            process.wait()
        self.scratch.cleanup()

    def start(self, name, environment):
        self.environments[name] = dict(environment)
        environment["CARILLON__HTTP__LISTEN"] = "127.0.0.1:0"
        environment["CARILLON__HTTP__ADMIN_LISTEN"] = "127.0.0.1:0"
        environment["CARILLON__TELEMETRY__FORMAT"] = "json"
        for section, file in [("DATABASE", "data"), ("BUS", "bus")]:
            if f"CARILLON__{section}__URL" in environment:
                environment[f"CARILLON__{section}__URL"] = f"sqlite:{self.folder}/{name}.{file}.db"
        log = open(self.folder / f"{name}.log", "w+")
        binary = self.binaries / self.entry_points[name][0]
        self.processes.append((subprocess.Popen([binary], env=environment, stdout=log, stderr=log), name))

    def await_addresses(self):
        until = time.monotonic() + PATIENCE_SECONDS
        for process, name in self.processes:
            wanted = {"admin", "public"} if name.endswith("-registry") else {"admin"}
            while set(self.addresses[name]) != wanted:
                log = (self.folder / f"{name}.log").read_text()
                for server, address in re.findall(r'"server":"(\w+)","address":"([^"]+)"', log):
                    self.addresses[name][server] = address
                if time.monotonic() > until or process.poll() is not None:
                    raise SystemExit(f"{name} does not start: {log}")
                time.sleep(0.05)

    def get(self, name, server, path, method="GET"):
        """The status and the body of a request there; None where it does not listen."""
        key = (name, server, path, method)
        if key not in self.answers:
            self.answers[key] = self.ask(name, server, path, method)
        return self.answers[key]

    def ask(self, name, server, path, method):
        address = self.addresses[name].get(server)
        if address is None:
            return None
        try:
            request = urllib.request.Request(f"http://{address}{path}", method=method)
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def effective(self, name, environment):
        """The configuration that a process with this environment would have; ValueError with why it would have none."""
        key = (name, tuple(sorted(environment.items())))
        if key not in self.settings:
            # The command line has it under a command, and all sections.
            command = [self.binaries / name, *(["up"] if name == "carillon" else []), "--check-config"]
            self.settings[key] = tomllib.loads(run(command, environment))
        return self.settings[key]
