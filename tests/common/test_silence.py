"""Servers that stop in the middle of an answer, or never begin one."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import s3fs
from fsspec.implementations.http import HTTPFileSystem

from aalbert.common import silence
from aalbert.common.store import open_store
from aalbert.errors import StorageError

HALF_AN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500


@pytest.fixture(params=[b"", HALF_AN_ANSWER], ids=["no answer", "half an answer"])
def silent_port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A server that accepts, sends what it is to send, and says no more."""
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            if request.param:
                connection.recv(65536)
                connection.sendall(request.param)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    server.join()
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("protocol", ["http", "s3"])
def test_a_silent_server_is_an_error_in_bounded_time(
    protocol: str,
    silent_port: int,
    s3_client: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent_port}")
    monkeypatch.setattr(silence, "SILENCE_S", 0.1)
    monkeypatch.setattr("aalbert.common.store.RETRY_WAITS_S", (0.0,))
    for backend in (s3fs.S3FileSystem, HTTPFileSystem):
        backend.clear_instance_cache()
    url = f"http://127.0.0.1:{silent_port}/data" if protocol == "http" else "s3://bucket/data"
    with pytest.raises(StorageError, match=rf"^{url}/x\.tar: .* \(tried 2 times\)"):
        open_store(url).get("x.tar", tmp_path / "x.tar")


def test_what_fsspec_is_configured_with_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 99}})
    found = silence.options("simplecache::s3://bucket/data")
    assert found["s3"]["config_kwargs"]["read_timeout"] == 99
    assert found["s3"]["config_kwargs"]["connect_timeout"] == silence.SILENCE_S
    assert silence.options("memory://data") == {}
