"""Downloads of LibriSpeech's official archives: resumed, verified, finished or absent."""

import fcntl
import hashlib
import http.client
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from aalbert.common.files import TEMPORARY_SUFFIX, sole_file, sync_folder
from aalbert.common.progress import BYTES, progress_bar
from aalbert.common.signals import pause, stop_if_asked, stoppable
from aalbert.errors import InputError, IntegrityError, OutputInUseError, StorageError, require

BASE_URL = "https://www.openslr.org/resources/12"
# The SHA-256 digests of the archives, as torchaudio.datasets.LIBRISPEECH publishes them.
SHA256 = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}
CHUNK_BYTES = 2**20
MOST_LENGTH_DIGITS = 20
TIMEOUT_SECONDS = 60.0
# Waits before a retry; counting starts again whenever data has arrived.
BACKOFF_SECONDS = (1.0, 4.0, 16.0, 60.0)
CONNECTION_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)
# Responses that allow a retry.
TRANSIENT_STATUS = frozenset({408, 425, 429, *range(500, 600)})


class CutOffError(ConnectionError):
    """The connection ended before all bytes had arrived."""


def download_subsets(subsets: Sequence[str], folder: Path) -> None:
    """Fetch several archives; an unknown name is refused before the first one is fetched."""
    for subset in subsets:
        require_known(subset)
    for subset in subsets:
        download_subset(subset, folder)


def require_known(subset: str) -> None:
    """Raise `ConfigError` unless there is such a subset."""
    require(
        subset in SHA256,
        f"LibriSpeech has no subset {subset}: choose from {', '.join(SHA256)}",
    )


def download_subset(subset: str, folder: Path, *, base_url: str = BASE_URL) -> Path:
    """Fetch the archive of a subset into `folder` and return its path.

    A partial download is continued, and an archive that is there already is kept. Raises
    `ConfigError` for an unknown subset, `InputError` when the server cannot be reached or
    refuses, `StorageError` when the archive would not fit, and `IntegrityError` when its
    SHA-256 digest is not the published one.
    """
    require_known(subset)
    require(not folder.is_file(), f"{folder} is a file: name the folder where archives are kept")
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{subset}.tar.gz"
    if archive.is_file():
        check_digest(archive, SHA256[subset], "delete it to download it again")
        return archive
    partial = archive.with_name(archive.name + TEMPORARY_SUFFIX)
    # The name is known, so that the next process continues it.
    with open(partial, "ab", opener=sole_file) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputInUseError(
                f"{partial} is being downloaded by another process: wait for it"
            ) from error
        with stoppable():
            fetch(f"{base_url}/{archive.name}", stream, partial)
        stream.flush()
        os.fsync(stream.fileno())
        try:
            check_digest(partial, SHA256[subset], "it was deleted, download it again")
        except IntegrityError:
            partial.unlink()
            raise
        partial.replace(archive)
    sync_folder(folder)
    return archive


def check_digest(path: Path, expected: str, way_out: str) -> None:
    """Raise `IntegrityError` when the SHA-256 digest of a file is not the expected one."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise IntegrityError(
            f"{path} is not the published archive: its SHA-256 digest is {found}, "
            f"expected {expected}; {way_out}"
        )


def fetch(url: str, stream: BinaryIO, partial: Path) -> None:
    """Download `url` to the end of `stream`, with retries for as long as data arrives."""
    failures = 0
    while True:
        before = stream.tell()
        try:
            return fetch_rest(url, stream, partial)
        except CONNECTION_ERRORS as error:
            stream.flush()
            failures = 1 if stream.tell() > before else failures + 1
            refused = (
                isinstance(error, urllib.error.HTTPError) and error.code not in TRANSIENT_STATUS
            )
            if refused or failures > len(BACKOFF_SECONDS):
                have = stream.tell()
                kept = f"; {have / 2**20:,.1f} MiB are kept, the same command continues from there"
                raise InputError(
                    f"{url} cannot be downloaded: {error}{kept if have else ''}"
                ) from error
        pause(BACKOFF_SECONDS[failures - 1])


def fetch_rest(url: str, stream: BinaryIO, partial: Path) -> None:
    """Append the missing rest of `url` to `stream`; `CutOffError` when it is incomplete."""
    headers = {"Range": f"bytes={stream.tell()}-"} if stream.tell() else {}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # The server has no bytes after those here: the file is complete, or it is another file.
        if error.headers.get("Content-Range") != f"bytes */{stream.tell()}":
            start_over(stream)
            raise CutOffError("the partial file is not a part of it") from error
        return
    with response:
        if not continues(response, stream.tell()):
            start_over(stream)
        total = stream.tell() + announced_bytes(response, url)
        require_free_bytes(partial, total - stream.tell())
        copy(response, stream, total, partial.name)


def start_over(stream: BinaryIO) -> None:
    """Discard what has been downloaded so far."""
    stream.seek(0)
    stream.truncate()


def continues(response: http.client.HTTPResponse, have: int) -> bool:
    """Return whether a response begins at the end of the file here; not all servers know ranges."""
    content_range = response.headers.get("Content-Range", "")
    return response.status == HTTPStatus.PARTIAL_CONTENT and content_range.startswith(
        f"bytes {have}-"
    )


def announced_bytes(response: http.client.HTTPResponse, url: str) -> int:
    """Return the length of a response, 0 if none is given; `InputError` for no number."""
    text = response.headers.get("Content-Length", "0").strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= MOST_LENGTH_DIGITS):
        raise InputError(
            f"{url} cannot be downloaded: its server says that the length is {text[:40]!r}, which "
            "is no number; try it later, or from another network"
        )
    return int(text)


def require_free_bytes(partial: Path, needed: int) -> None:
    """Raise `StorageError` when the rest of the download does not fit on the disk."""
    free = shutil.disk_usage(partial.parent).free
    if needed > free:
        raise StorageError(
            f"{partial} needs {needed / 2**20:,.0f} MiB more, {free / 2**20:,.0f} MiB are free: "
            "make room, or choose another folder"
        )


def copy(response: http.client.HTTPResponse, stream: BinaryIO, total: int, name: str) -> None:
    """Append a response to `stream`, which then has `total` bytes; else `CutOffError`."""
    done = stream.tell()
    with progress_bar(f"download {name}", total=total, unit=BYTES, done=done) as bar:
        while chunk := response.read(CHUNK_BYTES):
            stop_if_asked()
            stream.write(chunk)
            bar.reach(stream.tell())
    if stream.tell() < total:
        raise CutOffError(f"the connection ended after {stream.tell()} of {total} bytes")
