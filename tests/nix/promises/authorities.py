"""Checks which certificate authorities the programs of an image trust."""

import os
import pathlib
import re
import shutil
import ssl
import subprocess
from http.server import BaseHTTPRequestHandler

from report import promise
from server import serve


class Hello(BaseHTTPRequestHandler):
    """Answers every GET with a greeting, and rejects every claim."""

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


def says_untrusted(output):
    """Whether git says that it does not trust the server."""
    return re.search("certificate problem|verification failed|certificate verify failed", output, re.IGNORECASE) is not None


def check_authorities(image, sandbox, scratch):
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
        return sandbox.run(arguments, host_network=True, environment=environment)

    has = {name: image.get(f"/bin/{name}") is not None for name in ("curl", "python3")}
    curl = ["curl", "--silent", "--show-error", url]
    # There is no repository, but git reports that only if it trusts the server.
    git = ["git", "ls-remote", url]
    # 4: the claim was rejected, so the worker trusts the server. 3: the worker got no answer.
    worker = ["env", "TASK_ID=1", "PROJECT_ID=p", f"CALLBACK_URL={url}", "DESCARTES_CLAIM_DEADLINE=1s", "/app/worker"]
    python = ["python3", "-c", "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())", url]
    # Asks the repository as a run would, with the git of the worker.
    check = ["descartes-worker", "check", "--local", "--task", "1", "--repo", f"{url}project", "--agent-command", "true"]
    if has["curl"]:
        promise(attempt(curl)[0] != 0, "curl does not trust an unknown authority")
    promise(attempt(worker)[0] == 3, "the worker does not trust an unknown authority")
    for what, command in (("git", git), ("the worker's git", check)):
        promise(says_untrusted(attempt(command)[1]), f"{what} does not trust an unknown authority")
    pathlib.Path(bundle).write_bytes(original + pathlib.Path(authority[1]).read_bytes())
    if has["curl"]:
        promise("hello over https" in attempt(curl)[1], "curl trusts an authority in the bundle")
    for what, command in (("git", git), ("the worker's git", check)):
        output = attempt(command)[1]
        promise(not says_untrusted(output) and "127.0.0.1" in output, f"{what} trusts an authority in the bundle")
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
        promise(not says_untrusted(output) and "127.0.0.1" in output, f"{what} trusts a private authority if only SSL_CERT_FILE names it")
    promise(attempt(worker, private)[0] == 4, "the worker trusts a private authority if only SSL_CERT_FILE names it")
    server.shutdown()
