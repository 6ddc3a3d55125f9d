"""The vendor's two clients of the periodic agents API, unmodified: PyPI `iblai` and npm `@iblai/iblai-api`, each with only
base URL and key changed. A mentor by the one and an agent by the other, with no field of ours, end in a real run."""

import asyncio
import json
import os
import subprocess
import time
from datetime import datetime, timezone

from iblai.api.ai_mentor_api import AiMentorApi
from iblai.clients import get_platform_api_client
from iblai.helpers import create_mentor
from iblai.models import (
    CrontabSchedule,
    PaginatedPeriodicAgentList,
    PaginatedPeriodicAgentLogList,
    PatchedPeriodicAgentCreate,
    PeriodicAgent,
    PeriodicAgentCreate,
    PeriodicAgentLog,
    PeriodicAgentStatistics,
    PeriodicTask,
)

from carillon import running

USER = "ann@acme.example"


def agent(model, **fields):
    """A body as the client wants it: with values for what only the server sets, which it then leaves out."""
    now = datetime.now(timezone.utc)
    ignored = {"id": 0, "username": "", "created_at": now, "modified_at": now, "enabled": True, "one_off": False}
    return model(**ignored, platform_key="", previous_agent_output="", **fields)


def task(**fields):
    crontab = CrontabSchedule(**fields.pop("crontab", {}))
    return PeriodicTask(id=0, name="", crontab=crontab, **fields)


def npm(carillon, key: str, *arguments: str) -> str:
    command = ["node", "client.mjs", carillon.url, key, *arguments]
    done = subprocess.run(command, cwd=os.environ["CARILLON_NPM"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def drive(api, mentor: str):
    def call(operation: str, expected: int, model, /, *arguments, **query):
        method = getattr(api, f"ai_mentor_orgs_users_periodic_{operation}")
        response = method(*arguments, "acme", USER, **query)
        assert response.status == expected, (operation, response.status, response.data)
        if model is None:
            return json.loads(response.data) if response.data else None
        return model.from_dict(json.loads(response.data))

    start = datetime(2030, 1, 1, 7, tzinfo=timezone.utc)
    body = agent(
        PeriodicAgentCreate,
        mentor=mentor,
        title="Daily Ünïcode",
        prompt="What is new?",
        task=task(crontab={"minute": "*/5"}, start_time=start),
    )
    made = call("agents_create", 201, PeriodicAgentCreate, periodic_agent_create=body)
    assert (str(made.mentor), made.username, made.task.start_time) == (mentor, USER, start)
    read = call("agents_retrieve", 200, PeriodicAgent, made.id)
    assert str(read.mentor.unique_id) == mentor and read.title == "Daily Ünïcode"

    for query, count in [
        ({"page_size": 5}, 1),
        ({"enabled": True}, 1),
        ({"mentor_id": mentor, "status": "pending"}, 1),
        ({"search": "ünïcode", "ordering": "-created_at"}, 1),
        ({"title": "Other"}, 0),
        ({"previous_agent_status": "error"}, 0),
    ]:
        found = call("agents_list", 200, PaginatedPeriodicAgentList, **query)
        assert found.count == count == len(found.results), query
    assert call("agents_list", 404, None, page=2) ["detail"] == "Invalid page."

    body.title = "Hourly"
    # On a day that does not come in our time, so that it fires at no full hour meanwhile.
    body.task = task(crontab={"minute": "0", "day_of_month": "29", "month_of_year": "2"})
    put = call("agents_update", 200, PeriodicAgentCreate, made.id, periodic_agent_create=body)
    assert (put.title, put.task.crontab.minute, put.task.start_time) == ("Hourly", "0", None)
    change = PatchedPeriodicAgentCreate(task=task(enabled=False))
    patched = call("agents_partial_update", 200, PeriodicAgentCreate, made.id, patched_periodic_agent_create=change)
    assert (patched.enabled, patched.title) == (False, "Hourly")

    counts = call("agents_statistics_retrieve", 200, PeriodicAgentStatistics)
    assert (counts.total_tasks, counts.pending_tasks) == (1, 1)
    assert call("agent_logs_list", 200, PaginatedPeriodicAgentLogList, periodic_agent=made.id).count == 0
    call("agents_destroy", 204, None, made.id)
    assert "detail" in call("agents_retrieve", 404, None, made.id)
    return call


def until_it_ran(call, agent_id: int):
    """Every minute means within a minute, and some for the run itself, on a busy machine."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        logs = call("agent_logs_list", 200, PaginatedPeriodicAgentLogList, periodic_agent=agent_id, status="success")
        if logs.count:
            return call("agent_logs_retrieve", 200, PeriodicAgentLog, logs.results[0].id)
        time.sleep(0.5)
    raise AssertionError(f"agent {agent_id} did not run")


with running() as carillon:
    key = carillon.api_key(USER, "acme")
    client = get_platform_api_client(carillon.url, key)
    settings = {
        "template_name": "ai-mentor",
        "new_mentor_name": "helper",
        "display_name": "Helper",
        "description": "Repeats what it is asked.",
        "llm_provider": "echo",
        "llm_name": "echo",
    }
    mentor = asyncio.run(create_mentor("acme", USER, settings, key, base_url=carillon.url))
    api = AiMentorApi(client)
    call = drive(api, mentor["unique_id"])
    npm(carillon, key, "drive")
    agent_id = int(npm(carillon, key, "create", mentor["unique_id"]))
    log = until_it_ran(call, agent_id)
    assert log.status == "success" and "Say this." in log.content, log
    counts = call("agents_statistics_retrieve", 200, PeriodicAgentStatistics, mentor_id=mentor["unique_id"])
    assert (counts.total_tasks, counts.succeeded_tasks) == (1, 1)
print("iblai (PyPI) and @iblai/iblai-api (npm): every call of both; a mentor by one and an agent by the other ran")
