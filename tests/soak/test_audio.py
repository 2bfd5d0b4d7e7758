"""A damaged file is refused, or read as another decoder reads it: never in part, never wrongly."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.soak.audio.comparison import difference
from tests.soak.audio.ffmpeg import by_ffmpeg
from tests.soak.audio.mutations import HARMLESS, MUTATIONS
from tests.soak.audio.reader import Decoded, Reader, Refused
from tests.soak.audio.sources import recorded, synthesised
from tests.soak.soak import Soak

SHARED = Path(__file__).resolve().parents[3] / "shared"
# Its header says nothing of sizes, so that all that follows is audio.
ENDLESS = "zero_sizes.wav"
APPENDED = 0.1


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The whole files, those of `../shared` too where it is beside the project."""
    return synthesised() | (recorded(SHARED) if SHARED.is_dir() else {})


def test_a_damaged_file_is_refused_or_read_as_ffmpeg_reads_it(
    soak: Soak, reader: Reader, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "file"

    def read(content: bytes) -> Decoded | Refused:
        path.write_bytes(content)
        return reader.read(path)

    @cache
    def read_whole(name: str) -> Decoded | None:
        """The file as it is; None where it is refused."""
        whole = read(files[name])
        if isinstance(whole, Refused):
            return None
        assert difference(name, whole, by_ffmpeg(path), damaged=False) is None, name
        return whole

    def fault(random: Random) -> str:
        name = random.choice([name for name, content in files.items() if content])
        whole, content = read_whole(name), files[name]
        if whole is not None and name != ENDLESS and random.random() < APPENDED:
            tag = random.choice(sorted(HARMLESS))
            found = read(content + HARMLESS[tag])
            assert isinstance(found, Decoded), f"{name} with {tag} behind: {found}"
            np.testing.assert_array_equal(found.wave, whole.wave, tag)
            return "right"
        mutation = random.choice(MUTATIONS)
        found = read(mutation(content, np.random.default_rng(random.getrandbits(64))))
        if isinstance(found, Refused):
            assert found.reason
            return "refused"
        wrong = (
            None
            if is_whole(found, whole)
            else difference(name, found, by_ffmpeg(path), damaged=True)
        )
        assert wrong is None, f"{name}, {mutation.__name__}: {wrong}"
        return "right"

    soak.run("files: audio", fault)


def is_whole(found: Decoded, whole: Decoded | None) -> bool:
    """Whether the damage has not touched the audio; ffmpeg may take what is appended for more.

    Or a file was set end to end with itself: ffmpeg does not know where the second one begins.
    """
    return whole is not None and any(
        np.array_equal(found.wave, np.tile(whole.wave, times)) for times in (1, 2)
    )
