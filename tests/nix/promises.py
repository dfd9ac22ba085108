#!/usr/bin/env python3
"""Checks everything that docs/nix.md promises about an image, on a docker archive of the image.

First it reads the archive: configuration, owners, modes, links, layers. Then it runs the image's programs in the image's
file system, as the image's user, under bubblewrap. It prints a line for every promise; the exit code is 1 if one is broken.
"""

import argparse
import hashlib
import json
import os
import pathlib
import posixpath
import re
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The second list is what the minimal image has.
PROGRAMS = """awk bash bwrap cat curl descartes-worker diff env file find git grep gzip jq less ls patch ps rg sed sh ssh tar
    unzip which xargs xz""".split()
MINIMAL = "awk bash cat descartes-worker diff env find git grep gzip less ls patch ps sed sh tar which xargs".split()
COMPILERS = "as c++ cc clang g++ gcc ld rustc".split()

broken = []


def promise(kept, what):
    """Prints and records whether a promise is kept."""
    print(("ok      " if kept else "BROKEN  ") + what)
    if not kept:
        broken.append(what)


def absolute(name):
    """The absolute path of an archive member, which the archive may call `a`, `./a` or `/a`; never outside the image."""
    return posixpath.normpath("/" + name.lstrip("/"))


class Image:
    """A docker archive, its layers laid over each other."""

    def __init__(self, path):
        self.archive = tarfile.open(path)
        self.manifest = json.load(self.archive.extractfile("manifest.json"))[0]
        self.config = json.load(self.archive.extractfile(self.manifest["Config"]))
        self.layers = self.manifest["Layers"]
        # For every path: the number of the last layer that has it, the archive member, and the content of small files.
        self.files = {}
        self.youngest = 0
        for number, layer in enumerate(self.layers):
            with tarfile.open(fileobj=self.archive.extractfile(layer)) as tar:
                for member in tar:
                    self.youngest = max(self.youngest, member.mtime)
                    text = b""
                    if member.isreg() and member.size < 1 << 20:
                        text = tar.extractfile(member).read()
                    self.files[absolute(member.name)] = (number, member, text)

    def digests(self):
        for layer in self.layers:
            with self.archive.extractfile(layer) as file:
                yield "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()

    def resolve(self, path):
        """The path after following all links; None if it does not exist."""
        done = "/"
        rest = [part for part in path.split("/") if part]
        for _ in range(1000):
            if not rest:
                return done
            part = rest.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                done = posixpath.dirname(done)
                continue
            here = posixpath.join(done, part)
            if here not in self.files:
                return None
            member = self.files[here][1]
            if member.issym():
                rest = member.linkname.split("/") + rest
                if member.linkname.startswith("/"):
                    done = "/"
            else:
                done = here
        return None

    def get(self, path):
        found = self.resolve(path)
        return self.files[found][1] if found and found != "/" else None

    def text(self, path):
        found = self.resolve(path)
        return self.files[found][2].decode() if found and found != "/" else ""

    def unpack(self, to):
        """Unpacks all layers as an ordinary user: the user owns every file, and can write to every directory."""
        for layer in self.layers:
            with tarfile.open(fileobj=self.archive.extractfile(layer)) as tar:
                for member in tar:
                    target = to + absolute(member.name)
                    if os.path.lexists(target) and not (member.isdir() and not os.path.islink(target)):
                        os.unlink(target)
                    if member.isdir():
                        os.makedirs(target, exist_ok=True)
                    elif member.issym():
                        os.symlink(member.linkname, target)
                    elif member.islnk():
                        os.link(to + absolute(member.linkname), target)
                    else:
                        with open(target, "wb") as file:
                            shutil.copyfileobj(tar.extractfile(member), file)
                        os.chmod(target, member.mode | stat.S_IWUSR)


def is_program(member):
    return member is not None and member.isreg() and member.mode & 0o111 == 0o111


