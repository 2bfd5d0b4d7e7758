"""Writing one shard: utterances in, a WebDataset tar and its index rows out.

Features are stored in float16, rounded as IEEE 754 rounds.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from aalbert.common.files import atomic_write
from aalbert.errors import InputError
from aalbert.kernel import native
from aalbert.shards.format.index import row_schema, rows_to_table
from aalbert.shards.format.tar import TarWriter

NPY_HEADER_BYTES = 128
# What `.npy` begins with: a name, version 1.0, and the bytes of the rest of the header.
NPY_MAGIC = b"\x93NUMPY\x01\x00" + (NPY_HEADER_BYTES - 10).to_bytes(2, "little")
LARGEST_HALF = 65_504.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One utterance as it is stored: features `(frames, dims)` and what is known of it."""

    key: str
    split: str
    speaker: str | None
    samples: int
    source: str
    source_sample_rate: int
    source_channels: int
    features: Mapping[str, NDArray[np.float32]]
    fields: Mapping[str, str | None] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    def describe(self, fields: Sequence[str]) -> dict[str, Any]:
        """Return what goes both into the index and into the sample's JSON member.

        The two say the same: a field of the corpus that the sample lacks is null in both.
        """
        return {
            "key": self.key,
            "split": self.split,
            "speaker": self.speaker,
            "samples": self.samples,
            "source": self.source,
            "source_sample_rate": self.source_sample_rate,
            "source_channels": self.source_channels,
            "flags": list(self.flags),
            **{name: self.fields.get(name) for name in fields},
        }


def write_shard(
    path: Path,
    samples: Iterable[Sample],
    *,
    shard: int,
    feature_dims: Mapping[str, int],
    fields: Sequence[str],
) -> pa.Table:
    """Write a shard, finished or absent, and return its rows in the order of the samples."""
    with atomic_write(path) as stream:
        rows = write_samples(stream, samples, shard, fields)
    return rows_to_table(rows, row_schema(feature_dims, fields))


def write_samples(
    stream: BinaryIO, samples: Iterable[Sample], shard: int, fields: Sequence[str]
) -> list[dict[str, Any]]:
    """Write the members of every sample, sorted by name within it, and return their rows."""
    writer = TarWriter(stream)
    rows = []
    for sample in samples:
        about = sample.describe(fields)
        row = {**about, "shard": shard}
        for name in sorted(sample.features):
            row |= add_feature(writer, sample.key, name, sample.features[name])
        writer.add(f"{sample.key}.json", encode_json(about))
        rows.append(row)
    writer.finish()
    return rows


def add_feature(
    writer: TarWriter, key: str, name: str, features: NDArray[np.float32]
) -> dict[str, Any]:
    """Store one feature as float16 and return the columns that describe it.

    Raises `InputError` for a number that float16 cannot hold; logarithms never are.
    """
    try:
        half = to_half(features)
    except OverflowError as error:
        raise InputError(
            f"feature '{name}' of {key} cannot be stored: {error}; change its settings"
        ) from error
    array = half.values.reshape(-1).view(np.uint8).data
    header = npy_header(half.values.shape)
    offset = writer.add(f"{key}.{name}.npy", header, array)
    return {
        f"{name}_offset": offset + len(header),
        f"{name}_bytes": len(array),
        f"{name}_frames": len(half.values),
        f"{name}_xxh3": xxhash.xxh3_64_intdigest(array),
        f"{name}_mean": half.mean,
        f"{name}_std": half.std,
    }


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of a `.npy` file, version 1.0, of float16 numbers in C order.

    128 bytes for every array `(frames, dims)`: NumPy leaves room for the frames to grow.
    """
    description = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}"
    return NPY_MAGIC + description.ljust(NPY_HEADER_BYTES - len(NPY_MAGIC) - 1).encode() + b"\n"


def encode_json(document: dict[str, Any]) -> bytes:
    """Return a JSON document on one line, keys sorted."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False).encode("utf-8") + b"\n"


@dataclass(frozen=True, kw_only=True)
class HalfArray:
    """Values `(frames, dims)` in float16, and their mean and deviation `(dims,)` over frames."""

    values: NDArray[np.float16]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def to_half(features: NDArray[np.float32]) -> HalfArray:
    """Round features `(frames, dims)` to float16, ties to even; `OverflowError` beyond 65504.

    `mean` and `std` (population deviation) are those of the rounded values, summed in float64.
    """
    halves = np.empty(features.shape, "<f2")
    statistics = np.empty((2, features.shape[1]))
    if not native.round_to_half(features, halves, statistics):
        raise OverflowError(f"float16 holds up to {LARGEST_HALF:.0f}, not {worst(features)}")
    mean, std = statistics.astype(np.float32)
    return HalfArray(values=halves, mean=mean, std=std)


def worst(values: NDArray[np.float32]) -> float:
    """Return a value that is not finite, or the one furthest from zero."""
    return float(values.flat[np.argmax(np.where(np.isfinite(values), np.abs(values), np.inf))])
