"""Servers on loopback."""

import threading
from http.server import ThreadingHTTPServer


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
