"""The speech that leads to a model: the hours of every split that it, or its start, trained on."""

from collections.abc import Mapping, Sequence

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
        frames, splits = part.dataset.frames(feature), part.dataset.column("split")
        for row in part.rows.tolist():
            name = speech_name(manifest, splits[row] or "")
            hours[name] = hours.get(name, 0.0) + float(frames[row]) * shift_ms / 3_600_000
    return {name: round(total, 6) for name, total in hours.items()}
