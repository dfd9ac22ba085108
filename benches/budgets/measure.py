"""Runs programs and measures their times; starts the receiver that records when a worker claims."""

import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benches" / "peers"
GRAPH = "# SCUD Graph v1\n# Phase: bench\n\n@nodes\n1 | Do it | P | 1 | M\n"


class Samples:
    """The figures of one program, in one unit."""

    def __init__(self, values):
        self.values = list(values)

    median = property(lambda self: statistics.median(self.values))
    lowest = property(lambda self: min(self.values))
    highest = property(lambda self: max(self.values))


def target():
    # Cargo runs in ROOT, so a relative directory begins there.
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


def find_program(name, *directories):
    """The path of a peer, or None."""
    path = os.pathsep.join([*map(str, directories), os.environ["PATH"]])
    return shutil.which(name, path=path)


def compile_c(name, *options):
    """The path of a compiled program of benches/peers."""
    built = target() / "peers" / "bench" / name
    built.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-O2", "-Wall", *options, "-o", built, PEERS / f"{name}.c"], check=True)
    return str(built)


class Receiver:
    """An orchestrator that accepts every request. Its C program prints the time of each request, and ends with this program,
    which reads its output."""

    def __init__(self):
        self.process = subprocess.Popen([compile_c("receiver")], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/callback"

    def next(self):
        """The time of the next request in nanoseconds, and the last segment of its path."""
        at, path = self.process.stdout.readline().split()
        return int(at), path.rsplit("/", 1)[-1]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Project:
    """A directory with a graph, and an environment for workers; deleted at the end of a `with`."""

    def __init__(self, graph=GRAPH, task="1"):
        self.temporary = tempfile.TemporaryDirectory(prefix="descartes-bench-")
        self.dir = Path(self.temporary.name)
        self.task = task
        self.graph = graph
        (self.dir / "project" / ".scud" / "tasks").mkdir(parents=True)
        for name in ("home", "tmp"):
            (self.dir / name).mkdir()
        self.reset()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.temporary.cleanup()

    @property
    def project(self):
        return self.dir / "project"

    def reset(self):
        """Restores the graph: no task is done."""
        (self.project / ".scud/tasks/tasks.scg").write_text(self.graph, encoding="utf-8")

    def environment(self, receiver, agent, **further):
        """Settings of an empty run without isolation: the peers isolate nothing."""
        settings = {
            "PATH": os.environ["PATH"], "HOME": str(self.dir / "home"), "TMPDIR": str(self.dir / "tmp"),
            "TASK_ID": self.task, "PROJECT_ID": "bench", "CALLBACK_URL": receiver.url,
            "DESCARTES_AGENT_COMMAND": agent, "DESCARTES_ISOLATION": "off", "DESCARTES_HEARTBEAT": "0",
        }
        return settings | further


def run(command, environment, cwd):
    """Runs a program with its output in a pipe; returns the time of its start in nanoseconds, its wall time in ms, and its
    output. A failed program ends the benchmark."""
    reading, writing = os.pipe()
    actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, writing, 1),
               (os.POSIX_SPAWN_DUP2, writing, 2)]
    program = shutil.which(command[0])
    os.chdir(cwd)
    # Not `subprocess`, whose own work would be measured too.
    start = time.monotonic_ns()
    pid = os.posix_spawn(program, command, environment, file_actions=actions)
    os.close(writing)
    parts = []
    while part := os.read(reading, 65536):
        parts.append(part)
    _, status = os.waitpid(pid, 0)
    duration = (time.monotonic_ns() - start) / 1e6
    os.close(reading)
    # `cwd` may be deleted before the next program starts.
    os.chdir(ROOT)
    output = b"".join(parts)
    if status != 0:
        code = os.waitstatus_to_exitcode(status)
        raise SystemExit(f"{command} ended with {code}:\n{output.decode(errors='replace')[-4000:]}")
    return start, duration, output


def in_turns(rounds, programs):
    """Runs every function once in each round, so that a change of the machine's speed affects all of them. Each round has
    another order, because a program's time depends on the one that ran before. The first round does not count. Returns for
    each name the list of results."""
    results = {name: [] for name in programs}
    order = list(programs)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for name in order:
            result = programs[name]()
            if number > 0:
                results[name].append(result)
    return results
