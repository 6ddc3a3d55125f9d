"""Runs Schemathesis against both documents of a real Carillon; what is not checked is said in schemathesis.toml.

The same requests at each run: nothing is remembered from one to the next.
"""

import json
import shutil
import subprocess
import sys
import urllib.request

from carillon import STOCK, running

USER = "ann"


def send(url: str, token: str, body: dict) -> dict:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def attack(base: str, document: str, token: str, *options: str) -> bool:
    """Whether all went as the document says."""
    shutil.rmtree(".schemathesis", ignore_errors=True)
    command = [sys.argv[1], "--config-file", "schemathesis.toml", "run", base + document, "--url", base]
    command += ["--header", f"Authorization: Bearer {token}", "--warnings", "off", *options]
    return subprocess.run(command, timeout=1200).returncode == 0


# Scenarios begin where nothing has to exist before, which is at API keys alone: without those they begin everywhere. And
# of a user who was revoked nothing runs any more.
SCENARIOS = ["--phases", "stateful", "--exclude-tag", "API keys", "--exclude-tag", "users"]


with running(seconds=2700) as carillon:
    token = carillon.token(USER, "acme")
    # What is done to this one would hold up the rest: it is limited, paused and erased.
    send(f"{carillon.url}/api/ai-mentor/orgs/globex/users/{USER}/", carillon.token(USER, "globex"), {"name": "Gil"})
    root = carillon.token(USER, None, "platform_admin")
    place = f"{carillon.url}/api/ai-mentor/orgs/acme/users/{USER}/"
    mentor = send(place, token, {"name": "Ada", "provider": {"kind": "echo"}})
    agent = {"mentor": mentor["unique_id"], "title": "Yearly", "task": {"crontab": {"minute": 0, "hour": 0, "day_of_month": 1, "month_of_year": 1}}}
    send(place + "periodic-agents/", token, agent)
    send(carillon.url + "/v1beta1/services", token, STOCK)
    agents, services = "/openapi.json", "/v1beta1/openapi.json"
    well = attack(carillon.url, agents, root, "--phases", "examples,coverage,fuzzing")
    well &= attack(carillon.url, agents, root, *SCENARIOS)
    well &= attack(carillon.url, services, token)
if not well:
    sys.exit("what the documents say is not what happens")
print("schemathesis: what both documents say is what happens")
