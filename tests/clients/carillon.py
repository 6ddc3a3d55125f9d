"""A real `carillon up` on free ports and a data directory of its own."""

import os
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path


class Carillon:
    def __init__(self, data_dir: Path):
        self.binary = os.environ["CARILLON_BINARY"]
        self.data_dir = data_dir
        self.environment = {
            "PATH": os.environ["PATH"],
            "CARILLON__TELEMETRY__LOG": "warn",
        }
        self.process = subprocess.Popen(
            [self.binary, "up", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
            + ["--data-dir", str(data_dir)],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read_url(self) -> str:
        for line in self.process.stdout:
            words = line.split()
            if words[:1] == ["API"]:
                return words[1]
        raise SystemExit("carillon did not start")

    def token(self, user: str, organisation: str | None, role: str = "tenant_admin") -> str:
        command = [self.binary, "token", "--user", user, "--role", role, "--data-dir", str(self.data_dir)]
        if organisation is not None:
            command += ["--org", organisation]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout.strip()

    def api_key(self, user: str, organisation: str) -> str:
        command = [self.binary, "bootstrap", "--user", user, "--org", organisation, "--url", self.url]
        command += ["--data-dir", str(self.data_dir)]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout.strip()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=180)


def give_up(*_):
    raise TimeoutError("carillon or its client hangs")


@contextmanager
def running(seconds: int = 900):
    """Runs for as long as the block does; it must end well afterwards, and must not have ended before."""
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    with tempfile.TemporaryDirectory() as folder:
        carillon = Carillon(Path(folder) / "data")
        try:
            carillon.url = carillon.read_url()
            yield carillon
            assert carillon.process.poll() is None, "carillon ended by itself"
            assert carillon.stop() == 0, "carillon did not stop well"
        finally:
            carillon.process.kill()


STOCK = {
    "agent": "agent1qdnt5j8wr7cyzupu759w79scp3uaz50m33lfqazsf2tpfz84qfazjgnvfvy",
    "name": "Stock price service",
    "description": "Retrieves the stock price of a share.",
    "protocolDigest": "proto:05c3504f6d6486792e8410c9d1c6d626991fc8e0007bae960acb2ab1dd83072a",
    "modelDigest": "model:4ec922f7f18419cf7c6742f96eb4543a7ed5c131af077ca2b267607f65e62eb2",
    "modelName": "StockPrice/StocksProtocol",
    "fields": [{"name": "symbol", "required": True, "field_type": "string", "description": "As AAPL."}],
    "taskType": "task",
}
