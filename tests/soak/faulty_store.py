"""A store that fails: a filesystem of fsspec over a folder, whose answers are wrong at times."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

from tests.soak.damage import OTHER_SIZE, SAME_SIZE

PROTOCOL = "faulty"
URL = f"{PROTOCOL}://data"
CALLS = ("info", "ls", "cat_file", "get_file", "get_shard")
GARBAGE = b"<html><body>502 Bad Gateway</body></html>"


class BackendError(Exception):
    """An error as backends have them, of no common class."""


ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: OSError(errno.EIO, "Input/output error"),
    lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    lambda: TimeoutError(),
    lambda: FileNotFoundError("404"),
    lambda: PermissionError("403"),
    lambda: BackendError("500\nInternal Server Error"),
    lambda: BackendError(),
    lambda: KeyError("Contents"),
    lambda: EOFError(),
)


class FaultyFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The folder `root`; each of some `calls` fails with the probability `rate`, from `random`."""

    protocol = PROTOCOL
    cachable = False
    root = Path()
    rate = 0.0
    calls: tuple[str, ...] = ()
    random = Random()

    def path(self, name: str) -> Path:
        """What a name stands for; no store has devices and pipes, which end never."""
        path = self.root / name.removeprefix("data").strip("/")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise FileNotFoundError(errno.ENOENT, "no object", name)
        return path

    def fails(self, call: str) -> bool:
        """Whether this call fails; some raise at once."""
        if call not in self.calls or self.random.random() >= self.rate:
            return False
        if self.random.random() < 0.5:
            raise self.random.choice(ERRORS)()
        return True

    def entry(self, path: Path) -> dict[str, Any]:
        name = f"data/{path.relative_to(self.root).as_posix()}".removesuffix("/.")
        # A store has no links, which may lead round in circles.
        kind = "directory" if path.is_dir() and not path.is_symlink() else "file"
        return {"name": name, "size": path.stat().st_size, "type": kind}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        fails = self.fails("info")
        found = self.entry(self.path(path))
        if fails:
            found["size"] = self.random.choice([None, -1, 0, found["size"] + 1])
        return found

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        fails = self.fails("ls")
        inside = sorted(self.path(path).iterdir())
        found = [self.entry(each) for each in inside if each.is_file() or each.is_dir()]
        if fails and found:
            one = self.random.randrange(len(found))
            kind = self.random.choice(["fewer", "size", "none", "more"])
            if kind == "fewer":
                del found[one]
            elif kind == "more":
                found.append({**found[one], "name": f"{found[one]['name']}.tar"})
            else:
                found[one]["size"] = None if kind == "none" else 7
        return found if detail else [each["name"] for each in found]

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        fails = self.fails("cat_file")
        content = self.path(path).read_bytes()
        return self.damaged(content) if fails else content

    def get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        fails = self.fails("get_shard" if rpath.endswith(".tar") else "get_file")
        if not fails:
            shutil.copyfile(self.path(rpath), lpath)
            return
        content = self.damaged(self.path(rpath).read_bytes())
        if self.random.random() < 0.8:
            Path(lpath).write_bytes(content)
        if self.random.random() < 0.3:
            raise self.random.choice(ERRORS)()

    def damaged(self, content: bytes) -> bytes:
        """What arrives of a content: some of it, more, something else."""
        if not content or self.random.random() < 0.2:
            return self.random.choice([b"", GARBAGE])
        return self.random.choice([*SAME_SIZE, *OTHER_SIZE])(self.random, content)


fsspec.register_implementation(PROTOCOL, FaultyFileSystem, clobber=True)


@contextmanager
def faulty_store(root: Path, random: Random, rate: float) -> Iterator[str]:
    """Serve a folder at a URL, with faults until the block ends."""
    FaultyFileSystem.root, FaultyFileSystem.random = root, random
    FaultyFileSystem.rate = rate
    FaultyFileSystem.calls = random.choice(
        [CALLS, *((call,) for call in CALLS), *[("get_shard",)] * 3]
    )
    try:
        yield URL
    finally:
        FaultyFileSystem.rate = 0.0
