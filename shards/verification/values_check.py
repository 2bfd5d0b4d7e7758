"""The checks of numbers: those of an array against its statistics, these against the manifest."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aalbert.shards.format.index import frame_counts
from aalbert.shards.format.index_check import numbers
from aalbert.shards.format.manifest import FeatureStatistics, Manifest, SplitRecord
from aalbert.shards.format.statistics import pool_statistics

# Sums in float32 over so many frames, and all other rounding, err by a tenth of the tolerance,
# which is relative to mean and deviation together.
SUMMED_FRAMES = 256
TOLERANCE = 1e-4
SECONDS_PER_HOUR = 3600


def payload_problem(payload: bytes, recorded: NDArray[np.float32]) -> str | None:
    """Return what is wrong with the numbers `(frames, dims)` in the bytes of an array.

    `recorded (2, dims)` are the mean and deviation that its statistics have.
    """
    values = np.frombuffer(payload, "<f2").reshape(-1, recorded.shape[1]).astype(np.float32)
    mean = total(values, "fd->d") / len(values)
    if not np.isfinite(mean).all():
        return "holds numbers that are not finite"
    values -= mean.astype(np.float32)
    std = np.sqrt(total(values, "fd,fd->d") / len(values))
    if agree(np.stack([mean, std]), recorded):
        return None
    return "has another mean or deviation than its statistics say"


def total(values: NDArray[np.float32], what: str) -> NDArray[np.float64]:
    """Return the sum over frames of the values, or of their products with themselves."""
    factors = 1 + what.count(",")
    sums = np.zeros(values.shape[1])
    for start in range(0, len(values), SUMMED_FRAMES):
        sums += np.einsum(what, *[values[start : start + SUMMED_FRAMES]] * factors)
    return sums


def agree(found: NDArray[np.floating], recorded: NDArray[np.floating]) -> bool:
    """Return whether means and deviations `(2, dims)` are the same but for rounding."""
    size = np.abs(found[0]) + found[1]
    return bool((np.abs(found - recorded) <= TOLERANCE * size).all())


def frame_problems(manifest: Manifest, table: pa.Table) -> Iterator[str]:
    """Yield the features whose numbers of frames do not follow from those of samples."""
    samples = numbers(table, "samples")
    for name, settings in manifest.features.items():
        counted = [settings.count_frames(each) for each in samples.tolist()]
        wrong = np.flatnonzero(frame_counts(table, name) != counted)
        if len(wrong):
            key = table.column("key")[int(wrong[0])].as_py()
            yield f"gives the {name} of '{key}' more or fewer frames than its samples have"


def split_problems(manifest: Manifest, name: str, table: pa.Table) -> Iterator[str]:
    """Yield what the manifest says of a split that its index contradicts."""
    split: SplitRecord = manifest.splits[name]
    sample_rate = next(iter(manifest.features.values())).sample_rate
    hours = float(numbers(table, "samples").sum()) / sample_rate / SECONDS_PER_HOUR
    speakers = len(table.column("speaker").drop_null().unique())
    if not np.isclose(split.hours, hours, rtol=1e-9, atol=0):
        yield f"says that '{name}' has {split.hours} hours, its index {hours}"
    if split.speakers != speakers:
        yield f"says that '{name}' has {split.speakers} speakers, its index {speakers}"


def pooled_problems(
    manifest: Manifest, indexes: Sequence[pa.Table], statistics: Sequence[pa.Table]
) -> Iterator[str]:
    """Yield the features whose statistics in the manifest are not those of all utterances."""
    if manifest.statistics.keys() != manifest.features.keys():
        yield "has statistics of other features than those that it has"
        return
    table = pa.concat_tables(statistics)
    for name in manifest.features:
        frames = np.concatenate([frame_counts(index, name) for index in indexes])
        if not same(manifest.statistics[name], pool_statistics(table, name, frames)):
            yield f"has not the mean and deviation of {name} that its utterances have"


def same(recorded: FeatureStatistics, found: FeatureStatistics) -> bool:
    """Return whether statistics are the same but for rounding."""
    sizes = {len(numbers) for each in (recorded, found) for numbers in (each.mean, each.std)}
    return (
        len(sizes) == 1
        and recorded.frames == found.frames
        and agree(np.array([found.mean, found.std]), np.array([recorded.mean, recorded.std]))
    )


def recorded_statistics(
    table: pa.Table, feature_dims: Mapping[str, int]
) -> dict[str, NDArray[np.float32]]:
    """Return mean and deviation `(rows, 2, dims)` of each feature."""
    return {
        name: np.stack(
            [
                table.column(f"{name}_{each}")
                .combine_chunks()
                .flatten()
                .to_numpy()
                .reshape(-1, dims)
                for each in ("mean", "std")
            ],
            axis=1,
        )
        for name, dims in feature_dims.items()
    }
