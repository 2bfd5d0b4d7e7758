import errno
import http.client
import os
import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3fs
from fsspec.implementations.memory import MemoryFileSystem

from aalbert.common import store as store_module
from aalbert.common.files import write_text
from aalbert.common.redaction import redact
from aalbert.common.store import Store, explain
from aalbert.errors import StorageError
from aalbert.pipeline.prepare.output import Output, open_output
from tests.local_server import LocalServer, serving

SHARD = "train/000000.tar"
UNAVAILABLE = b"<Error><Code>ServiceUnavailable</Code><Message>Please try again.</Message></Error>"


class FaultyProxy(LocalServer):
    """A proxy that answers the next `refuse` PUTs with 503 and cuts off the next `cut`."""

    def __init__(self, backend_port: int) -> None:
        super().__init__(Forward)
        self.backend_port = backend_port
        self.refuse = 0
        self.cut = 0
        self.puts = 0


class Forward(BaseHTTPRequestHandler):
    server: FaultyProxy
    protocol_version = "HTTP/1.1"

    def forward(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.server.puts += self.command == "PUT"
        if self.command == "PUT" and self.server.cut:
            self.server.cut -= 1
            self.rfile.read(length // 2)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = self.rfile.read(length)
        if self.command == "PUT" and self.server.refuse:
            self.server.refuse -= 1
            self.answer(503, [("Content-Type", "application/xml")], UNAVAILABLE)
            return
        backend = http.client.HTTPConnection("127.0.0.1", self.server.backend_port)
        backend.request(self.command, self.path, body, dict(self.headers))
        response = backend.getresponse()
        content = response.read()
        backend.close()
        self.answer(response.status, response.getheaders(), content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        kept = {name.lower(): value for name, value in headers}
        # No connection, and no thread of this server, outlives its request.
        kept["connection"] = "close"
        for name, value in {"content-length": str(len(content)), **kept}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def proxy(s3: str, s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy between s3fs, which tries each call once, and the S3 server."""
    with serving(FaultyProxy(s3_port)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        yield server


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_WAITS_S", (0.01, 0.02, 0.03))


@pytest.fixture
def remote(s3: str, tmp_path: Path) -> Output:
    return open_output(f"{s3}/out", tmp_path / "staging")


def build(output: Output, path: str = SHARD, text: str = "shard\n" * 1000) -> None:
    with output.build(path) as local:
        write_text(local, text)


@pytest.fixture
def keys(s3_client: Any) -> Callable[[], list[str]]:
    """The keys in the bucket, listed by another client."""

    def ask() -> list[str]:
        found = s3_client.list_objects_v2(Bucket="bucket").get("Contents", [])
        return [item["Key"] for item in found]

    return ask


@pytest.mark.parametrize("fault", ["refuse", "cut"])
def test_an_upload_succeeds_after_three_failures(
    fault: str, remote: Output, proxy: FaultyProxy, keys: Callable[[], list[str]]
) -> None:
    setattr(proxy, fault, 3)
    build(remote)
    assert getattr(proxy, fault) == 0
    assert proxy.puts == 4
    assert keys() == ["out/train/000000.tar"]
    assert remote.fetch(SHARD).read_text() == "shard\n" * 1000


def test_a_store_that_keeps_failing_is_named_and_nothing_is_under_the_final_name(
    remote: Output, proxy: FaultyProxy, tmp_path: Path, keys: Callable[[], list[str]]
) -> None:
    proxy.refuse = 100
    with pytest.raises(StorageError) as caught:
        build(remote)
    assert str(caught.value) == (
        "s3://bucket/out/train/000000.tar: Please try again (tried 4 times): "
        "run the same command again later, finished work is kept"
    )
    assert caught.value.exit_code == 7
    assert not remote.has(SHARD)
    assert keys() == []
    assert not [path for path in (tmp_path / "staging").rglob("*") if path.is_file()]
    proxy.refuse = 0
    build(remote)
    assert keys() == ["out/train/000000.tar"]


def test_a_connection_that_is_always_cut_leaves_nothing(
    remote: Output, proxy: FaultyProxy, keys: Callable[[], list[str]]
) -> None:
    proxy.cut = 1000
    with pytest.raises(StorageError, match=r"000000\.tar: .*\(tried 4 times\): run the same"):
        build(remote)
    assert keys() == []


@pytest.mark.slow
def test_a_large_upload_that_dies_between_its_parts_leaves_nothing(
    remote: Output, monkeypatch: pytest.MonkeyPatch, keys: Callable[[], list[str]]
) -> None:
    call = s3fs.S3FileSystem._call_s3

    async def fail_at_part_2(self: Any, method: str, *args: Any, **options: Any) -> Any:
        if method == "upload_part" and options["PartNumber"] == 2:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        return await call(self, method, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, "_call_s3", fail_at_part_2)
        with pytest.raises(StorageError, match="Connection reset by peer"):
            build(remote, text="x" * (101 * 2**20))
    assert keys() == []
    assert fsspec.filesystem("s3").list_multipart_uploads("bucket") == []
    build(remote, text="x" * (101 * 2**20))
    assert remote.sizes() == {SHARD: 101 * 2**20}


def put_half(self: MemoryFileSystem, local: str, target: str) -> None:
    """Write the beginning of a file and lose the connection."""
    self.pipe_file(target, Path(local).read_bytes()[:50])
    raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Output]:
    yield open_output("memory://out", tmp_path / "staging")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def test_where_half_a_file_can_be_seen_it_is_never_under_the_final_name(
    memory: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", put_half)
        with pytest.raises(StorageError, match="Connection reset by peer"):
            build(memory)
    # The attempt cleans up behind itself; of a killed process the next run of `prepare` does.
    assert list(MemoryFileSystem.store) == []
    assert not memory.has(SHARD)
    assert memory.sizes() == {}
    build(memory)
    assert list(MemoryFileSystem.store) == ["/out/train/000000.tar"]


def test_a_file_of_an_earlier_run_is_replaced_where_nothing_can_be_moved_onto_another(
    memory: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = MemoryFileSystem.mv

    def move_like_sftp(self: MemoryFileSystem, place: str, target: str) -> None:
        if self.exists(target):
            raise OSError("Failure")
        move(self, place, target)

    monkeypatch.setattr(MemoryFileSystem, "mv", move_like_sftp)
    monkeypatch.setattr(store_module, "RETRY_WAITS_S", ())
    build(memory)
    build(memory)
    assert list(MemoryFileSystem.store) == ["/out/train/000000.tar"]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"X" + data[1:]])
def test_a_damaged_copy_is_removed_and_uploaded_again(
    damage: Callable[[bytes], bytes], remote: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = s3fs.S3FileSystem._put_file
    damaged: list[str] = []

    async def damage_first(self: Any, local: str, target: str, **options: Any) -> None:
        if len(damaged) < 1:
            data = Path(local).read_bytes()
            Path(local + ".damaged").write_bytes(damage(data))
            damaged.append(target)
            local += ".damaged"
        await put(self, local, target, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_put_file", damage_first)
    build(remote)
    assert len(damaged) == 1
    assert remote.fetch(SHARD).read_text() == "shard\n" * 1000


def test_a_copy_that_is_damaged_every_time_does_not_stay(
    memory: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(self: MemoryFileSystem, local: str, target: str) -> None:
        self.pipe_file(target, b"short")

    monkeypatch.setattr(MemoryFileSystem, "put_file", put)
    with pytest.raises(StorageError) as caught:
        build(memory)
    assert "000000.tar: the copy has 5 of 6,000 bytes (tried 4 times)" in str(caught.value)
    assert list(MemoryFileSystem.store) == []


def test_a_download_that_breaks_off_is_repeated(
    memory: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build(memory)
    get, calls = MemoryFileSystem.get_file, []

    def get_short(self: MemoryFileSystem, source: str, local: str) -> None:
        get(self, source, local)
        calls.append(source)
        if len(calls) < 3:
            os.truncate(local, 17)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_short)
    assert memory.fetch(SHARD).read_text() == "shard\n" * 1000
    assert len(calls) == 3
    assert [path.name for path in tmp_path.rglob("*.partial")] == []


def test_a_file_that_is_not_there_cannot_be_fetched(remote: Output) -> None:
    with pytest.raises(StorageError, match=r"s3://bucket/out/train/000000\.tar: .* does not exist"):
        remote.fetch(SHARD)


def test_a_missing_bucket_is_reported_in_one_line_without_retries(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RETRY_WAITS_S", (60.0,))
    output = open_output("s3://no-such-bucket/out", tmp_path)
    started = time.monotonic()
    with pytest.raises(StorageError) as caught:
        output.hold(".prepare/lock").__enter__()
    assert time.monotonic() - started < 30
    assert str(caught.value) == (
        "s3://no-such-bucket/out/.prepare/lock.json: The specified bucket does not exist: "
        "check the URL, and that its bucket exists"
    )


def test_missing_credentials_are_reported_in_one_line(
    remote: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError) as caught:
        remote.has("manifest.json")
    assert str(caught.value) == (
        "s3://bucket/out/manifest.json: Unable to locate credentials: set those that its fsspec "
        "backend reads (S3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
    )


def test_a_refused_call_is_not_retried(memory: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refuse(self: MemoryFileSystem, *arguments: str) -> None:
        calls.append(arguments)
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "put_file", refuse)
    with pytest.raises(StorageError) as caught:
        build(memory)
    assert len(calls) == 1
    assert str(caught.value) == (
        "memory://out/train/000000.tar: Access Denied: check the credentials and what they allow"
    )


def test_errors_show_no_password() -> None:
    error = OSError("cannot reach https://me:se@cret@endpoint/bucket now")
    assert "cret" not in redact(explain(error))
    assert Store("sftp://me:secret@host/x").name == "sftp://me:***@host/x"


def test_a_file_is_created_once(s3: str, s3_client: Any) -> None:
    store = Store(f"{s3}/out")
    assert store.create("lock.json", b"first")
    assert not store.create("lock.json", b"second")
    assert s3_client.get_object(Bucket="bucket", Key="out/lock.json")["Body"].read() == b"first"


def test_paths_are_never_patterns(tmp_path: Path) -> None:
    for place in ("memory://patterns/a?[1]*", f"local://{tmp_path}/a?[1]*"):
        store, other = Store(place), Store(place.replace("a?[1]*", "ab1c"))
        local = tmp_path / "file"
        local.write_bytes(b"content")
        for each in (store, other):
            each.put(local, "x[1]/file*")
            each.write("x1/file", b"y")
        assert store.sizes() == other.sizes() == {"x1/file": 1, "x[1]/file*": 7}
        store.remove("x[1]")
        assert store.sizes() == {"x1/file": 1} and len(other.sizes()) == 2
        store.get("x1/file", local)
        assert local.read_bytes() == b"y"
