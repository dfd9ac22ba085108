"""Checks the programs of an image by running them."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

from report import promise

# Makes a project with one task in the current directory.
PROJECT = r"mkdir -p .scud/tasks && printf '# SCUD Graph v1\n# Phase: one\n\n@nodes\n1 | Say it | P | 1 | M\n' >.scud/tasks/tasks.scg"


def check_demos(sandbox):
    """Checks that the worker completes its demos, and that each way to start it works."""
    worker = sandbox.config["Entrypoint"]
    for command, what, last in (
        (["demo"], "`docker run IMAGE demo`", "completed"),
        (["demo", "--graph"], "`docker run IMAGE demo --graph`, which is `dispatch`,", "An empty shop"),
    ):
        sandbox.check_run(worker + command, f"{what} completes", last)
        sandbox.check_run(worker + command, f"{what} completes if only /tmp is writable", last, writable=())
    sandbox.check_run(worker + ["/app/worker", "--version"], "platforms may pass the program's path as an argument", "descartes-worker")
    for path in ("/app/worker", "/app/descartes-worker"):
        sandbox.check_run([path, "--version"], f"platforms may start {path}", "descartes-worker")


def check_tools(sandbox, options):
    """Checks that the everyday programs start, and those of the project."""
    sandbox.check_run(["/bin/sh", "-c", "id -un && touch ~/file /tmp/file ./file"], "the user has a name, a home, /tmp and a workspace", "worker")
    script = "printf '#!/usr/bin/env bash\necho hello\n' >/tmp/script && chmod +x /tmp/script && /tmp/script"
    sandbox.check_run(["/usr/bin/env", "bash", "-c", script], "scripts find their interpreter", "hello")
    commit = "git init project && cd project && echo 1 >file && git add . && git commit -m first && git log --format=%an"
    sandbox.check_run(["sh", "-c", commit], "git commits, and knows an author", "descartes-worker")
    if options.minimal:
        starts = "ps && tar --help && find /app && sed --version"
    else:
        starts = "ssh -V && ps aux && curl --version && rg --version && jq --version && file /app && xz --version && unzip -v && bwrap --version"
    sandbox.check_run(["sh", "-c", starts], "the tools start")
    sandbox.check_run(["sh", "-c", ". /etc/os-release && echo $ID"], "os-release is a shell script", "descartes-worker")
    for name in options.program:
        sandbox.check_run([name, "--version"], f"{name} starts")


def check_command_agent(sandbox, options):
    """Checks that an agent given by `--agent-command` finds the programs and variables of the project, and that programs built for other distributions run."""

    def agent(command):
        return ["sh", "-c", f"{PROJECT} && descartes-worker local --task 1 --agent-command '{command}'"]

    for name in options.agents_program:
        sandbox.check_run(agent(f"{name} --version"), f"{name} starts for the agent")
    for variable in options.variable + options.agents_variable:
        name, value = variable.split("=", 1)
        sandbox.check_run(agent(f'echo "it is ${name}"'), f"the agent sees {name}", f"it is {value}")
    if options.foreign and not options.minimal:
        program = os.path.join(sandbox.root, "workspace/foreign")
        shutil.copy(options.foreign, program)
        os.chmod(program, 0o755)
        sandbox.check_run(["./foreign"], "a program for other distributions runs", "hello from abroad")
        # A project's LD_LIBRARY_PATH comes before the libraries of the image.
        if not any(variable.startswith("LD_LIBRARY_PATH=") for variable in options.agents_variable):
            sandbox.check_run(agent("./foreign"), "a program for other distributions runs for the agent too", "hello from abroad")


def check_nix(sandbox):
    """Builds with the image's own Nix, as its user, without a network and without a daemon."""
    writable = ("/workspace", "/home/worker", "/nix")
    query = "nix-store --query --requisites /nix/var/nix/gcroots/image/*"
    sandbox.check_run(["sh", "-c", query], "Nix knows the paths of the image", "-nix-", writable=writable)
    verify = "nix-store --verify 2>&1 | tee verified; ! grep disappeared verified"
    sandbox.check_run(["sh", "-c", verify], "each path that Nix knows is there", writable=writable)
    derivation = 'derivation { name = "built"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo built here >$out" ]; }'
    built = f"nix build --offline --impure --expr '{derivation}' && cat result"
    sandbox.check_run(["sh", "-c", built], "Nix builds a derivation offline", "built here", writable=writable)


def check_sigterm(sandbox):
    """Checks that SIGTERM ends the worker as process 1, for which the kernel has no default action."""
    # No server listens there, so the worker repeats its claim until the signal.
    settings = {"TASK_ID": "1", "PROJECT_ID": "p", "CALLBACK_URL": "http://127.0.0.1:9/"}
    worker = subprocess.Popen(sandbox.command(["/app/worker"], writable=("/workspace",), environment=settings), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    # The first log line shows that the worker runs.
    worker.stderr.readline()
    # bwrap's only child is process 1 of the image.
    children = pathlib.Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    start = time.monotonic()
    os.kill(int(children[0]), signal.SIGTERM)
    try:
        output, _ = worker.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        worker.kill()
        output, _ = worker.communicate()
    promise(worker.returncode == 3 and "interrupted" in output, f"SIGTERM ends it as process 1, after {time.monotonic() - start:.1f} s")
