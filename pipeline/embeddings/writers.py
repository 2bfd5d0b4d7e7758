"""Embeddings on disk: `.npy`, safetensors or WebDataset shards, each file finished or absent."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as safetensors_bytes

from aalbert.common.files import atomic_write
from aalbert.pipeline.embeddings.inputs import Loaded, Recording
from aalbert.shards.format.writer import Sample, write_shard

Format = Literal["npy", "safetensors", "shards"]
Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """A line of the index: a recording, and the file with its embedding."""

    key: str
    file: str
    source: str
    split: str
    speaker: str | None
    seconds: float
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A recording and its embedding: `(frames, width)`, `(states, frames, width)`, or pooled."""

    recording: Recording
    loaded: Loaded
    embedding: Array

    def row(self, file: str, sample_rate: int) -> IndexRow:
        """Return its row in the index."""
        return IndexRow(
            key=self.recording.key,
            file=file,
            source=self.recording.source,
            split=self.recording.split,
            speaker=self.recording.speaker,
            seconds=self.loaded.samples / sample_rate,
            shape=self.embedding.shape,
        )


@dataclass(frozen=True, kw_only=True)
class EmbeddingLayout:
    """The axes of an embedding array: all states or one, per frame or pooled."""

    all_states: bool
    pooled: bool

    def parts(self, embedding: Array) -> Mapping[str, Array]:
        """Return the arrays `(frames, width)` that a shard stores, by name.

        With all states there is one array per state, `layer0` and so on, else one, `embedding`.
        A pooled embedding has one frame.
        """
        if self.pooled:
            embedding = np.expand_dims(embedding, -2)
        if not self.all_states:
            return {"embedding": embedding}
        return {f"layer{number}": state for number, state in enumerate(embedding)}


def write_npy(
    folder: Path, number: int, piece: Sequence[Embedded], layout: EmbeddingLayout
) -> list[str]:
    """Write `KEY.npy` for every recording, float32, and return the names of the files."""
    names = [f"{each.recording.key}.npy" for each in piece]
    for name, each in zip(names, piece, strict=True):
        # Into a file, NumPy writes past Python, and its error does not say that the disk is full.
        content = io.BytesIO()
        np.save(content, each.embedding, allow_pickle=False)
        with atomic_write(folder / name) as stream:
            stream.write(content.getbuffer())
    return names


def write_safetensors(
    folder: Path, number: int, piece: Sequence[Embedded], layout: EmbeddingLayout
) -> list[str]:
    """Write one file for the piece, with a float32 tensor per key."""
    name = f"{number:06d}.safetensors"
    arrays = {each.recording.key: np.ascontiguousarray(each.embedding) for each in piece}
    with atomic_write(folder / name) as stream:
        stream.write(safetensors_bytes(arrays))
    return [name] * len(piece)


def write_tar(
    folder: Path, number: int, piece: Sequence[Embedded], layout: EmbeddingLayout
) -> list[str]:
    """Write one WebDataset shard for the piece: float16 `.npy` and JSON members for each key."""
    name = f"{number:06d}.tar"
    dims = {part: array.shape[1] for part, array in layout.parts(piece[0].embedding).items()}
    samples = (sample_of(each, layout) for each in piece)
    write_shard(folder / name, samples, shard=number, feature_dims=dims, fields=())
    return [name] * len(piece)


def sample_of(each: Embedded, layout: EmbeddingLayout) -> Sample:
    """Return a recording as the sample that a shard stores."""
    return Sample(
        key=each.recording.key,
        split=each.recording.split,
        speaker=each.recording.speaker,
        samples=each.loaded.samples,
        source=each.recording.source,
        source_sample_rate=each.loaded.source_sample_rate,
        source_channels=each.loaded.source_channels,
        features=layout.parts(each.embedding),
        flags=each.loaded.flags,
    )


WRITERS: dict[Format, Callable[[Path, int, Sequence[Embedded], EmbeddingLayout], list[str]]] = {
    "npy": write_npy,
    "safetensors": write_safetensors,
    "shards": write_tar,
}
