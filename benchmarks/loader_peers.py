"""The loaders that `benchmarks.loader` compares, each in the fastest way that was found.

Each function returns an iterable; every iteration over it is one epoch. Also tried and left out:
iterating over a `StreamingDataset` of MosaicML is several times slower than reading it by index,
LitData is slower by index than as a stream, and lhotse's `DynamicBucketingSampler` is no faster
than the pools used here.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aalbert.shards.loading.config import WhenToVerify
from benchmarks.loader_batches import (
    FRAMES_PER_BATCH,
    PREFETCH,
    Batch,
    Batches,
    Features,
    Picked,
    Plan,
    Pooled,
    as_features,
)
from benchmarks.loader_data import FEATURE, shard_files

# Utterances in the shuffle buffers of webdataset and lhotse; the order of shards is random too.
SHUFFLE_BUFFER = 1000
# An upper bound: no loader can be faster.
CONTROL = "arrays in a list"
# Bytes of the header of a `.npy` member.
NPY_HEADER = 128


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The data to read, the layout of batches, and the number of processes besides this one."""

    dataset: Path
    work: Path
    packed: bool
    workers: int


def open_aalbert(setting: Setting, verify: WhenToVerify = "first-epoch") -> Iterable[Any]:
    """Return our own loader: without workers in this process, otherwise with reader processes."""
    from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig

    loader: Iterable[Any] = Loader(
        Dataset(setting.dataset).select(["*"]),
        LoaderConfig(
            order=OrderConfig(frames_per_batch=FRAMES_PER_BATCH, packed=setting.packed),
            feature=FEATURE,
            prefetch=PREFETCH if setting.workers else 0,
            readers=max(1, setting.workers),
            verify=verify,
        ),
    )
    return loader


def open_arrays(setting: Setting) -> "Arrays":
    """Return an epoch of arrays in a list, without any loader."""
    return Arrays(open_aalbert(replace(setting, workers=0)))


def open_webdataset(setting: Setting) -> Iterable[Batch]:
    """Return webdataset on our shards: only the features, as views of their bytes."""
    import webdataset

    shards = shard_files(setting.dataset)
    pipeline = webdataset.DataPipeline(
        webdataset.SimpleShardList(shards),
        webdataset.detshuffle(len(shards), initial=len(shards)),
        webdataset.split_by_worker,
        webdataset.tarfile_to_samples(select_files=is_feature),
        webdataset.detshuffle(SHUFFLE_BUFFER, initial=SHUFFLE_BUFFER),
        webdataset.map(from_member),
    )
    return Batches(Pooled(pipeline.__iter__, setting.packed), setting.workers)


def open_webdataset_pipeline(setting: Setting) -> Iterable[Batch]:
    """Return webdataset with our `webdataset_pipeline`: arrays read by NumPy, JSON decoded."""
    from aalbert.shards import webdataset_pipeline

    pipeline = webdataset_pipeline(
        setting.dataset, ["*"], (FEATURE,), shuffle_buffer=SHUFFLE_BUFFER
    )
    return Batches(Pooled(Mapped(from_decoded, pipeline), setting.packed), setting.workers)


def open_wids(setting: Setting) -> Iterable[Batch]:
    """Return WIDS on our shards, mapped into memory and read by index."""
    import wids

    shards = json.loads((setting.work / "wids.json").read_text())
    dataset = wids.ShardListDataset(
        shards, localname=str, keep=True, lru_size=len(shards), transformations=[from_indexed]
    )
    return by_index(dataset.__getitem__, setting)


def open_streaming(setting: Setting) -> Iterable[Batch]:
    """Return MosaicML Streaming, read by index."""
    from streaming import StreamingDataset

    dataset = StreamingDataset(local=str(setting.work / "streaming"), batch_size=1)
    return by_index(partial(from_record, dataset), setting)


def open_litdata(setting: Setting) -> Iterable[Batch]:
    """Return LitData as a stream with its own shuffling."""
    from litdata import StreamingDataset

    dataset = StreamingDataset(str(setting.work / "litdata"), shuffle=True)
    dataset.set_num_workers(setting.workers)
    return Batches(Pooled(Mapped(as_features, dataset), setting.packed), setting.workers)


def open_lhotse(setting: Setting) -> Iterable[Batch]:
    """Return lhotse's Shar as a stream of cuts."""
    from lhotse import CutSet

    cuts = CutSet.from_shar(
        in_dir=str(setting.work / "lhotse"),
        shuffle_shards=True,
        stateful_shuffle=True,
        split_for_dataloading=setting.workers > 0,
    )
    stream = Mapped(from_cut, cuts.shuffle(buffer_size=SHUFFLE_BUFFER))
    return Batches(Pooled(stream, setting.packed), setting.workers)


OPENERS: dict[str, Callable[[Setting], Iterable[Any]]] = {
    CONTROL: open_arrays,
    "aalbert": open_aalbert,
    "aalbert, verify always": partial(open_aalbert, verify="always"),
    "webdataset": open_webdataset,
    "webdataset_pipeline": open_webdataset_pipeline,
    "wids": open_wids,
    "streaming": open_streaming,
    "litdata": open_litdata,
    "lhotse": open_lhotse,
}


class Arrays:
    """The arrays of batches, which are converted to tensors during the iteration."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.arrays = [(batch.features.numpy(), batch.lengths.numpy()) for batch in batches]

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        for features, lengths in self.arrays:
            yield Batch(torch.from_numpy(features), torch.from_numpy(lengths))


class Mapped:
    """The features of a stream of samples; each call starts the next epoch."""

    def __init__(self, features_of: Callable[[Any], Features], samples: Iterable[Any]) -> None:
        self.features_of = features_of
        self.samples = samples

    def __call__(self) -> Iterator[Features]:
        """Begin the next epoch."""
        return map(self.features_of, self.samples)


def by_index(read: Callable[[int], Features], setting: Setting) -> Batches:
    """Return the batches of a source that reads any utterance by its index."""
    plan = Plan(np.load(setting.work / "frames.npy"), setting.packed)
    return Batches(Picked(read, setting.packed), setting.workers, plan)


def is_feature(name: str) -> bool:
    """Return whether a member of a shard is a feature."""
    return name.endswith(f".{FEATURE}.npy")


def from_member(sample: dict[str, Any]) -> Features:
    """Return the feature of a sample of webdataset."""
    return as_features(sample[f"{FEATURE}.npy"], NPY_HEADER)


def from_decoded(sample: dict[str, Any]) -> Features:
    """Return the feature of a sample of our pipeline."""
    features: Features = sample[FEATURE]
    return features


def from_indexed(sample: dict[str, Any]) -> Features:
    """Return the feature of a sample of WIDS."""
    return as_features(sample[f".{FEATURE}.npy"].getbuffer(), NPY_HEADER)


def from_record(dataset: Any, row: int) -> Features:
    """Return the feature of a sample of MosaicML Streaming."""
    return as_features(dataset[row][FEATURE])


def from_cut(cut: Any) -> Features:
    """Return the features of a cut of lhotse."""
    features: Features = cut.load_features()
    return features
