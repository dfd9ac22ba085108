"""The worker's protocol in Python with `requests`, as a person would write it in an afternoon: no limits, no masking."""

import os
import pathlib
import subprocess
import sys

import requests

TASK, PROJECT, URL = (os.environ[name] for name in ("TASK_ID", "PROJECT_ID", "CALLBACK_URL"))
LIMITS = ("callback_timeout_ms", "claim_deadline_ms", "finish_deadline_ms", "task_timeout_ms", "idle_timeout_ms",
          "stop_window_ms", "max_turns", "max_budget_usd", "max_tokens")
session = requests.Session()


def send_event(name, sequence, **fields):
    worker = {"version": "0.0.0", "revision": None, "hostname": "py", "agent": None, "isolation": "off"}
    event = {"task_id": TASK, "project_id": PROJECT, "status": name, "message": name, "version": 1,
             "event": f"task.{name}", "event_id": f"py.{sequence}", "run_id": "py", "sequence": sequence,
             "timestamp": "2026-01-01T00:00:00.000Z", "worker": worker, **fields}
    session.post(f"{URL}/{name}", json=event, timeout=30).raise_for_status()


send_event("started", 0, heartbeat_interval_ms=None, limits=dict.fromkeys(LIMITS))
graph = pathlib.Path(".scud/tasks/tasks.scg").read_text(encoding="utf-8")
if not any(line.split("|")[0].strip() == TASK for line in graph.splitlines() if "|" in line):
    sys.exit(1)
ended = subprocess.run(["/bin/sh", "-c", os.environ["DESCARTES_AGENT_COMMAND"]], check=False)
if ended.returncode != 0:
    sys.exit(1)
output = {"head": "", "tail": "", "total_bytes": 0, "dropped_bytes": 0}
send_event("completed", 1, result={"summary": None, "duration_ms": 0, "agent": None, "work": None, "checks": [], "output": output})
