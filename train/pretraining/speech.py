"""The speech that leads to a model: the hours of every split that it, or its start, trained on."""

from collections.abc import Mapping, Sequence

import numpy as np

from aalbert.models.training_facts import read_facts
from aalbert.shards.reading.dataset import Selection
from aalbert.train.hub_datasets import speech_name
from aalbert.train.pretraining.start import Start


def speech_hours(
    selections: Sequence[Selection], feature: str, start: Start | None
) -> Mapping[str, float]:
    """Return the hours of speech that lead to a model, those of its `start` with them, by split.

    The same speech counts once. They are empty where nobody recorded those of the start.
    """
    hours: dict[str, float] = {}
    if start is not None:
        hours.update(read_facts(start.origin.training).speech_hours)
        if not hours:
            return {}
    for name, trained in hours_by_split(selections, feature).items():
        hours[name] = max(trained, hours.get(name, 0.0))
    return hours


def hours_by_split(selections: Sequence[Selection], feature: str) -> dict[str, float]:
    """Return the hours of selected utterances by the names of the splits that they are of."""
    hours: dict[str, float] = {}
    for part in selections:
        manifest = part.dataset.manifest
        shift_ms = manifest.features[feature].frame_shift_ms
        frames = part.dataset.frames(feature)[part.rows]
        sizes = [split.utterances for split in manifest.splits.values()]
        split_of_row = np.repeat(np.arange(len(sizes)), sizes)[part.rows]
        frames_of_splits = np.bincount(split_of_row, frames, minlength=len(sizes))
        for split, total in zip(manifest.splits, frames_of_splits.tolist(), strict=True):
            if total:
                name = speech_name(manifest, split)
                hours[name] = hours.get(name, 0.0) + total * shift_ms / 3_600_000
    return {name: round(total, 6) for name, total in hours.items()}
