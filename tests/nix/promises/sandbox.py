"""Runs programs in an unpacked image, as its user, under bubblewrap."""

import subprocess

from report import promise


class Sandbox:
    """Runs programs in the unpacked image."""

    def __init__(self, image, root):
        self.config = image.config["config"]
        self.root = root

    def command(self, arguments, *, writable, environment=None, host_network=False):
        """The bwrap command that runs a program in the image."""
        user, group = self.config["User"].split(":")
        variables = dict(pair.split("=", 1) for pair in self.config["Env"]) | (environment or {})
        # Read-only except for the directories in `writable`; as process 1, with a private loopback interface.
        command = ["bwrap", "--ro-bind", self.root, "/"]
        for path in writable:
            command += ["--bind", self.root + path, path]
        command += ["--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev", "--unshare-all", "--die-with-parent", "--as-pid-1", "--clearenv"]
        if host_network:
            # With the host's network, to reach the servers of this script.
            command += ["--share-net"]
        command += ["--uid", user, "--gid", group, "--chdir", self.config["WorkingDir"]]
        for name, value in variables.items():
            command += ["--setenv", name, value]
        return command + ["--"] + arguments

    def run(self, arguments, *, writable=("/workspace", "/home/worker"), **options):
        """Runs a program; returns its exit code, and its output and errors in one text."""
        finished = subprocess.run(self.command(arguments, writable=writable, **options), capture_output=True, text=True, timeout=120)
        return finished.returncode, finished.stdout + finished.stderr

    def check_run(self, arguments, what, expected=None, **options):
        """The promise `what` is kept if the program succeeds and its output contains `expected`."""
        code, output = self.run(arguments, **options)
        kept = code == 0 and (expected is None or expected in output)
        promise(kept, what)
        if not kept:
            print("        exit code %d\n%s" % (code, "".join(f"        {line}\n" for line in output.splitlines()[-20:])))
