"""From exec to the claim, and a whole empty run, next to the same protocol in shell, Python and C."""

import subprocess
import sys

from measure import PEERS, Project, Receiver, Samples, compile_c, in_turns, run


def measure(report, program, rounds):
    programs = {"worker": [program], "sh+curl": ["/bin/sh", str(PEERS / "worker.sh")], "C": [compile_c("floor", "-static")]}
    if subprocess.run([sys.executable, "-c", "import requests"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        programs["Python"] = [sys.executable, str(PEERS / "worker.py")]
    else:
        report.peer_is_missing("Python with requests", "install it: pip install requests")
    receiver = Receiver()
    with Project() as project:
        settings = project.environment(receiver, "true")

        def one_run(command, isolation="off"):
            project.reset()
            start, duration, _ = run(command, settings | {"DESCARTES_ISOLATION": isolation}, project.project)
            claimed, name = receiver.next()
            if name != "started" or receiver.next()[1] != "completed":
                raise SystemExit(f"{command} broke the protocol")
            return (claimed - start) / 1e6, duration

        measures = {name: lambda command=command: one_run(command) for name, command in programs.items()}
        measures["isolated"] = lambda: one_run([program], "auto")
        results = in_turns(rounds, measures)
    receiver.close()
    isolated = Samples(duration for _, duration in results.pop("isolated"))
    for index, what in enumerate(["exec to /started", "whole run of an empty task"]):
        figures = {name: Samples(result[index] for result in runs) for name, runs in results.items()}
        worker = figures.pop("worker")
        met = worker.median <= figures["sh+curl"].median / 4 and worker.median <= 2 * figures["C"].median
        report.row(what, "ms", worker, figures.items(), "a quarter of sh+curl, twice C", met)
    report.row("  the same with the isolation of this machine", "ms", isolated)
    measure_memory(report, program)


def measure_memory(report, program):
    receiver = Receiver()
    with Project() as project:
        peak = peak_memory(program, project, receiver, "true")
    receiver.close()
    report.row("peak memory, empty task", "MiB", Samples([peak]), budget="8 MiB", met=peak <= 8)


def peak_memory(program, project, receiver, agent, **settings):
    """The worker's peak memory in MiB, as its agent sees it at the end."""
    peak_file = project.dir / "peak"
    script = f"{agent}\ngrep VmHWM /proc/$PPID/status > '{peak_file}'"
    project.reset()
    run([program], project.environment(receiver, script, **settings), project.project)
    return int(peak_file.read_text(encoding="utf-8").split()[1]) / 1024

