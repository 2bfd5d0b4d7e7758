"""A server with faults: a download is right in the end, or ends soon with one line."""

import hashlib
import http.server
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from aalbert.errors import AalbertError
from aalbert.pipeline.corpora import librispeech_download as download
from tests.local_server import LocalServer, serving
from tests.soak.soak import Soak

CONTENT = Random(0).randbytes(200_000)
NAME = "dev-clean.tar.gz"
MOST_SECONDS = 20.0
STATUSES = (204, 301, 302, 307, 400, 403, 404, 408, 410, 416, 418, 425, 429, 500, 502, 503, 599)
LENGTHS = ("", "-1", "1e3", "0x10", "12a", "9" * 30, "0", "1", "9" * 18, "200001", "١٢")
RANGES = ("", "bytes", "bytes */*", "bytes 0-", "bytes 1-2/3", "bytes 7-199999/200000", "\xff")
PLACES = ("/loop", "file:///etc/passwd", "ftp://127.0.0.1:1/x", "//", "http://127.0.0.1:1/", "")
GARBAGE = (b"", b"\0" * 100, b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300)
FAULTS = (
    *("status", "length", "range", "redirect", "garbage", "cut", "cut", "reset", "drip", "page"),
    *("wrong bytes", "no ranges", "stall", "chunked"),
)


class Server(LocalServer):
    """A server of one archive; `faults` are those of its next responses, drawn from `random`."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.faults: list[str] = []
        self.random = Random()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        random = self.server.random
        fault = self.server.faults.pop(0) if self.server.faults else ""
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=")[:-1]) if asked and fault != "no ranges" else 0
        body, total = CONTENT[start:], len(CONTENT)
        if fault == "garbage":
            self.wfile.write(random.choice((*GARBAGE, random.randbytes(300))))
            return
        if fault in ("status", "redirect"):
            self.send_response(random.choice(STATUSES) if fault == "status" else 302)
            if fault == "redirect":
                self.send_header("Location", random.choice(PLACES))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "page":
            body = b"<html><body>Sign in to this network</body></html>"
        if fault == "wrong bytes":
            place = random.randrange(len(body))
            body = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        self.send_response(206 if start and fault != "page" else 200)
        if start and fault != "page":
            shown = f"bytes {start}-{total - 1}/{total}"
            self.send_header("Content-Range", random.choice(RANGES) if fault == "range" else shown)
        if fault != "chunked":
            length = random.choice(LENGTHS) if fault == "length" else str(len(body))
            self.send_header("Content-Length", length.encode("utf-8").decode("latin-1"))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if fault == "chunked":
            body = b"%x\r\n" % random.choice((0, 5, len(body), 10**12)) + body
        if fault in ("cut", "reset", "stall", "drip"):
            count = random.randrange(len(body))
            self.wfile.write(body[:count])
            if fault == "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif fault == "stall":
                time.sleep(2 * download.TIMEOUT_SECONDS)
            elif fault == "drip":
                for each in body[count : count + 5]:
                    self.wfile.write(bytes([each]))
                    time.sleep(download.TIMEOUT_SECONDS / 10)
            return
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setitem(download.SHA256, "dev-clean", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(download, "BACKOFF_SECONDS", (0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    with serving(Server()) as server:
        yield server


def test_a_download_is_right_in_the_end_or_ends_with_one_line(
    soak: Soak, server: Server, tmp_path: Path
) -> None:
    archive, partly = tmp_path / NAME, tmp_path / f"{NAME}.partial"

    def fetch() -> str:
        """Download, and say what came of it."""
        started = time.monotonic()
        try:
            download.download_subset("dev-clean", tmp_path, base_url=server.url)
            outcome = "right"
        except AalbertError as error:
            assert "\n" not in str(error), error
            assert not archive.exists(), "an archive that is not complete has its final name"
            outcome = f"exit {error.exit_code}"
        assert time.monotonic() - started < MOST_SECONDS, "takes too long"
        if outcome == "right":
            assert archive.read_bytes() == CONTENT
            assert not partly.exists(), "the partial file stays"
        return outcome

    def fault(random: Random) -> str:
        archive.unlink(missing_ok=True)
        partly.unlink(missing_ok=True)
        if random.random() < 0.3:
            start = random.randrange(len(CONTENT) + 9)
            partly.write_bytes((CONTENT + bytes(9))[:start])
        server.random = random
        server.faults = [random.choice(FAULTS) for _ in range(random.choice((1, 2, 3, 8)))]
        drawn = ", ".join(server.faults)
        outcome = fetch()
        server.faults = []
        # Wrong bytes that were kept are found by their digest, and deleted: then it starts over.
        assert "right" in (outcome, fetch(), fetch()), f"it does not recover from {drawn}"
        return outcome

    soak.run("files: HTTP", fault)
