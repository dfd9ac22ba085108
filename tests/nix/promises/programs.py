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


def runs_demos(sandbox):
    """Checks that the worker completes its demos, and that each way to start it works."""
    worker = sandbox.config["Entrypoint"]
    for command, what, last in (
        (["demo"], "`docker run IMAGE demo`", "completed"),
        (["demo", "--graph"], "`docker run IMAGE demo --graph`, which is `dispatch`,", "An empty shop"),
    ):
        sandbox.says(worker + command, f"{what} completes", last)
        sandbox.says(worker + command, f"{what} completes if only /tmp is writable", last, writable=())
    sandbox.says(worker + ["/app/worker", "--version"], "platforms may pass the program's path as an argument", "descartes-worker")
    for path in ("/app/worker", "/app/descartes-worker"):
        sandbox.says([path, "--version"], f"platforms may start {path}", "descartes-worker")


def has_tools(sandbox, options):
    """Checks that the everyday programs start, and those of the project."""
    sandbox.says(["/bin/sh", "-c", "id -un && touch ~/file /tmp/file ./file"], "the user has a name, a home, /tmp and a workspace", "worker")
    script = "printf '#!/usr/bin/env bash\necho hello\n' >/tmp/script && chmod +x /tmp/script && /tmp/script"
    sandbox.says(["/usr/bin/env", "bash", "-c", script], "scripts find their interpreter", "hello")
    commit = "git init project && cd project && echo 1 >file && git add . && git commit -m first && git log --format=%an"
    sandbox.says(["sh", "-c", commit], "git commits, and knows an author", "descartes-worker")
    if options.minimal:
        starts = "ps && tar --help && find /app && sed --version"
    else:
        starts = "ssh -V && ps aux && curl --version && rg --version && jq --version && file /app && xz --version && unzip -v && bwrap --version"
    sandbox.says(["sh", "-c", starts], "the tools start")
    sandbox.says(["sh", "-c", ". /etc/os-release && echo $ID"], "os-release is a shell script", "descartes-worker")
    for name in options.program:
        sandbox.says([name, "--version"], f"{name} starts")


def runs_agents(sandbox, options):
    """Checks what an agent finds that is a command: programs and variables of the project, programs of other distributions."""

    def agent(command):
        return ["sh", "-c", f"{PROJECT} && descartes-worker local --task 1 --agent-command '{command}'"]

    for name in options.agents_program:
        sandbox.says(agent(f"{name} --version"), f"{name} starts for the agent")
    for variable in options.variable + options.agents_variable:
        name, value = variable.split("=", 1)
        sandbox.says(agent(f'echo "it is ${name}"'), f"the agent sees {name}", f"it is {value}")
    if options.foreign and not options.minimal:
        program = os.path.join(sandbox.root, "workspace/foreign")
        shutil.copy(options.foreign, program)
        os.chmod(program, 0o755)
        sandbox.says(["./foreign"], "a program for other distributions runs", "hello from abroad")
        # A project's LD_LIBRARY_PATH comes before the libraries of the image.
        if not any(variable.startswith("LD_LIBRARY_PATH=") for variable in options.agents_variable):
            sandbox.says(agent("./foreign"), "a program for other distributions runs for the agent too", "hello from abroad")


def uses_nix(sandbox):
    """Builds with the image's own Nix, as its user, without a network and without a daemon."""
    writable = ("/workspace", "/home/worker", "/nix")
    query = "nix-store --query --requisites /nix/var/nix/gcroots/image/*"
    sandbox.says(["sh", "-c", query], "Nix knows the paths of the image", "-nix-", writable=writable)
    verify = "nix-store --verify 2>&1 | tee verified; ! grep disappeared verified"
    sandbox.says(["sh", "-c", verify], "each path that Nix knows is there", writable=writable)
    derivation = 'derivation { name = "built"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo built here >$out" ]; }'
    built = f"nix build --offline --impure --expr '{derivation}' && cat result"
    sandbox.says(["sh", "-c", built], "Nix builds a derivation offline", "built here", writable=writable)


def stops(sandbox):
    """Checks that SIGTERM ends the worker as process 1, for which the kernel has no default action."""
    # No server listens there, so the worker repeats its claim until the signal.
    settings = {"TASK_ID": "1", "PROJECT_ID": "p", "CALLBACK_URL": "http://127.0.0.1:9/"}
    worker = subprocess.Popen(sandbox.command(["/app/worker"], writable=("/workspace",), environment=settings), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    # The first log line shows that the worker runs.
    worker.stderr.readline()
    # bwrap's only child is process 1 of the image.
    children = pathlib.Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    began = time.monotonic()
    os.kill(int(children[0]), signal.SIGTERM)
    try:
        output, _ = worker.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        worker.kill()
        output, _ = worker.communicate()
    promise(worker.returncode == 3 and "interrupted" in output, f"SIGTERM ends it as process 1, after {time.monotonic() - began:.1f} s")
