import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar


class LocalServer(http.server.ThreadingHTTPServer):
    """An HTTP server on a free port of this machine."""

    daemon_threads = True

    def __init__(self, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that closes the connection, and connections that were cut."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


Server = TypeVar("Server", bound=LocalServer)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Let a server answer while the block runs."""
    with server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
