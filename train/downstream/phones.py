"""Phones as labels of frames, on the device."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aalbert.errors import ConfigError, InputError
from aalbert.models.layout import frame_mask
from aalbert.models.upstream import UpstreamConfig
from aalbert.shards.format.feature_settings import settings_from_dict
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.alignments import Alignment, label_places, read_alignments
from aalbert.train.downstream.config import LabelConfig
from aalbert.train.downstream.labels import NO_CLASS

# How far labels and audio may differ in length: aligners drop a frame or two at the end.
TOLERANCE_MS = 50.0


class FrameLabels(nn.Module):
    """One class a frame: those of all utterances end to end, and where each one's begin.

    `place` says which label a frame takes, see `label_places`.
    """

    classes: Tensor
    begin: Tensor
    count: Tensor
    place: Tensor

    def __init__(
        self, names: Sequence[str], classes: Tensor, begin: Tensor, count: Tensor, place: Tensor
    ) -> None:
        super().__init__()
        self.names = list(names)
        for name, tensor in (
            ("classes", classes),
            ("begin", begin),
            ("count", count),
            ("place", place),
        ):
            self.register_buffer(name, tensor, persistent=False)

    def targets(self, rows: Tensor, lengths: Tensor, scores: Tensor) -> Tensor:
        """Return the class of every frame `(batch, frames)`, -1 past the end."""
        frames = scores.shape[1]
        places = self.place[:frames].minimum(self.count[rows].unsqueeze(1) - 1)
        classes = self.classes[self.begin[rows].unsqueeze(1) + places].long()
        return torch.where(frame_mask(lengths, frames), classes, NO_CLASS)

    def majority(self, train: Rows) -> int:
        """Return the class that is most frequent in the labels of these rows."""
        begin, count = self.begin.tolist(), self.count.tolist()
        parts = [self.classes[begin[row] : begin[row] + count[row]] for row in train.tolist()]
        return int(torch.bincount(torch.cat(parts).long()).argmax())


def find_phones(
    dataset: Dataset, config: LabelConfig, rows: Rows, upstream: UpstreamConfig
) -> FrameLabels:
    """Read the phones of these rows as labels for the frames of an upstream.

    The classes are all phones that the alignments have. Raises `InputError` when an utterance
    has no alignment, or one that does not last as long as its audio.
    """
    if not config.alignments:
        raise ConfigError("labels.alignments is not set: name the folder or file of alignments")
    settings = settings_from_dict(dict(upstream.features))
    keys = dataset.table.column("key").take(rows).to_pylist()
    samples = dataset.table.column("samples").take(rows).to_pylist()
    found = read_alignments(
        config.alignments, keys, shift_ms=config.label_shift_ms, drop_stress=config.drop_stress
    )
    for key, count in zip(keys, samples, strict=True):
        check_length(key, found[key], count / settings.sample_rate)
    stacked = upstream.front_end.frames_stacked
    centred = settings.kind in ("logmel", "linear")
    place = label_places(
        int(dataset.frames(settings.kind)[rows].max()) // stacked + 1,
        label_shift_ms=config.label_shift_ms,
        frame_shift_ms=settings.frame_shift_ms,
        offset_ms=0.0 if centred else settings.window_length_ms / 2,
        stacked=stacked,
    )
    return gather_labels(len(dataset), rows, [found[key] for key in keys], place)


def check_length(key: str, alignment: Alignment, audio_seconds: float) -> None:
    """Raise `InputError` unless labels and audio last equally long."""
    if abs(alignment.seconds - audio_seconds) * 1000 > TOLERANCE_MS:
        raise InputError(
            f"the alignment of '{key}' lasts {alignment.seconds:.2f} s, its audio "
            f"{audio_seconds:.2f} s: they are not of the same recording, labels.label_shift_ms "
            f"({alignment.shift_ms:g}) is wrong, or silence was cut out of the audio"
        )


def gather_labels(
    rows_in_all: int, rows: Rows, alignments: Sequence[Alignment], place: NDArray[np.int64]
) -> FrameLabels:
    """Number the phones of all alignments and lay them end to end."""
    names = sorted({phone for each in alignments for phone in set(each.phones)}, key=by_number)
    number = {name: index for index, name in enumerate(names)}
    begin, count = np.zeros(rows_in_all, np.int64), np.zeros(rows_in_all, np.int64)
    count[rows] = [len(each.phones) for each in alignments]
    begin[rows] = np.cumsum(count[rows]) - count[rows]
    classes = [np.array([number[phone] for phone in each.phones], np.int16) for each in alignments]
    return FrameLabels(
        names,
        torch.from_numpy(np.concatenate(classes)),
        *(torch.from_numpy(numbers) for numbers in (begin, count, place)),
    )


def by_number(name: str) -> tuple[int, str]:
    """Sort numbers by their value, and names by the alphabet."""
    return (int(name), name) if name.isdigit() else (0, name)
