"""The claim and an empty run over TLS 1.3, with a private certificate authority, next to sh+curl."""

import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from measure import PEERS, Project, Samples, find_program, in_turns, run

EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def measure(report, program, rounds):
    if find_program("openssl") is None:
        report.peer_is_missing("https", "openssl makes its certificates: install it")
        return
    with Project() as project:
        receiver = TlsReceiver(project.dir)
        authority = str(project.dir / "authority.pem")
        settings = project.environment(receiver, "true", SSL_CERT_FILE=authority, CURL_CA_BUNDLE=authority)

        def one_run(command):
            project.reset()
            receiver.requests.clear()
            start, duration, _ = run(command, settings, project.project)
            if [name for _, name in receiver.requests] != ["started", "completed"]:
                raise SystemExit(f"{command} broke the protocol")
            return (receiver.requests[0][0] - start) / 1e6, duration

        programs = {"worker": [program], "sh+curl": ["/bin/sh", str(PEERS / "worker.sh")]}
        results = in_turns(rounds, {name: lambda command=command: one_run(command) for name, command in programs.items()})
        receiver.close()
    for index, what in enumerate(["exec to /started, https", "whole run of an empty task, https"]):
        worker, peer = (Samples(result[index] for result in results[name]) for name in programs)
        report.row(what, "ms", worker, [("sh+curl", peer)], "a quarter of sh+curl", worker.median <= peer.median / 4)


class TlsReceiver:
    """An orchestrator that accepts every request, over TLS 1.3. `requests` has the time of each request, and the last part of its
    path."""

    def __init__(self, directory):
        make_certificates(directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(directory / "server.pem", directory / "server.key")
        self.requests = requests = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                requests.append((time.monotonic_ns(), self.path.rsplit("/", 1)[-1]))
                self.rfile.read(int(self.headers["content-length"]))
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}/callback"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def make_certificates(directory):
    """An authority, and a certificate of it for 127.0.0.1."""
    (directory / "extensions").write_text("subjectAltName=IP:127.0.0.1\n", encoding="utf-8")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=directory, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    openssl("req", "-x509", *EC_KEY, "-keyout", "authority.key", "-out", "authority.pem", "-subj", "/CN=authority", "-days", "30")
    openssl("req", *EC_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=receiver")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial",
            "-days", "30", "-extfile", "extensions", "-out", "server.pem")
