"""A run with a repository: clone, one change, push. Next to a shell script with curl and git, and to git alone."""

import os
import shutil
import subprocess

from measure import GRAPH, PEERS, Project, Receiver, Samples, in_turns, run

IDENTITY = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER")
            for field, value in (("NAME", "a"), ("EMAIL", "a@b"))}
CLEAN = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
CHANGE = "echo changed >> dir/f1.txt"
GIT_ALONE = """
git clone -q --depth=1 --single-branch "$DESCARTES_REPO" "$DESCARTES_WORKSPACE" 2> /dev/null && cd "$DESCARTES_WORKSPACE" &&
sh -c "$DESCARTES_AGENT_COMMAND" && git add -A && git commit -qm 'done' &&
git push -q origin "HEAD:refs/heads/$DESCARTES_BRANCH" 2> /dev/null
"""


def measure(report, program, rounds):
    figures = measure_times(program, 20, rounds)
    worker = figures.pop("worker")
    report.row("whole run with a small repository", "ms", worker, figures.items(), "sh+curl+git",
               worker.median <= figures["sh+curl+git"].median)


def measure_times(program, files, rounds):
    """The durations of runs with a repository of this many files, by the names of the programs, in milliseconds."""
    receiver = Receiver()
    with Project() as project:
        origin = make_origin(project.dir, files)
        shell = [shutil.which("sh"), str(PEERS / "worker.sh")]
        programs = {"worker": [program], "sh+curl+git": shell, "git": [shell[0], "-c", GIT_ALONE]}
        number = 0

        def one_run(name):
            nonlocal number
            number += 1
            workspace = project.dir / f"clone-{number}"
            settings = project.environment(
                receiver, CHANGE, DESCARTES_REPO=f"file://{origin}", DESCARTES_WORKSPACE=str(workspace),
                DESCARTES_BRANCH=f"{name}-{number}", **CLEAN, **IDENTITY)
            _, duration, _ = run(programs[name], settings, project.dir)
            if name != "git":
                receiver.next(), receiver.next()
            shutil.rmtree(workspace)
            pushed = f"refs/heads/{name}-{number}"
            subprocess.run(["git", "--git-dir", origin, "rev-parse", "--quiet", "--verify", pushed], check=True,
                           stdout=subprocess.DEVNULL)
            subprocess.run(["git", "--git-dir", origin, "update-ref", "-d", pushed], check=True)
            return duration

        results = in_turns(rounds, {name: lambda name=name: one_run(name) for name in programs})
    receiver.close()
    return {name: Samples(values) for name, values in results.items()}


def make_origin(directory, files):
    """A bare repository with a graph and this many files."""
    seed, origin = directory / "seed", directory / "origin.git"
    (seed / ".scud" / "tasks").mkdir(parents=True)
    (seed / ".scud/tasks/tasks.scg").write_text(GRAPH, encoding="utf-8")
    (seed / "dir").mkdir()
    for number in range(files):
        folder = seed / "dir" if number < 250 else seed / f"d{number // 250}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}.txt").write_text("".join(f"line {n} of {number}\n" for n in range(20)), encoding="utf-8")
    environment = os.environ | CLEAN | IDENTITY
    for args in (["init", "-q", "-b", "main", seed], ["-C", seed, "add", "-A"], ["-C", seed, "commit", "-qm", "first"],
                 ["clone", "-q", "--bare", seed, origin]):
        subprocess.run(["git", *map(str, args)], env=environment, check=True)
    return origin
