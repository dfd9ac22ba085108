"""How times grow with the number of workers, of tasks in a dispatch, and of processes of an agent."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

from measure import GRAPH, PEERS, Project, Receiver, Samples, in_turns
from output import run_worker
from repository import CLEAN, IDENTITY

WORKER_COUNTS = (25, 50, 100, 200)
TASK_COUNTS = (100, 500, 1_000, 2_000)
PROCESS_COUNTS = (100, 300, 1_000)
JOBS = 20


def measure(report, program, is_linear):
    measure_workers(report, program, is_linear)
    measure_tasks(report, program, is_linear)
    measure_processes(report, program, is_linear)


def measure_workers(report, program, is_linear):
    """Workers that all start at once, at one receiver."""
    worker, shell = [], []
    for count in WORKER_COUNTS:
        figures = in_turns(3, {"worker": lambda count=count: all_at_once([program], count),
                               "shell": lambda count=count: all_at_once(["/bin/sh", str(PEERS / "worker.sh")], count)})
        worker.append((count, Samples(figures["worker"]).median))
        shell.append((count, Samples(figures["shell"]).median))
    report.curve("sh+curl, many at once", "workers", "ms", shell)
    report.curve("workers, many at once", "workers", "ms", worker, "linear", is_linear(worker))


def all_at_once(command, count):
    """The time in ms until all of these workers have ended."""
    receiver = Receiver()
    with contextlib.ExitStack() as stack:
        projects = [stack.enter_context(Project()) for _ in range(count)]
        start = time.monotonic_ns()
        running = [subprocess.Popen(command, env=project.environment(receiver, "true"), cwd=project.project,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for project in projects]
        codes = [worker.wait() for worker in running]
        duration = (time.monotonic_ns() - start) / 1e6
    events = [receiver.next()[1] for _ in range(2 * count)]
    receiver.close()
    if any(codes) or events.count("completed") != count:
        raise SystemExit(f"{command}: {codes}, {events.count('completed')} of {count} completed")
    return duration


def measure_tasks(report, program, is_linear):
    """A dispatch of tasks that do nothing, on this machine."""
    seconds, processor, memory = [], [], []
    for count in TASK_COUNTS:
        rows = "".join(f"{n} | Do it | P | 1 | M\n" for n in range(1, count + 1))
        graph = GRAPH.partition("1 | ")[0] + rows
        with Project(graph) as project:
            duration, processor_time, peak = dispatch(program, project)
        seconds.append((count, duration))
        processor.append((count, processor_time))
        memory.append((count, peak))
    report.curve(f"dispatch of many empty tasks, {JOBS} at a time", "tasks", "s", seconds, "linear", is_linear(seconds))
    report.curve("processor time of the dispatcher without its workers and git", "tasks", "s", processor, "linear", is_linear(processor))
    report.curve("peak memory of the dispatcher, or of the largest process that it waits for", "tasks", "MiB", memory,
                 "linear", is_linear(memory))


def dispatch(program, project):
    """The time of a dispatch and the processor time of the dispatcher itself in s, and the peak memory in MiB."""
    settings = {"PATH": os.environ["PATH"], "HOME": str(project.dir / "home"), "TMPDIR": str(project.dir / "tmp"),
                "DESCARTES_DISPATCH_STATE": str(project.dir / "state"), "DESCARTES_AGENT_COMMAND": "true",
                "DESCARTES_ISOLATION": "off", **CLEAN, **IDENTITY}
    for args in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run(["git", *args], cwd=project.project, env=settings, check=True)
    log = project.dir / "log"
    with log.open("wb") as writing:
        start = time.monotonic()
        running = subprocess.Popen([program, "dispatch", "--jobs", str(JOBS)], cwd=project.project, env=settings,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writing)
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        duration = time.monotonic() - start
        # The times in the usage below include those of the child processes. These fields do not: user and system time.
        fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
        processor_time = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode != 0:
        raise SystemExit(f"dispatch ended with {running.returncode}:\n{log.read_text()[-4000:]}")
    return duration, processor_time, usage.ru_maxrss / 1024


def measure_processes(report, program, is_linear):
    """An agent that leaves many processes running: the worker ends them."""
    receiver, points = Receiver(), []
    with Project() as project:
        for count in PROCESS_COUNTS:
            agent = f"n=0; while [ $n -lt {count} ]; do sleep 1000 & n=$((n + 1)); done"
            points.append((count, Samples(run_worker(program, project, receiver, agent)[0] for _ in range(3)).median))
    receiver.close()
    report.curve("processes that the agent leaves running", "processes", "ms", points, "linear", is_linear(points))