def inspect(image, options):
    """Checks the archive without running anything."""
    config = image.config["config"]
    environment = dict(pair.split("=", 1) for pair in config["Env"])
    top = len(image.layers) - 1

    promise(list(image.digests()) == image.config["rootfs"]["diff_ids"], "the layers are those the configuration names")
    programs = MINIMAL if options.minimal else PROGRAMS
    promise(len(image.layers) <= 100, f"{len(image.layers)} layers are at most 100")
    promise(image.config["os"] == "linux", "os is linux")
    # Files have the year 1970 in the layers of the store, 1980 in the topmost one. With the commit's time, every commit would
    # change every layer.
    promise(image.youngest < 1 << 30, f"no file has a time of its own: {time.strftime('%Y', time.gmtime(image.youngest))}")
    promise(re.fullmatch(r"[0-9T:+Z-]{19,25}", image.config["created"]) is not None, f"created is a date: {image.config['created']}")

    promise(config["User"] == "1000:1000", "the user is 1000:1000, by number")
    promise(config["Entrypoint"] == ["/app/descartes-worker"] and not config.get("Cmd"), "the entrypoint is the worker, with no command of its own")
    labels = config["Labels"]
    promise(all(isinstance(value, str) for value in labels.values()), "every label is a string")
    ours = options.version is None
    for label in "title version description licenses".split() if ours else ["title", "version"]:
        promise(bool(labels.get(f"org.opencontainers.image.{label}")), f"label {label}: {labels.get(f'org.opencontainers.image.{label}')}")
    promise(bool(labels.get("descartes-worker.version")), f"a label says the version of the worker: {labels.get('descartes-worker.version')}")
    if not ours:
        promise(labels["org.opencontainers.image.version"] == options.version, f"the version is the project's: {options.version}")
    # Both are missing if the flake is not a git checkout.
    revision = labels.get("descartes-worker.revision")
    promise(environment.get("DESCARTES_REVISION") == revision, f"the worker knows the revision of the label: {revision}")
    for variable in options.variable:
        name, value = variable.split("=", 1)
        promise(environment.get(name) == value, f"{name} is {value!r}")
        promise(name in environment.get("DESCARTES_AGENT_ENV", "").split(","), f"the agent may see {name}")
    agents = json.loads(image.text(environment["DESCARTES_AGENT_ENV_FILE"]))
    for variable in options.agents_variable:
        name, value = variable.split("=", 1)
        promise(agents.get(name) == value, f"{name} is {value!r} for the agent")
        promise(name not in environment, f"{name} is not in the image's configuration")
    promise(not [name for name in environment if name.startswith("LD_")], "no variable of the configuration decides which libraries the worker loads")
    authorities = [name for name in environment if re.search("CERT|CAINFO|CA_BUNDLE", name)]
    promise(authorities == ["SSL_CERT_FILE"], f"SSL_CERT_FILE is the only variable with authorities: {', '.join(authorities)}")

    for name in ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/gitconfig", "/etc/os-release"):
        found = image.files.get(name)
        promise(found is not None and found[1].isreg() and found[1].mode & 0o777 == 0o644 and found[1].uid == 0, f"{name} is a regular file that root owns")
    users = {line.split(":")[2]: line.split(":") for line in image.text("/etc/passwd").splitlines()}
    promise("0" in users and is_program(image.get(users["0"][6])), "root has a shell")
    user = users.get("1000")
    promise(user is not None, "passwd knows user 1000")
    if user:
        promise(environment["USER"] == user[0] and environment["HOME"] == user[5] and environment["SHELL"] == user[6], "USER, HOME and SHELL have the values from passwd")
        promise(is_program(image.get(user[6])), f"{user[6]} exists")
        promise(f"{user[0]}:x:{user[3]}:" in image.text("/etc/group"), "group knows the user's group")
        directories = [f"{user[5]}/{name}" for name in (".cache", ".config", ".local", ".local/share", ".local/state")]
        for path in (user[5], config["WorkingDir"], *directories, *options.directory):
            home = image.get(path)
            promise(home is not None and home.isdir() and home.uid == 1000 and home.mode & 0o700 == 0o700, f"the user owns {path}")
    tmp = image.get("/tmp")
    promise(tmp is not None and tmp.isdir() and tmp.mode & 0o7777 == 0o1777 and tmp.uid == 0, "/tmp is 1777")
    etc = image.files.get("/etc")
    promise(etc is not None and etc[1].isdir() and etc[1].mode & 0o700 == 0o700, "/etc is a directory that root may write to")

    for path in ("/bin/sh", "/usr/bin/env", "/app/worker", "/app/descartes-worker"):
        promise(is_program(image.get(path)), f"{path} is a program")
    promise(image.files["/app/descartes-worker"][0] == top and image.files["/app/descartes-worker"][1].isreg(), "the worker is a file of the topmost layer")
    promise(not [path for path in image.files if re.match(r"/nix/store/[^/]*-descartes-worker-[0-9]", path)], "no other layer has the worker")

    path = environment["PATH"].split(":")
    found = {name: next((where for where in path if is_program(image.get(f"{where}/{name}"))), None) for name in programs + COMPILERS + options.program}
    for name in programs + options.program:
        promise(found[name] is not None, f"{name} is on the PATH")
    if options.no_compiler:
        promise(not [name for name in COMPILERS if found[name]], "no compiler is on the PATH")
        promise(not [name for name in image.files if re.match(r"/nix/store/[^/]*-(gcc|clang|rustc)(-wrapper)?-[0-9.]+$", name)], "no compiler is in the store")

    promise("BEGIN CERTIFICATE" in image.text(environment["SSL_CERT_FILE"]), "SSL_CERT_FILE is a bundle of authorities")
    promise("BEGIN CERTIFICATE" in image.text("/etc/ssl/certs/ca-certificates.crt"), "ca-certificates.crt is one too")

    dangling = [name for name, (number, member, _) in image.files.items() if number == top and member.issym() and image.resolve(name) is None]
    promise(not dangling, f"no link of the topmost layer leads nowhere{': ' if dangling else ''}{', '.join(dangling[:5])}")
    privileged = [name for name, (_, member, _) in image.files.items() if member.isreg() and member.mode & 0o6000]
    promise(not privileged, "no program is setuid or setgid")
    foreign = [name for name, (_, member, _) in image.files.items() if not member.issym() and name != "/tmp" and member.mode & 0o002]
    promise(not foreign, "nothing but /tmp is writable for everybody")


