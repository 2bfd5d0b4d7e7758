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
from aalbert.shards.format.index import row_schema
from aalbert.shards.format.tar import TarWriter

NPY_HEADER_BYTES = 128
# The beginning of a `.npy` file: magic string, version 1.0, and size of the rest of the header.
NPY_MAGIC = b"\x93NUMPY\x01\x00" + (NPY_HEADER_BYTES - 10).to_bytes(2, "little")
LARGEST_HALF = 65_504.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One utterance to be stored: its features `(frames, dims)` and its metadata."""

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

    def metadata(self, fields: Sequence[str]) -> dict[str, Any]:
        """Return the metadata for both the index and the sample's JSON member.

        A field of the corpus that the sample lacks is null in both.
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
    """Write a shard atomically and return its rows in the order of samples, as one record batch."""
    with atomic_write(path) as stream:
        rows = write_samples(stream, samples, shard, fields)
    table = pa.Table.from_pylist(rows, schema=row_schema(feature_dims, fields))
    return table.combine_chunks()


def write_samples(
    stream: BinaryIO, samples: Iterable[Sample], shard: int, fields: Sequence[str]
) -> list[dict[str, Any]]:
    """Write the members of each sample, features sorted by name, and return the index rows."""
    writer = TarWriter(stream)
    rows = []
    for sample in samples:
        metadata = sample.metadata(fields)
        row = {**metadata, "shard": shard}
        for name in sorted(sample.features):
            row |= add_feature(writer, sample.key, name, sample.features[name])
        writer.add(f"{sample.key}.json", encode_json(metadata))
        rows.append(row)
    writer.finish()
    return rows


def add_feature(
    writer: TarWriter, key: str, name: str, features: NDArray[np.float32]
) -> dict[str, Any]:
    """Store one feature as float16 and return the values of its index columns.

    Raises `InputError` for a number that float16 cannot represent; logarithms never are.
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

    It has 128 bytes for any array `(frames, dims)`: NumPy pads it for a growing first axis.
    """
    description = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}"
    return NPY_MAGIC + description.ljust(NPY_HEADER_BYTES - len(NPY_MAGIC) - 1).encode() + b"\n"


def encode_json(document: dict[str, Any]) -> bytes:
    """Return a JSON document on one line, with sorted keys."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False).encode("utf-8") + b"\n"


@dataclass(frozen=True, kw_only=True)
class HalfArray:
    """Values `(frames, dims)` in float16, and their statistics `(dims,)` over frames."""

    values: NDArray[np.float16]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def to_half(features: NDArray[np.float32]) -> HalfArray:
    """Round features `(frames, dims)` to float16, ties to even.

    `mean` and `std` (population standard deviation) are those of the rounded values, summed in
    float64. Raises `OverflowError` for values beyond 65504.
    """
    halves = np.empty(features.shape, "<f2")
    statistics = np.empty((2, features.shape[1]))
    if not native.round_to_half(features, halves, statistics):
        # A value that is not finite, or else the one furthest from zero.
        worst = np.argmax(np.where(np.isfinite(features), np.abs(features), np.inf))
        value = float(features.flat[worst])
        raise OverflowError(f"float16 holds up to {LARGEST_HALF:.0f}, not {value}")
    mean, std = statistics.astype(np.float32)
    return HalfArray(values=halves, mean=mean, std=std)
