"""The data that `benchmarks.loader` reads: a dataset, and each peer's own copy of it.

The copies, and the counts and the hash that every loader's epoch is compared with, are made from
the members of the shards, read with Python's `tarfile`: none of it depends on a loader.
"""

import dataclasses
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from benchmarks.loader_batches import DIMS, Features

FEATURE = "logmel"
FRAME_SHIFT_S = 0.01
SHARD_BYTES = 48 * 2**20


def prepare_copies(corpus: Path, times: int, out: Path) -> None:
    """Prepare a whole corpus as one split, repeated `times` times under new keys."""
    from aalbert.pipeline.corpora.librispeech import read_librispeech
    from aalbert.pipeline.prepare.engine import LocalEngine
    from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
    from aalbert.pipeline.prepare.recipe import load_recipe

    found = read_librispeech(corpus)
    utterances = tuple(
        dataclasses.replace(utterance, key=f"{utterance.key}-{number}", split="train-clean-100")
        for number in range(times)
        for utterance in found.utterances
    )
    recipe = load_recipe(assignments=[f"shard_bytes={SHARD_BYTES}"], features=(FEATURE,))
    everything = dataclasses.replace(found, utterances=utterances)
    prepare(everything, out, recipe, PrepareLimits(engine=LocalEngine(workers=2)))


def shard_files(dataset: Path) -> list[str]:
    """Return the shards of a dataset."""
    return [str(path) for path in sorted(dataset.rglob("*.tar"))]


def read_shard(path: str) -> list[Features]:
    """Return the features of all utterances of a shard."""
    with tarfile.open(path) as archive:
        members = [member for member in archive if member.name.endswith(f".{FEATURE}.npy")]
        return [np.load(io.BytesIO(archive.extractfile(one).read())) for one in members]  # type: ignore[union-attr]


def read_all(dataset: Path) -> Iterator[Features]:
    """Yield the features of all utterances, in the order of the shards."""
    for path in shard_files(dataset):
        yield from read_shard(path)


def digest(features: Features) -> int:
    """Return the hash of an utterance's bytes; the sum modulo 2^64 is the hash of an epoch."""
    return xxhash.xxh3_64_intdigest(features.tobytes())


def write_everything(dataset: Path, work: Path) -> None:
    """Write the expected contents of an epoch, and each peer's own copy of the data."""
    paths = shard_files(dataset)
    shards = [[(len(one), digest(one)) for one in read_shard(path)] for path in paths]
    frames = [each for shard in shards for each, _ in shard]
    expected = {
        "utterances": len(frames),
        "frames": sum(frames),
        "digest": sum(each for shard in shards for _, each in shard) % 2**64,
    }
    (work / "expected.json").write_text(json.dumps(expected))
    np.save(work / "frames.npy", np.array(frames))
    listed = [
        {"url": path, "nsamples": len(shard)} for path, shard in zip(paths, shards, strict=True)
    ]
    (work / "wids.json").write_text(json.dumps(listed))
    write_streaming(dataset, work / "streaming")
    write_litdata(dataset, work / "litdata")
    write_lhotse(dataset, work / "lhotse", shard_size=len(frames) // 16 + 1)


def write_streaming(dataset: Path, folder: Path) -> None:
    """Write the bytes of the features as MosaicML's shards, uncompressed."""
    from streaming import MDSWriter

    columns = {FEATURE: "bytes"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=SHARD_BYTES) as writer:
        for features in read_all(dataset):
            writer.write({FEATURE: features.tobytes()})


def write_litdata(dataset: Path, folder: Path) -> None:
    """Write the bytes of the features as LitData's chunks, with the writer of its `optimize`."""
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir()
    writer = BinaryWriter(cache_dir=str(folder), chunk_bytes=SHARD_BYTES)
    for number, features in enumerate(read_all(dataset)):
        writer.add_item(number, features.tobytes())
    writer.done()
    writer.merge()


def write_lhotse(dataset: Path, folder: Path, shard_size: int) -> None:
    """Write the features as lhotse's Shar, plain NumPy arrays in float16."""
    from lhotse import NumpyFilesWriter
    from lhotse.shar import SharWriter

    folder.mkdir()
    with (
        tempfile.TemporaryDirectory(dir=folder.parent) as loose,
        NumpyFilesWriter(loose) as store,
        SharWriter(str(folder), fields={"features": "numpy"}, shard_size=shard_size) as writer,
    ):
        for number, features in enumerate(read_all(dataset)):
            name = f"{number:07d}"
            key = store.write(name, features)
            writer.write(cut_of(name, features, store.name, loose, key))
            (Path(loose) / key).unlink()


def cut_of(name: str, features: Features, storage: str, folder: str, key: str) -> Any:
    """Return a cut of lhotse with features and without a recording."""
    from lhotse import Features as Manifest
    from lhotse import MonoCut

    seconds = len(features) * FRAME_SHIFT_S
    manifest = Manifest(
        type=FEATURE,
        num_frames=len(features),
        num_features=DIMS,
        frame_shift=FRAME_SHIFT_S,
        sampling_rate=16_000,
        start=0,
        duration=seconds,
        storage_type=storage,
        storage_path=folder,
        storage_key=key,
        channels=0,
    )
    return MonoCut(id=name, start=0, duration=seconds, channel=0, features=manifest)