class Sandbox:
    """Runs programs in the unpacked image."""

    def __init__(self, image, root):
        self.config = image.config["config"]
        self.root = root

    def command(self, arguments, *, writable, environment=None, outside=False):
        user, group = self.config["User"].split(":")
        variables = dict(pair.split("=", 1) for pair in self.config["Env"]) | (environment or {})
        # Read-only except for the directories in `writable`; as process 1, with a private loopback interface.
        command = ["bwrap", "--ro-bind", self.root, "/"]
        for path in writable:
            command += ["--bind", self.root + path, path]
        command += ["--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev", "--unshare-all", "--die-with-parent", "--as-pid-1", "--clearenv"]
        if outside:
            # With the host's network, to reach the servers of this script.
            command += ["--share-net"]
        command += ["--uid", user, "--gid", group, "--chdir", self.config["WorkingDir"]]
        for name, value in variables.items():
            command += ["--setenv", name, value]
        return command + ["--"] + arguments

    def run(self, arguments, *, writable=("/workspace", "/home/worker"), **options):
        done = subprocess.run(self.command(arguments, writable=writable, **options), capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    def says(self, arguments, what, expected=None, **options):
        code, output = self.run(arguments, **options)
        kept = code == 0 and (expected is None or expected in output)
        promise(kept, what)
        if not kept:
            print("        exit code %d\n%s" % (code, "".join(f"        {line}\n" for line in output.splitlines()[-20:])))


def use(image, options, scratch):
    """Checks the image's programs by running them."""
    root = os.path.join(scratch, "root")
    os.mkdir(root)
    image.unpack(root)
    for name in ("proc", "dev", "sys"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    sandbox = Sandbox(image, root)
    entrypoint = image.config["config"]["Entrypoint"]

    sandbox.says(entrypoint + ["demo"], "`docker run IMAGE demo` completes", "completed")
    sandbox.says(entrypoint + ["demo"], "`docker run IMAGE demo` completes if only /tmp is writable", "completed", writable=())
    sandbox.says(entrypoint + ["/app/worker", "--version"], "platforms may pass the program's path as an argument", "descartes-worker")
    sandbox.says(["/app/worker", "--version"], "platforms may start /app/worker", "descartes-worker")
    sandbox.says(["/app/descartes-worker", "--version"], "platforms may start /app/descartes-worker", "descartes-worker")

    sandbox.says(["/bin/sh", "-c", "id -un && touch ~/file /tmp/file ./file"], "the user has a name, a home, /tmp and a workspace", "worker")
    sandbox.says(["/usr/bin/env", "bash", "-c", "printf '#!/usr/bin/env bash\necho hello\n' >/tmp/script && chmod +x /tmp/script && /tmp/script"], "scripts find their interpreter", "hello")
    sandbox.says(["sh", "-c", "git init project && cd project && echo 1 >file && git add . && git commit -m first && git log --format=%an"], "git commits, and knows an author", "descartes-worker")
    if options.minimal:
        sandbox.says(["sh", "-c", "ps && tar --help && find /app && sed --version"], "the tools start")
    else:
        starts = "ssh -V && ps aux && curl --version && rg --version && jq --version && file /app && xz --version && unzip -v && bwrap --version"
        sandbox.says(["sh", "-c", starts], "the tools start")
        sandbox.says(["sh", "-c", ". /etc/os-release && echo $ID"], "os-release is a shell script", "descartes-worker")
    for name in options.program:
        sandbox.says([name, "--version"], f"{name} starts")
    for name in options.agents_program:
        sandbox.says(["sh", "-c", f"mkdir -p .scud/tasks && {SAMPLE} && descartes-worker local --task 1 --agent-command '{name} --version'"], f"{name} starts for the agent")
    for variable in options.variable + options.agents_variable:
        name, value = variable.split("=", 1)
        sandbox.says(["sh", "-c", f"mkdir -p .scud/tasks && {SAMPLE} && descartes-worker local --task 1 --agent-command 'echo \"it is ${name}\"'"], f"the agent sees {name}", f"it is {value}")

    if options.foreign and not options.minimal:
        shutil.copy(options.foreign, os.path.join(root, "workspace/foreign"))
        os.chmod(os.path.join(root, "workspace/foreign"), 0o755)
        sandbox.says(["./foreign"], "a program for other distributions runs", "hello from abroad")
        # A project's LD_LIBRARY_PATH comes before the libraries of the image.
        if not any(variable.startswith("LD_LIBRARY_PATH=") for variable in options.agents_variable):
            agent = f"mkdir -p .scud/tasks && {SAMPLE} && descartes-worker local --task 1 --agent-command ./foreign"
            sandbox.says(["sh", "-c", agent], "it runs for the agent too", "hello from abroad")
    if options.nix:
        uses_nix(sandbox)

    works(sandbox, options.agent)
    stops(sandbox)
    trusts(image, sandbox, scratch)


def uses_nix(sandbox):
    """Builds with the image's own Nix, as its user, without a network and without a daemon."""
    writable = ("/workspace", "/home/worker", "/nix")
    query = "nix-store --query --requisites /nix/var/nix/gcroots/image/*"
    sandbox.says(["sh", "-c", query], "Nix knows the paths of the image", "-nix-", writable=writable)
    verify = "nix-store --verify 2>&1 | tee verified; ! grep disappeared verified"
    sandbox.says(["sh", "-c", verify], "each path that Nix knows is there", writable=writable)
    derivation = 'derivation { name = "built"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo built here >$out" ]; }'
    build = f"nix build --offline --impure --expr '{derivation}' && cat result"
    sandbox.says(["sh", "-c", build], "Nix builds a derivation offline", "built here", writable=writable)


SAMPLE = r"printf '# SCUD Graph v1\n# Phase: one\n\n@nodes\n1 | Say it | P | 1 | M\n' >.scud/tasks/tasks.scg"


class Model(BaseHTTPRequestHandler):
    """A Messages API whose model repairs the demo's project."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # The name of the shell tool differs between agents.
        shell = next((tool["name"] for tool in asked.get("tools", []) if tool["name"].lower() == "bash"), None)
        commands = ["sed -i 's/-gt 1/-gt 0/' greet.sh", "sh test.sh"]
        turn = sum(message["role"] == "assistant" for message in asked["messages"])
        if shell and turn < len(commands):
            block = {"type": "tool_use", "id": f"toolu_{turn}", "name": shell, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps({"command": commands[turn]})}
            stop = "tool_use"
        else:
            block, delta, stop = {"type": "text", "text": ""}, {"type": "text_delta", "text": "The last guest is greeted."}, "end_turn"
        usage = {"input_tokens": 10, "output_tokens": 10}
        message = {"id": f"msg_{turn}", "type": "message", "role": "assistant", "model": asked["model"], "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in (
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage},
            {"type": "message_stop"},
        ):
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    def log_message(self, *_):
        pass


def works(sandbox, agent):
    """Checks that the image's agent does the demo's task if only a key is set."""
    server = serve(Model)
    options = {"outside": True, "environment": {"ANTHROPIC_API_KEY": "key", "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}"}}
    command = sandbox.config["Entrypoint"] + ["demo"]
    sandbox.says(command, f"with a key, and nothing else that is set, {agent} does the demo's task", f"the agent is {agent}", **options)
    sandbox.says(command, f"{agent} does the demo's task if only /tmp is writable", "The last guest is greeted.", writable=(), **options)
    server.shutdown()


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


class Hello(BaseHTTPRequestHandler):
    """Answers every GET with a greeting, and refuses every claim."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello over https\n")

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(409)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Ignores errors: a client that does not trust the certificate closes the connection."""


def serve(handler, context=None):
    """A server on loopback; with TLS if there is a context."""
    server = Server(("127.0.0.1", 0), handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def distrusts(output):
    """Whether git says that it does not trust the server."""
    return re.search("certificate problem|verification failed|certificate verify failed", output, re.IGNORECASE) is not None


def trusts(image, sandbox, scratch):
    """Checks that curl, git and the worker trust an authority if and only if the image's bundle contains it."""
    authority, host = [[os.path.join(scratch, f"{who}.{what}") for what in ("key", "pem")] for who in ("authority", "server")]
    # Two certificates, because the worker does not accept an authority's certificate as a server's.
    issue = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run(issue + ["-subj", "/CN=authority", "-keyout", authority[0], "-out", authority[1]], check=True, capture_output=True)
    extensions = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    signed = ["-CA", authority[1], "-CAkey", authority[0], "-subj", "/CN=server", "-keyout", host[0], "-out", host[1]]
    subprocess.run(issue + extensions + signed, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host[1], host[0])
    server = serve(Hello, context)
    url = f"https://127.0.0.1:{server.server_port}/"
    bundle = sandbox.root + image.resolve("/etc/ssl/certs/ca-bundle.crt")
    original = pathlib.Path(bundle).read_bytes()

    def attempt(arguments, environment=None):
        return sandbox.run(arguments, outside=True, environment=environment)

    has = {name: image.get(f"/bin/{name}") is not None for name in ("curl", "python3")}
    curl = ["curl", "--silent", "--show-error", url]
    # There is no repository, but git reports that only if it trusts the server.
    git = ["git", "ls-remote", url]
    # 4: the claim was refused, so the worker trusts the server. 3: the worker got no answer.
    worker = ["env", "TASK_ID=1", "PROJECT_ID=p", f"CALLBACK_URL={url}", "DESCARTES_CLAIM_DEADLINE=1s", "/app/worker"]
    python = ["python3", "-c", "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())", url]
    # Asks the repository as a run would, with the git of the worker.
    check = ["descartes-worker", "check", "--local", "--task", "1", "--repo", f"{url}project", "--agent-command", "true"]
    if has["curl"]:
        promise(attempt(curl)[0] != 0, "curl does not trust an unknown authority")
    promise(attempt(worker)[0] == 3, "the worker does not trust an unknown authority")
    for what, command in (("git", git), ("the worker's git", check)):
        promise(distrusts(attempt(command)[1]), f"{what} does not trust an unknown authority")
    pathlib.Path(bundle).write_bytes(original + pathlib.Path(authority[1]).read_bytes())
    if has["curl"]:
        promise("hello over https" in attempt(curl)[1], "curl trusts an authority in the bundle")
    for what, command in (("git", git), ("the worker's git", check)):
        output = attempt(command)[1]
        promise(not distrusts(output) and "127.0.0.1" in output, f"{what} trusts an authority in the bundle")
    promise(attempt(worker)[0] == 4, "the worker trusts an authority in the bundle")
    pathlib.Path(bundle).write_bytes(original)

    # A platform with a private authority sets this one variable.
    shutil.copy(authority[1], os.path.join(sandbox.root, "workspace/private.pem"))
    private = {"SSL_CERT_FILE": "/workspace/private.pem"}
    if has["curl"]:
        promise("hello over https" in attempt(curl, private)[1], "curl trusts a private authority if only SSL_CERT_FILE names it")
    if has["python3"]:
        promise("hello over https" in attempt(python, private)[1], "Python trusts a private authority if only SSL_CERT_FILE names it")
    for what, command in (("git", git), ("the worker's git", check)):
        output = attempt(command, private)[1]
        promise(not distrusts(output) and "127.0.0.1" in output, f"{what} trusts a private authority if only SSL_CERT_FILE names it")
    promise(attempt(worker, private)[0] == 4, "the worker trusts a private authority if only SSL_CERT_FILE names it")
    server.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", help="what `docker save` or a Nix image's stream writes")
    parser.add_argument("--no-compiler", action="store_true", help="the image must have no compiler")
    parser.add_argument("--minimal", action="store_true", help="the image has only the programs of the minimal base")
    parser.add_argument("--version", help="the version of a project's image")
    parser.add_argument("--nix", action="store_true", help="the agent must be able to use Nix")
    parser.add_argument("--foreign", help="a program for other distributions, which must run")
    parser.add_argument("--directory", action="append", default=[], help="a further directory that must belong to the user")
    parser.add_argument("--agents-program", action="append", default=[], help="a program that only the agent must find")
    parser.add_argument("--agents-variable", action="append", default=[], help="NAME=VALUE, which the agent must see and the image must not set")
    parser.add_argument("--program", action="append", default=[], help="a further program that must be on the PATH and know --version")
    parser.add_argument("--variable", action="append", default=[], help="NAME=VALUE, which the image must set and the agent must see")
    parser.add_argument("--agent", default="builtin", help="the agent that the worker must choose if there is a key")
    options = parser.parse_args()
    image = Image(options.archive)
    inspect(image, options)
    with tempfile.TemporaryDirectory() as scratch:
        use(image, options, scratch)
    print(f"{len(broken)} broken promises")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
