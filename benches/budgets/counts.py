"""Figures that do not depend on the machine's load: sizes, system calls, page faults, instructions, processes of git."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from measure import Project, Receiver, Samples
from repository import CHANGE, CLEAN, IDENTITY, make_origin

SIZE_BUDGET = 7.0
# Above what was measured when each was last lowered, so that a step back is noticed: see docs/performance.md.
CALLS_BUDGET = 530
FAULTS_BUDGET = 330
INSTRUCTIONS_BUDGET = 2_100_000
GIT_BUDGET = 13


def measure(report, program):
    size = Path(program).stat().st_size / (1 << 20)
    report.row("size of the program", "MiB", Samples([size]), budget="7 MiB", met=size <= SIZE_BUDGET, stable=True)
    calls(report, program)
    page_faults(report, program)
    instructions(report, program)
    git_processes(report, program)


def calls(report, program):
    if shutil.which("strace") is None:
        report.peer_is_missing("system calls", "install strace")
        return
    lines = traced(["strace", "-f", "-o"], program)
    count = sum(1 for line in lines if re.match(r"\d+ +\w+\(", line))
    threads = sum(1 for line in lines if "CLONE_THREAD" in line)
    report.row("system calls of an empty run", "calls", Samples([count]), budget=f"{CALLS_BUDGET}",
               met=count <= CALLS_BUDGET, stable=True)
    report.row("threads that an empty run starts", "threads", Samples([threads]))


def page_faults(report, program):
    with Project() as project:
        receiver = Receiver()
        process = subprocess.Popen([program], env=project.environment(receiver, "true"), cwd=project.project,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        receiver.close()
    report.row("page faults of an empty run", "faults", Samples([usage.ru_minflt]), budget=f"{FAULTS_BUDGET}",
               met=usage.ru_minflt <= FAULTS_BUDGET, stable=True)


def instructions(report, program):
    if shutil.which("valgrind") is None:
        report.peer_is_missing("instructions", "install valgrind")
        return
    count = count_instructions(program)
    report.row("instructions of an empty run", "instructions", Samples([count]), budget=f"{INSTRUCTIONS_BUDGET:,}",
               met=count <= INSTRUCTIONS_BUDGET, stable=True)


def count_instructions(program, **further):
    """The instructions of an empty run, with these further settings."""
    with Project() as project:
        receiver = Receiver()
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={project.dir}/callgrind", program]
        ended = subprocess.run(command, env=project.environment(receiver, "true", **further), cwd=project.project,
                               text=True, capture_output=True, check=True)
        receiver.close()
    found = re.search(r"refs: +([\d,]+)", ended.stderr)
    return int(found.group(1).replace(",", ""))


def git_processes(report, program):
    if shutil.which("strace") is None:
        report.peer_is_missing("processes of git", "install strace")
        return
    lines = traced(["strace", "-f", "-e", "trace=execve", "-o"], program, with_repository=True)
    # Those that git starts itself are `git` in another directory, or a shell.
    started = [line for line in lines if re.search(r'execve\("[^"]*/git", \["[^"]*/git", "(?!-c|--shallow-file)', line)
               and "libexec" not in line and "ENOENT" not in line]
    report.row("processes of git for a small repository", "processes", Samples([len(started)]), budget=f"{GIT_BUDGET}",
               met=len(started) <= GIT_BUDGET, stable=True)


def traced(trace, program, with_repository=False):
    with Project() as project:
        receiver = Receiver()
        further = {}
        agent = "true"
        if with_repository:
            agent = CHANGE
            further = {"DESCARTES_REPO": f"file://{make_origin(project.dir, 20)}", "DESCARTES_BRANCH": "counted",
                       "DESCARTES_WORKSPACE": str(project.dir / "clone"), **CLEAN, **IDENTITY}
        log = project.dir / "trace"
        subprocess.run([*trace, str(log), program], env=project.environment(receiver, agent, **further),
                       cwd=project.project, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        receiver.close()
        return log.read_text(encoding="utf-8", errors="replace").splitlines()
