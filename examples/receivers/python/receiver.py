"""A small orchestrator: grants tasks, receives what the workers report, and prints it.

    DESCARTES_CALLBACK_SECRET=whsec_... python receiver.py [PORT]

A line `cancel TASK_ID` on standard input cancels a task at its next heartbeat.
LEASE_SECONDS is the shortest lease of a run, by default 60.
"""

import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

MAX_BODY_SIZE = 256 * 1024  # in bytes, from the protocol
MISSING_HEARTBEATS = 4  # a lease ends after this many missing heartbeats
MIN_LEASE = float(os.environ.get("LEASE_SECONDS") or 60)  # in seconds
CLONE_AND_PUSH = 30 * 60  # what a run may need besides its limits, in seconds
CANCELLED_RUN = 130  # what a cancelled run may need before its terminal event, in seconds


@dataclass
class Run:
    """One worker's attempt at a task."""

    run_id: str
    lease: float  # in seconds
    finish_deadline: float  # in seconds
    renewed: float  # when the last event arrived, by time.monotonic()
    sequence: int = -1  # of the latest event
    end: str | None = None  # the terminal event's id

    def is_alive(self) -> bool:
        return self.end is None and time.monotonic() - self.renewed < self.lease


@dataclass
class Task:
    run: Run | None = None  # the latest run
    answers: dict = field(default_factory=dict)  # by event_id: a retry gets the same answer
    replaced_runs: set = field(default_factory=set)  # run_ids: their leases ended, and another run got the task
    is_finished: bool = False  # completed, or failed for good: no further run
    is_cancelled: bool = False


def lease_seconds(claim: dict) -> float:
    """The lease that docs/protocol.md recommends."""
    interval = claim.get("heartbeat_interval_ms", 15_000)
    if interval is None:  # no heartbeats
        limits = claim["limits"]
        return (limits["task_timeout_ms"] + limits["finish_deadline_ms"]) / 1000 + CLONE_AND_PUSH
    return max(MISSING_HEARTBEATS * interval / 1000, MIN_LEASE)


class Orchestrator:
    """Decides about events. A real one keeps `tasks` in a database, and stores an event and the
    decision about it in one transaction."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # By project and task id. `8` and `webapp:8` may be the same task: this example expects that
        # all workers are started with the same spelling.
        self.tasks: dict[tuple[str, str], Task] = {}

    def receive(self, route: str, event: dict) -> tuple[int, dict]:
        with self.lock:
            task = self.tasks.setdefault((event["project_id"], event["task_id"]), Task())
            if event["run_id"] in task.replaced_runs:  # also if it repeats an event
                return 409, {"error": "another run has got the task"}
            if event["event_id"] in task.answers:
                return task.answers[event["event_id"]]
            if route == "started":
                if refusal := self.refusal(task, event["run_id"]):
                    return refusal
                if task.run is None or task.run.run_id != event["run_id"]:
                    if task.run and not task.run.end:
                        task.replaced_runs.add(task.run.run_id)
                    finish_deadline = event.get("limits", {}).get("finish_deadline_ms", 900_000) / 1000
                    task.run = Run(event["run_id"], lease_seconds(event), finish_deadline, time.monotonic())
                    task.is_cancelled = False
            elif task.run is None or task.run.run_id != event["run_id"]:
                return 409, {"error": "another run has the task, or none"}
            answer = task.answers[event["event_id"]] = self.decide(task, task.run, route, event)
            return answer

    def refusal(self, task: Task, run_id: str) -> tuple[int, dict] | None:
        if task.is_finished:
            return 410, {"error": "the task is finished"}
        if task.run and task.run.is_alive() and task.run.run_id != run_id:
            return 409, {"error": f"run {task.run.run_id} has the task"}
        return None

    def decide(self, task: Task, run: Run, route: str, event: dict) -> tuple[int, dict]:
        if run.end:
            return 409, {"error": f"the run ended with {run.end}"}
        run.renewed = time.monotonic()
        # The next event may overtake a heartbeat. An older event is not shown.
        is_late = event["sequence"] < run.sequence
        run.sequence = max(run.sequence, event["sequence"])
        show(event, "(late)" if is_late else event["message"])
        if route in ("completed", "failed"):
            run.end = event["event_id"]
            # The status counts, not the route: an orchestrator may have one route for both.
            task.is_finished = event["status"] == "completed" or not event["failure"]["retryable"]
        elif route == "progress" and task.is_cancelled:
            # From now on the run sends no heartbeats, only its terminal event.
            run.lease = max(run.lease, CANCELLED_RUN + run.finish_deadline)
            return 200, {"cancel": True, "reason": "cancelled by hand"}
        return 200, {}

    def cancel(self, task_id: str) -> None:
        with self.lock:
            for (_, other_id), task in self.tasks.items():
                task.is_cancelled |= other_id == task_id


def show(event: dict, words: str) -> None:
    task = f"{event['project_id']}/{event['task_id']}"
    print(f"{event['timestamp']} {task} {event['status']}: {words}", flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # workers reuse their connection
    orchestrator = Orchestrator()
    webhook: Webhook

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        if length > MAX_BODY_SIZE:
            self.close_connection = True
            return self.answer(413, {"error": "too large"})
        body = self.rfile.read(length)
        route = self.path.split("?")[0].rsplit("/", 1)[-1]
        if route not in ("started", "progress", "completed", "failed"):
            return self.answer(404, {"error": "no such route"})
        try:
            # The bytes as they arrived: parsing and writing again would change them.
            self.webhook.verify(body, {name.lower(): value for name, value in self.headers.items()})
        except WebhookVerificationError as error:
            print(f"refused {self.path}: {error}", flush=True)
            return self.answer(401, {"error": str(error)})
        self.answer(*self.orchestrator.receive(route, json.loads(body)))

    def answer(self, status: int, answer: dict) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    secret = os.environ.get("DESCARTES_CALLBACK_SECRET") or sys.exit("DESCARTES_CALLBACK_SECRET is not set")
    Handler.webhook = Webhook(secret)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        command, _, task_id = line.strip().partition(" ")
        if command == "cancel":
            Handler.orchestrator.cancel(task_id)
            print(f"cancelling {task_id}", flush=True)
    threading.Event().wait()  # standard input is closed; go on serving


if __name__ == "__main__":
    main()
