"""Runs coding agents on the same scripted conversation and prints time and memory of each, compared with the first one.

    agents_model.py TURNS ROUNDS NAME=COMMAND...

Every command is run by `sh -c` in an empty directory, with the prompt on standard input and in $PROMPT, and with
ANTHROPIC_BASE_URL set to a Messages API on loopback. The fake model asks for one shell command after the other, and ends
the conversation after TURNS turns. An agent that did not run a command, or did not send its output back, is an error.

Needs only the standard library, and /usr/bin/time to measure peak memory: the peak of a process that Python starts
would include Python's own memory.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PROMPT = "Count the lines of every file here. Use the shell, one command after the other."
MODEL = "claude-sonnet-4-5-20250929"
# The command that ends mini-swe-agent's work; the other agents end when the model asks for no tool.
SUBMIT = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


class Run:
    """One run of an agent, as the server sees it."""

    def __init__(self, turns):
        self.turns = turns
        self.start = time.monotonic()
        self.first_request = None
        self.requests = 0
        self.bytes = 0
        self.answer_to_request_times = []
        self.answer_end = None
        self.errors = []
        self.done = False
        self.lock = threading.Lock()

    def record_request(self, arrival, size):
        with self.lock:
            self.first_request = self.first_request or arrival
            self.requests += 1
            self.bytes += size
            if self.answer_end:
                self.answer_to_request_times.append(arrival - self.answer_end)
                self.answer_end = None

    def answer(self, body):
        """The blocks of the answer and its stop reason."""
        shells = [tool["name"] for tool in body.get("tools", []) if tool["name"].lower() == "bash"]
        if not shells:
            # A side question, for example for a title.
            return [{"type": "text", "text": "Counting lines"}], "end_turn"
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        if turn:
            last_message = json.dumps(body["messages"][-1])
            if f"turn {turn} of" not in last_message:
                self.errors.append(f"turn {turn} did not come back: {last_message[:500]}")
        if turn < self.turns:
            command = f"echo turn {turn + 1} of {self.turns}; wc -l *"
            text = f"Now turn {turn + 1}."
        else:
            self.done = True
            if "COMPLETE_TASK" not in json.dumps(body["messages"]):
                return [{"type": "text", "text": "All lines are counted."}], "end_turn"
            command, text = SUBMIT, "Done."
        call = {"type": "tool_use", "id": f"toolu_{turn}", "name": shells[0], "input": {"command": command}}
        return [{"type": "text", "text": text}, call], "tool_use"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Send head and body in one write, so that Nagle's algorithm does not delay the body.
    disable_nagle_algorithm = True
    run = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        run = Handler.run
        run.record_request(time.monotonic(), len(body))
        body = json.loads(body)
        if not self.path.partition("?")[0].endswith("/v1/messages"):
            return self.send("application/json", json.dumps({"input_tokens": 1}))
        blocks, stop_reason = run.answer(body)
        message = {
            "id": f"msg_{run.requests}", "type": "message", "role": "assistant", "model": body["model"],
            "content": blocks, "stop_reason": stop_reason, "stop_sequence": None,
            "usage": {"input_tokens": 100, "output_tokens": 50},
        }  # fmt: skip
        if body.get("stream"):
            self.send("text/event-stream", "".join(events(message)))
        else:
            self.send("application/json", json.dumps(message))
        run.answer_end = time.monotonic()

    def do_HEAD(self):
        self.send("application/json", "")

    do_GET = do_HEAD

    def send(self, kind, text):
        body = text.encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, *_):
        pass


def events(message):
    """The events of a message in a stream."""
    start = message | {"content": [], "stop_reason": None}
    yield event({"type": "message_start", "message": start})
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty, delta = block | {"text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty = block | {"input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield event({"type": "content_block_start", "index": index, "content_block": empty})
        yield event({"type": "content_block_delta", "index": index, "delta": delta})
        yield event({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 50}})
    yield event({"type": "message_stop"})


def event(data):
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"


def measure(command, turns, url, home):
    """Runs an agent once; returns its figures by name."""
    with tempfile.TemporaryDirectory() as work:
        Path(work, "one.txt").write_text("1\n2\n3\n")
        time_file = Path(home, "time")
        env = {
            "PATH": os.environ["PATH"], "HOME": home, "LANG": "C.UTF-8", "PROMPT": PROMPT, "MODEL": MODEL,
            "ANTHROPIC_API_KEY": "sk-ant-scripted", "ANTHROPIC_BASE_URL": url,
        }  # fmt: skip
        Handler.run = run = Run(turns)
        timed = ["/usr/bin/time", "--format=%M %U %S", f"--output={time_file}", "/bin/sh", "-c", command]
        finished = subprocess.run(timed, cwd=work, env=env, input=PROMPT, text=True, capture_output=True, timeout=600)
        duration = time.monotonic() - run.start
    if finished.returncode or run.errors or not run.done:
        sys.exit(
            f"{command}: exit code {finished.returncode}, {run.requests} requests\n"
            f"{finished.stdout[-3000:]}{finished.stderr[-3000:]}" + "\n".join(run.errors)
        )
    memory, user, system = time_file.read_text().split()
    return {
        "exec to first request, ms": (run.first_request - run.start) * 1000,
        "whole conversation, ms": duration * 1000,
        "answer to next request, ms": statistics.median(run.answer_to_request_times) * 1000,
        "processor time, ms": (float(user) + float(system)) * 1000,
        "peak memory, MiB": int(memory) / 1024,
        "requests": run.requests,
        "bytes sent": run.bytes,
    }


def serve():
    """Starts the model; returns its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def conversations(command, counts):
    """Has one conversation for each number of turns; returns pairs of the number of turns and the figures by name."""
    url = serve()
    with tempfile.TemporaryDirectory() as home:
        return [(turns, measure(command, turns, url, home)) for turns in counts]


def main():
    turns, rounds = int(sys.argv[1]), int(sys.argv[2])
    agents = [argument.split("=", 1) for argument in sys.argv[3:]]
    url = serve()
    runs = {name: [] for name, _ in agents}
    with tempfile.TemporaryDirectory() as home:
        # The first round fills caches and does not count.
        for number in range(rounds + 1):
            for name, command in agents:
                result = measure(command, turns, url, home)
                if number:
                    runs[name].append(result)
    first = agents[0][0]
    print(f"{turns} turns, {rounds} rounds, medians; in brackets how many times {first}'s\n")
    width = 22
    print(f"{'':<28}" + "".join(f"{name:>{width}}" for name in runs))
    for what in runs[first][0]:
        medians = {name: statistics.median(result[what] for result in results) for name, results in runs.items()}
        cells = []
        for name, value in medians.items():
            text = f"{value:,.1f}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"
            ratio = f" ({value / medians[first]:.1f})" if name != first and medians[first] else ""
            cells.append(f"{text + ratio:>{width}}")
        print(f"{what:<28}" + "".join(cells))


if __name__ == "__main__":
    main()
