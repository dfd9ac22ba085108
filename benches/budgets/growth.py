"""How times and memory grow with the size of the work. Times may grow at most in proportion to it."""

import sys
from pathlib import Path

import crowds
from graph import graph_of
from measure import Project, Receiver, Samples
from output import run_worker, token, write_text
from repository import measure_times
from start_up import peak_memory

# A figure may grow this many times as fast as the size, because measurements vary.
TOLERANCE = 1.5
# Times in seconds below this are mostly the start of the program, so they count as this. Times in ms are all larger.
MIN_TIME_S = 0.05


def measure(report, program):
    measure_tasks(report, program)
    measure_output(report, program)
    measure_secrets(report, program)
    measure_line(report, program)
    measure_turns(report, program)
    crowds.measure(report, program, is_linear)
    measure_files(report, program)


def is_linear(points):
    """Whether the figure grows no faster than the size from the second last point to the last."""
    (first, low), (last, high) = points[-2], points[-1]
    return high <= max(low, MIN_TIME_S) * last / first * TOLERANCE


def median_run(program, project, receiver, agent="true", rounds=5, **settings):
    return Samples(run_worker(program, project, receiver, agent, **settings)[0] for _ in range(rounds)).median


def measure_tasks(report, program):
    receiver, points = Receiver(), []
    for count in (100, 1_000, 5_000, 20_000):
        with Project(graph_of(count), str(count // 2 + 7)) as project:
            points.append((count, median_run(program, project, receiver)))
    receiver.close()
    report.curve("whole run with a graph of many tasks", "tasks", "ms", points, "linear", is_linear(points))


def measure_output(report, program):
    receiver, seconds, memory = Receiver(), [], []
    with Project() as project:
        text = project.dir / "text"
        write_text(text)
        for count in (4, 16, 64):
            size = count * 64
            dump = f"for n in $(seq {count}); do cat '{text}'; done"
            seconds.append((size, run_worker(program, project, receiver, dump)[0] / 1e3))
            memory.append((size, peak_memory(program, project, receiver, dump)))
            receiver.next(), receiver.next()
    receiver.close()
    report.curve("whole run with much output", "MiB", "s", seconds, "linear", is_linear(seconds))
    report.curve("peak memory with much output", "MiB", "MiB", memory, "10 MiB", memory[-1][1] <= 10)


def measure_secrets(report, program):
    receiver, points = Receiver(), []
    with Project() as project:
        text = project.dir / "text"
        write_text(text)
        for count in (0, 50, 100, 200):
            settings = {f"SERVICE_{n}_TOKEN": token(n) for n in range(count)}
            agent = f"cat '{text}' '{text}' '{text}' '{text}'"
            points.append((count, median_run(program, project, receiver, agent, 3, **settings)))
    receiver.close()
    report.curve("256 MiB of output with many secrets", "secrets", "ms", points, "linear", is_linear(points[1:]))


def measure_line(report, program):
    """Output in one line, without a line end."""
    receiver, seconds, memory = Receiver(), [], []
    with Project() as project:
        for size in (16, 64, 256, 1024):
            agent = f"dd if=/dev/zero bs=1M count={size} 2> /dev/null"
            seconds.append((size, run_worker(program, project, receiver, agent)[0] / 1e3))
            memory.append((size, peak_memory(program, project, receiver, agent)))
            receiver.next(), receiver.next()
    receiver.close()
    report.curve("whole run with one long line", "MiB", "s", seconds, "linear", is_linear(seconds))
    report.curve("peak memory with one long line", "MiB", "MiB", memory, "10 MiB", memory[-1][1] <= 10)


def measure_turns(report, program):
    """Conversations of the built-in agent. Every request repeats the conversation so far, so the bytes grow with the square of the
    turns, and the time may grow with the bytes."""
    if not Path("/usr/bin/time").exists():
        report.peer_is_missing("conversations of many turns", "/usr/bin/time measures their memory: install the package time")
        return
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from agents_model import conversations
    figures = conversations(f"exec '{program}' agent --model $MODEL", (20, 100, 500))
    report.curve("bytes of a conversation of many turns", "turns", "KiB", [(n, figures_of_run["bytes sent"] / 1024) for n, figures_of_run in figures])
    seconds = [(round(figures_of_run["bytes sent"] / 1024), figures_of_run["whole conversation, ms"] / 1e3) for _, figures_of_run in figures]
    report.curve("conversation of the built-in agent", "KiB", "s", seconds, "linear", is_linear(seconds))
    memory = [(n, figures_of_run["peak memory, MiB"]) for n, figures_of_run in figures]
    report.curve("peak memory of the built-in agent", "turns", "MiB", memory, "12 MiB after 100 turns", memory[1][1] <= 12)


def measure_files(report, program):
    worker, git = [], []
    for count in (20, 2_000, 10_000, 50_000):
        figures = measure_times(program, count, 3 if count < 50_000 else 1)
        worker.append((count, figures["worker"].median))
        git.append((count, figures["git"].median))
    report.curve("git alone with many files", "files", "ms", git)
    met = all(worker_time <= 1.2 * git_time for (_, worker_time), (_, git_time) in zip(worker[2:], git[2:], strict=True))
    report.curve("whole run with many files", "files", "ms", worker, "at most 1.2 times git for 10,000 and more", met)
