"""Phones of LibriSpeech from hidden states: what the race and the ladder measure.

Their labels are a folder with `alignments.txt` (or `converted_aligned_phones.txt`),
`train_list.txt`, `dev_list.txt` and `test_list.txt`.
"""

from collections.abc import Sequence
from pathlib import Path

from aalbert.errors import InputError
from aalbert.models.any_upstream import AnyUpstream
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.build import find_frame_labels, find_task_data
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.evaluation.frame_probes import ProbedFrames, probe_frames
from aalbert.train.recipes import read_task_recipe

ALIGNMENT_NAMES = ("alignments.txt", "converted_aligned_phones.txt")


def excluded(phones: Path) -> str:
    """Return the setting that keeps the utterances to test on out of pretraining."""
    return f"data.exclude={phones / 'test_list.txt'}"


def phone_task(phones: Path) -> DownstreamConfig:
    """Return the settings of the task; raise `InputError` without labels."""
    places = [phones / name for name in ALIGNMENT_NAMES if (phones / name).is_file()]
    if not places:
        raise InputError(f"{phones} has none of {', '.join(ALIGNMENT_NAMES)}")
    lists = [
        f"splits.{part}_list={phones / f'{part}_list.txt'}" for part in ("train", "dev", "test")
    ]
    return read_task_recipe(
        "librispeech-phone",
        environment={},
        assignments=[f"labels.alignments={places[0]}", "splits.train='*'", *lists],
    )


def probe_phones(
    upstream: AnyUpstream, data: Path, phones: Path, states: Sequence[int] = (), hidden: int = 0
) -> ProbedFrames:
    """Probe states of an upstream, all by default, for phones; see `probe_frames`."""
    config, dataset = phone_task(phones), Dataset(data)
    splits = find_task_data(config, dataset).splits
    inputs = Inputs(dataset, upstream.config)
    labels = find_frame_labels(config, inputs, splits)
    return probe_frames(upstream.eval(), inputs, labels, splits, states=states, hidden=hidden)
