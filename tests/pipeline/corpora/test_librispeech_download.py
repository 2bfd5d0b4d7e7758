import fcntl
import hashlib
import http.server
import io
import random
import tarfile
from collections.abc import Iterator
from functools import partial as bind
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.errors import (
    ConfigError,
    InputError,
    IntegrityError,
    OutputInUseError,
    StorageError,
)
from aalbert.pipeline.corpora import librispeech_download as download
from aalbert.pipeline.corpora.librispeech_download import download_subset
from tests.local_server import LocalServer, serving

CONTENT = random.Random(0).randbytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "dev-clean.tar.gz"


class Server(LocalServer):
    """A server of one archive, with the configured faults."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.content = CONTENT
        self.knows_ranges = True
        self.claimed: int | str | None = None
        self.cuts: list[int] = []  # how many bytes come before the connection ends
        self.failures: list[int] = []  # status codes of the first responses
        self.ranges: list[str | None] = []  # the requested ranges


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=")[:-1]) if asked and server.knows_ranges else 0
        total = len(server.content)
        if server.failures:
            return self.send_error(server.failures.pop(0))
        if self.path != f"/{NAME}":
            return self.send_error(404)
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(server.claimed or total - start))
        self.end_headers()
        length = server.cuts.pop(0) if server.cuts else total
        self.wfile.write(server.content[start : start + length])
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setitem(download.SHA256, "dev-clean", DIGEST)
    monkeypatch.setattr(download, "BACKOFF_SECONDS", (0.0, 0.0, 0.0))
    with serving(Server()) as server:
        yield server


def pack(corpus: Path, subset: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(corpus / "SPEAKERS.TXT", "LibriSpeech/SPEAKERS.TXT")
        tar.add(corpus / subset, f"LibriSpeech/{subset}")
    return stream.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_archive_is_downloaded_into_a_new_folder(server: Server, tmp_path: Path) -> None:
    path = download_subset("dev-clean", tmp_path / "new/folder", base_url=server.url)
    assert path == tmp_path / "new/folder" / NAME
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == [NAME]
    assert server.ranges == [None]


def test_a_partial_download_is_continued_where_it_ended(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.partial").write_bytes(CONTENT[:1_234_567])
    path = download_subset("dev-clean", tmp_path, base_url=server.url)
    assert server.ranges == ["bytes=1234567-"]
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == [NAME]


def test_a_download_is_retried_after_every_cut_for_as_long_as_data_arrives(
    server: Server, tmp_path: Path
) -> None:
    server.cuts = [500_000, 1, 700_000, 200_000, 300_000, 100_000]
    assert download_subset("dev-clean", tmp_path, base_url=server.url).read_bytes() == CONTENT
    assert server.ranges[:3] == [None, "bytes=500000-", "bytes=500001-"]
    assert len(server.ranges) == 7


def test_a_server_that_ignores_ranges_makes_the_download_start_over(
    server: Server, tmp_path: Path
) -> None:
    server.knows_ranges = False
    (tmp_path / f"{NAME}.partial").write_bytes(b"x" * 1_000_000)
    assert download_subset("dev-clean", tmp_path, base_url=server.url).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000000-"]


def test_a_partial_file_that_is_complete_is_only_verified(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.partial").write_bytes(CONTENT)
    assert download_subset("dev-clean", tmp_path, base_url=server.url).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_a_partial_file_that_is_too_long_is_downloaded_again(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / f"{NAME}.partial").write_bytes(CONTENT + b"more")
    assert download_subset("dev-clean", tmp_path, base_url=server.url).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_transient_failures_of_the_server_are_retried(server: Server, tmp_path: Path) -> None:
    server.failures = [503, 429, 500]
    assert download_subset("dev-clean", tmp_path, base_url=server.url).read_bytes() == CONTENT
    assert len(server.ranges) == 4


def test_lasting_failures_end_the_download_and_keep_the_received_bytes(
    server: Server, tmp_path: Path
) -> None:
    server.cuts, server.content = [2**20, 0, 0, 0, 0], CONTENT
    with pytest.raises(InputError) as caught:
        download_subset("dev-clean", tmp_path, base_url=server.url)
    assert str(caught.value) == (
        f"{server.url}/{NAME} cannot be downloaded: the connection ended after 1048576 of "
        "3000000 bytes; 1.0 MiB are kept, the same command continues from there"
    )
    assert (tmp_path / f"{NAME}.partial").read_bytes() == CONTENT[: 2**20]


def test_a_refused_request_is_not_retried(server: Server, tmp_path: Path) -> None:
    server.failures = [404]
    with pytest.raises(InputError) as caught:
        download_subset("dev-clean", tmp_path, base_url=server.url)
    assert str(caught.value) == (
        f"{server.url}/{NAME} cannot be downloaded: HTTP Error 404: Not Found"
    )
    assert server.ranges == [None]


def test_a_server_that_cannot_be_reached_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "BACKOFF_SECONDS", (0.0,))
    with pytest.raises(InputError, match="http://127.0.0.1:9/dev-clean.tar.gz cannot be"):
        download_subset("dev-clean", tmp_path, base_url="http://127.0.0.1:9")


def test_wrong_bytes_are_deleted_and_both_digests_named(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(IntegrityError) as caught:
        download_subset("dev-clean", tmp_path, base_url=server.url)
    assert str(caught.value) == (
        f"{tmp_path}/{NAME}.partial is not the published archive: its SHA-256 digest is {found}, "
        f"expected {DIGEST}; it was deleted, download it again"
    )
    assert names(tmp_path) == []


def test_an_archive_that_is_there_is_kept_without_asking_the_server(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    assert download_subset("dev-clean", tmp_path, base_url=server.url) == tmp_path / NAME
    assert server.ranges == []


def test_another_file_under_the_name_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"mine")
    with pytest.raises(IntegrityError, match="; delete it to download it again$"):
        download_subset("dev-clean", tmp_path, base_url=server.url)
    assert (tmp_path / NAME).read_bytes() == b"mine"


def test_an_archive_that_would_not_fit_is_refused_before_a_byte_is_written(
    server: Server, tmp_path: Path
) -> None:
    server.claimed = 2**60
    with pytest.raises(StorageError) as caught:
        download_subset("dev-clean", tmp_path, base_url=server.url)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/{NAME}.partial needs {2**40:,} MiB more, ")
    assert message.endswith(" MiB are free: make room, or choose another folder")
    assert (tmp_path / f"{NAME}.partial").stat().st_size == 0


@pytest.mark.parametrize("length", ["abc", "-5", "1.5", "²", "9" * 5000])
def test_a_length_that_is_no_number_is_named(server: Server, tmp_path: Path, length: str) -> None:
    server.claimed = length
    with pytest.raises(InputError, match="its server says that the length is .* is no number"):
        download_subset("dev-clean", tmp_path, base_url=server.url)


def test_two_downloads_do_not_write_one_file(server: Server, tmp_path: Path) -> None:
    with (tmp_path / f"{NAME}.partial").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(OutputInUseError, match="is being downloaded by another process"):
            download_subset("dev-clean", tmp_path, base_url=server.url)
    assert server.ranges == []


def test_an_unknown_subset_is_refused_with_the_seven(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        download_subset("train-clean", tmp_path)
    assert str(caught.value) == (
        "LibriSpeech has no subset train-clean: choose from dev-clean, dev-other, test-clean, "
        "test-other, train-clean-100, train-clean-360, train-other-500"
    )


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file is a file: name the folder where archives are"):
        download_subset("dev-clean", tmp_path / "file")


def test_every_digest_is_a_sha256() -> None:
    assert len({*download.SHA256.values()}) == 7
    assert all(len(bytes.fromhex(digest)) == 32 for digest in download.SHA256.values())


def test_the_command_fetches_archives_and_prepares_those_alone(
    server: Server,
    librispeech_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    server.content = pack(librispeech_folder, "dev-clean")
    monkeypatch.setitem(download.SHA256, "dev-clean", hashlib.sha256(server.content).hexdigest())
    monkeypatch.setattr(download, "download_subset", bind(download_subset, base_url=server.url))
    Path("archives").mkdir()
    Path("archives/train-clean-100.tar.gz").write_bytes(b"not to be read")
    arguments = "prepare librispeech archives --download dev-clean --out data --workers 1"
    assert main(arguments.split()) == 0
    assert "data: 6 utterances" in capsys.readouterr().out
    assert names(Path("archives")) == [NAME, "train-clean-100.tar.gz"]


def test_the_command_refuses_an_unknown_name_before_it_fetches_anything(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["prepare", "librispeech", str(tmp_path), "--out", str(tmp_path / "data")]
    assert main([*arguments, "--download", "dev-clean", "--download", "dev"]) == 2
    assert "LibriSpeech has no subset dev: choose from dev-clean" in capsys.readouterr().err
    assert names(tmp_path) == []
