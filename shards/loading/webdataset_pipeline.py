"""The shards as a plain WebDataset pipeline, for training loops based on one.

It reads shards from beginning to end, without the index: WebDataset shuffles, epochs do not
resume, and payloads are not verified. `Loader` has a reproducible order, resumes and verifies.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from webdataset.utils import pytorch_worker_info

from aalbert.common.json_files import as_record, parse_json
from aalbert.errors import ConfigError, IntegrityError
from aalbert.shards.format.manifest import read_manifest
from aalbert.shards.format.npy import NPY_ERRORS

RawSample = dict[str, Any]


def webdataset_pipeline(
    folder: Path | str,
    splits: Sequence[str],
    features: Sequence[str] = ("logmel",),
    *,
    shuffle_buffer: int = 2000,
    resampled: bool = False,
    seed: int = 0,
) -> webdataset.DataPipeline:
    """Return a pipeline of samples `{"__key__", "json", FEATURE...}` of some splits.

    Every feature is an array `(frames, dims)` in float16, `json` a dictionary. Shards are
    shuffled in every epoch and divided among the processes of `torch.distributed` and the
    workers of a `DataLoader`; samples are shuffled in a buffer of `shuffle_buffer` (0 keeps
    the order of shards and samples). With `resampled`, shards are sampled with replacement,
    endlessly and differently in every process: give the pipeline a length with
    `.with_epoch(samples)`. Nothing in a shard is ever unpickled.

    Raises `ConfigError` when the dataset has no such split or feature, and, when iterated
    without `resampled`, when there are fewer shards than readers.
    """
    manifest = read_manifest(Path(folder))
    for feature in features:
        manifest.require_feature(feature, folder)
    shards = [
        str(Path(folder) / shard.path)
        for split in manifest.match_splits(splits, folder)
        for shard in manifest.splits[split].shards
    ]
    return webdataset.DataPipeline(
        *shard_stages(shards, shuffle_buffer > 0, resampled, seed),
        webdataset.tarfile_to_samples(select_files=MemberFilter(features)),
        webdataset.map(decode),
        *([webdataset.detshuffle(shuffle_buffer, seed=seed)] if shuffle_buffer else []),
    )


def shard_stages(shards: list[str], shuffle: bool, resampled: bool, seed: int) -> list[Any]:
    """Return the stages that divide shards among processes and workers."""
    if resampled:
        return [webdataset.ResampledShards(shards, seed=seed, deterministic=True)]
    # A buffer for all shards gives a new permutation of them in every epoch.
    permute = webdataset.detshuffle(len(shards), initial=len(shards), seed=seed)
    return [
        webdataset.SimpleShardList(shards),
        *([permute] if shuffle else []),
        require_enough_shards,
        webdataset.split_by_node,
        webdataset.split_by_worker,
    ]


def require_enough_shards(shards: Iterable[RawSample]) -> Iterator[RawSample]:
    """Pass the shards on; raise `ConfigError` when a worker would get none and wait forever."""
    found = list(shards)
    _, processes, _, workers = pytorch_worker_info()
    if len(found) < processes * workers:
        raise ConfigError(
            f"{len(found)} shards cannot be divided over {processes} processes with {workers} "
            "workers each: use fewer workers, or resampled=True"
        )
    yield from found


class MemberFilter:
    """A filter of the members of a shard; members that it rejects are not read."""

    def __init__(self, features: Sequence[str]) -> None:
        self.suffixes = (".json", *(f".{feature}.npy" for feature in features))

    def __call__(self, name: str) -> bool:
        """Return whether a member of this name is read."""
        return name.endswith(self.suffixes)


def decode(sample: RawSample) -> RawSample:
    """Decode a sample's members into arrays and a dictionary.

    Raises `IntegrityError` for a member that cannot be decoded; a pickle is never opened.
    """
    decoded: RawSample = {"__key__": sample["__key__"]}
    for name, payload in sample.items():
        try:
            if name.endswith(".npy"):
                array = np.lib.format.read_array(io.BytesIO(payload), allow_pickle=False)
                decoded[name.removesuffix(".npy")] = array
            elif name == "json":
                decoded["json"] = as_record(dict[str, Any], parse_json(payload))
        except NPY_ERRORS as error:
            what = "array of numbers" if name.endswith(".npy") else "description"
            raise IntegrityError(
                f"{sample['__url__']}: '{sample['__key__']}.{name}' holds no {what}; restore the "
                "shard or prepare the data again"
            ) from error
    return decoded
