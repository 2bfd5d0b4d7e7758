"""A damaged file is refused, or read as another decoder reads it: never in part, never wrongly.

`pytest -s` prints what became of the files of every form.
"""

import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.audio.fuzz.comparison import difference
from tests.pipeline.audio.fuzz.ffmpeg import by_ffmpeg
from tests.pipeline.audio.fuzz.mutations import HARMLESS, MUTATIONS, Mutation
from tests.pipeline.audio.fuzz.reader import Decoded, Failed, Reader, Refused
from tests.pipeline.audio.fuzz.sources import FORM_NAMES, recorded, synthesised

pytestmark = pytest.mark.slow

# Damaged files by each kind of damage to each file: 2,400 without `../shared`, 4,800 with it.
EACH = 8
# Its header says nothing of sizes, so that all that follows is audio.
ENDLESS = "zero_sizes.wav"


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()
    print(f"\npeak of the reading process: {reader.peak_mb:.0f} MB")


def read(reader: Reader, path: Path, content: bytes) -> Decoded | Refused:
    path.write_bytes(content)
    return reader.read(path)


def damaged_files(name: str, content: bytes) -> Iterator[tuple[Mutation, int, bytes]]:
    for mutation in MUTATIONS:
        for number in range(EACH):
            seeds = [zlib.crc32(word.encode()) for word in (name, mutation.__name__)]
            yield mutation, number, mutation(content, np.random.default_rng([*seeds, number]))


def check_whole(reader: Reader, path: Path, name: str, content: bytes) -> Decoded | None:
    """Read a file as it is, with all that may follow; None where it is refused."""
    whole = read(reader, path, content)
    if isinstance(whole, Refused):
        return None
    assert difference(name, whole, by_ffmpeg(path), damaged=False) is None
    for tag, appended in {} if name == ENDLESS else HARMLESS.items():
        found = read(reader, path, content + appended)
        assert isinstance(found, Decoded), f"{name} with {tag} behind: {found}"
        np.testing.assert_array_equal(found.wave, whole.wave, tag)
    return whole


def fault_of(found: Decoded, whole: Decoded | None, path: Path, name: str) -> tuple[str, str]:
    """How a damaged file was read, and what is wrong about it, if anything."""
    if whole is not None:
        # The damage has not touched the audio. ffmpeg may take what is appended for more of it.
        if np.array_equal(found.wave, whole.wave):
            return "as undamaged", ""
        # A file set end to end with itself; ffmpeg does not know where the second one begins.
        if np.array_equal(found.wave, np.tile(whole.wave, 2)):
            return "twice", ""
    return "as ffmpeg", difference(name, found, by_ffmpeg(path), damaged=True) or ""


def check_damaged(reader: Reader, path: Path, name: str, content: bytes) -> None:
    whole = check_whole(reader, path, name, content)
    counts: Counter[str] = Counter()
    faults = []
    for mutation, number, damaged in damaged_files(name, content) if content else ():
        try:
            found = read(reader, path, damaged)
        except Failed as error:
            faults.append(f"{mutation.__name__} {number}: {error}")
            continue
        if isinstance(found, Refused):
            assert found.reason
            counts["refused"] += 1
            continue
        how, fault = fault_of(found, whole, path, name)
        counts[how] += 1
        if fault:
            faults.append(f"{mutation.__name__} {number}: {fault}")
    print(f"\n{name}: {sum(counts.values())} damaged, {dict(counts)}", end="")
    assert faults == []


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return synthesised()


@pytest.mark.parametrize("name", FORM_NAMES)
def test_a_damaged_file_is_refused_or_read_as_ffmpeg_reads_it(
    reader: Reader, files: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    check_damaged(reader, tmp_path / "file", name, files[name])


def test_damaged_odd_files_are_refused_or_read_as_ffmpeg_reads_them(
    reader: Reader, shared: Path, tmp_path: Path
) -> None:
    for name, content in recorded(shared).items():
        check_damaged(reader, tmp_path / "file", name, content)
