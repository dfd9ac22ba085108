"""A small orchestrator: grants tasks, listens to the workers, prints what they say.

    DESCARTES_CALLBACK_SECRET=whsec_... python receiver.py [PORT]

A line `cancel TASK_ID` on standard input cancels a task at its next heartbeat.
"""

import json
import os
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

LIMIT = 256 * 1024  # the most that one event may be, says the protocol


@dataclass
class Run:
    """One worker's attempt at a task."""

    run_id: str
    answers: dict = field(default_factory=dict)  # by event_id: a retry gets the same answer
    sequence: int = -1  # of the latest event
    end: str | None = None  # the terminal event's id
    cancelled: bool = False


class Orchestrator:
    """What is decided about an event. A real one keeps `runs` in a database, and decides in one
    transaction what it also writes down."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs: dict[str, Run] = {}  # by task_id: the run that has the task

    def hear(self, route: str, event: dict) -> tuple[int, dict]:
        with self.lock:
            run = self.runs.get(event["task_id"])
            if run and event["event_id"] in run.answers:
                return run.answers[event["event_id"]]
            if route == "started":
                if run and run.run_id != event["run_id"]:
                    return 409, {"error": f"run {run.run_id} has the task"}
                run = self.runs[event["task_id"]] = Run(event["run_id"])
            elif run is None or run.run_id != event["run_id"]:
                return 409, {"error": "the task is not this run's"}
            answer = run.answers[event["event_id"]] = self.decide(run, route, event)
            return answer

    def decide(self, run: Run, route: str, event: dict) -> tuple[int, dict]:
        if run.end:
            return 409, {"error": f"the run ended with {run.end}"}
        # A heartbeat may be overtaken by the next event; what is older is not news.
        late = event["sequence"] < run.sequence
        run.sequence = max(run.sequence, event["sequence"])
        say(event, "(late)" if late else event["message"])
        if route in ("completed", "failed"):
            # The status counts, not the route: an old orchestrator has one route for both.
            run.end = event["event_id"]
        elif route == "progress" and run.cancelled:
            return 200, {"cancel": True, "reason": "cancelled by hand"}
        return 200, {}

    def cancel(self, task_id: str) -> None:
        with self.lock:
            if run := self.runs.get(task_id):
                run.cancelled = True


def say(event: dict, words: str) -> None:
    print(f"{event['timestamp']} {event['task_id']} {event['status']}: {words}", flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # workers keep their connection
    orchestrator = Orchestrator()
    webhook: Webhook

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        if length > LIMIT:
            self.close_connection = True
            return self.answer(413, {"error": "too large"})
        body = self.rfile.read(length)
        route = self.path.split("?")[0].rsplit("/", 1)[-1]
        if route not in ("started", "progress", "completed", "failed"):
            return self.answer(404, {"error": "no such route"})
        try:
            # The bytes as they came: parsing and writing again would change them.
            self.webhook.verify(body, {name.lower(): value for name, value in self.headers.items()})
        except WebhookVerificationError as error:
            print(f"refused {self.path}: {error}", flush=True)
            return self.answer(401, {"error": str(error)})
        self.answer(*self.orchestrator.hear(route, json.loads(body)))

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
    threading.Event().wait()  # nobody types any more; go on


if __name__ == "__main__":
    main()
