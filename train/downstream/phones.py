"""Phones as labels of frames: alignments are read, checked against the audio, and sampled.

Two formats are read. A file with a line `KEY number number ...` per utterance, a number per
10 ms, as CPC's `converted_aligned_phones.txt` has it, where a list `phones.json` beside it may
name the numbers, as `aalbert align` writes it; and a folder of TextGrid files named
after the keys, as the Montreal Forced Aligner writes them, of which the tier `phones` is read.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aalbert.common.json_files import parse_json
from aalbert.common.pronunciations import without_stress
from aalbert.common.text_files import read_lines, read_text
from aalbert.common.textgrid import PhoneInterval, read_textgrid
from aalbert.errors import ConfigError, InputError
from aalbert.models.frame_times import FrameTimes
from aalbert.models.layout import frame_mask
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import LabelConfig
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.labels import NO_CLASS

# A phone in a file of alignments.
NUMBER = re.compile("[0-9]{1,9}")
# The names of the numbers in a file of alignments beside it.
NAMES_FILE = "phones.json"
MAKE_THEM = "'aalbert align' makes them of transcripts"
NAMES_EXPECTED = 'expected the names of the phones 0, 1, 2, ..., such as ["AA", "AE"]'
# The allowed difference of labels and audio in length: aligners drop a frame or two at the end.
TOLERANCE_MS = 50.0


@dataclass(frozen=True)
class Alignment:
    """The phones of an utterance: one for every label frame of `shift_ms`."""

    phones: list[str]
    shift_ms: float

    @property
    def seconds(self) -> float:
        """The duration of the labels."""
        return len(self.phones) * self.shift_ms / 1000


def read_alignments(
    place: str, keys: Iterable[str], *, shift_ms: float, drop_stress: bool
) -> dict[str, Alignment]:
    """Return the alignment of each of these utterances that has one, by key."""
    path, wanted = Path(place), list(keys)
    if path.is_dir():
        found = read_folder(path, wanted, shift_ms)
    else:
        found = read_phone_file(path, set(wanted), shift_ms)
    if drop_stress:
        return {
            key: Alignment(list(map(without_stress, one.phones)), shift_ms)
            for key, one in found.items()
        }
    return found


def aligned_keys(place: str) -> set[str]:
    """Return the keys of the utterances that have an alignment; `InputError` for another place."""
    path = Path(place)
    if path.is_dir():
        return {each.stem for each in path.rglob("*.TextGrid")}
    if not path.is_file():
        raise InputError(
            f"there are no alignments at {path}: expected a folder of TextGrid files, or a file "
            f"of 'KEY number number ...' lines; {MAKE_THEM}"
        )
    return {line.split(maxsplit=1)[0] for line in read_lines(path) if line.strip()}


def read_phone_file(path: Path, wanted: set[str], shift_ms: float) -> dict[str, Alignment]:
    """Return the alignments of a file of `KEY number number ...` lines."""
    names = read_phone_names(path.with_name(NAMES_FILE))
    found: dict[str, Alignment] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        key, *phones = line.split()
        if not phones or not all(NUMBER.fullmatch(phone) for phone in phones):
            raise InputError(
                f"{path}:{number} is '{line.strip()[:60]}': expected 'KEY number number ...'"
            )
        if key not in wanted:
            continue
        if names and (beyond := [phone for phone in phones if int(phone) >= len(names)]):
            raise InputError(
                f"{path}:{number} has the phone {beyond[0]}, {NAMES_FILE} beside it names 0 to "
                f"{len(names) - 1}: it belongs to another file of alignments, move it away"
            )
        named = [names[int(phone)] for phone in phones] if names else phones
        found[key] = Alignment(named, shift_ms)
    return found


def read_phone_names(path: Path) -> list[str]:
    """Return the names of the phones 0, 1, 2, ... in a file; none if there is no such file."""
    if not path.is_file():
        return []
    try:
        names = parse_json(read_text(path))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): {NAMES_EXPECTED}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} is not a list of names: {NAMES_EXPECTED}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"{path} is empty or has a name twice: {NAMES_EXPECTED}")
    return names


def read_folder(folder: Path, wanted: list[str], shift_ms: float) -> dict[str, Alignment]:
    """Return the alignments of the `KEY.TextGrid` files at any depth of a folder."""
    path_of = {path.stem: path for path in folder.rglob("*.TextGrid")}
    return {
        key: sample_intervals(read_textgrid(path_of[key]), shift_ms)
        for key in wanted
        if key in path_of
    }


def sample_intervals(intervals: list[PhoneInterval], shift_ms: float) -> Alignment:
    """Return the phone at the middle of every label frame, up to the end of the last interval.

    The intervals follow one another from 0 on.
    """
    ends = np.array([interval.end for interval in intervals])
    frames = int(ends[-1] * 1000 / shift_ms + 1e-6)
    middles = (np.arange(frames) + 0.5) * shift_ms / 1000
    places = np.searchsorted(ends, middles, side="right").clip(max=len(intervals) - 1)
    return Alignment([intervals[place].phone for place in places.tolist()], shift_ms)


def label_places(frames: int, times: FrameTimes, *, label_shift_ms: float) -> NDArray[np.int64]:
    """Return the number of the label of each frame: the label in which the frame's centre lies.

    Label `i` lasts from `i` to `i + 1` label shifts. The last label goes on for frames past its
    end.
    """
    centres_ms = times.first_ms + np.arange(frames) * times.shift_ms
    # A centre on the border of two labels belongs to the later one, whatever rounding does.
    places: NDArray[np.int64] = np.floor(centres_ms / label_shift_ms + 1e-6).astype(np.int64)
    return places


class FrameLabels(nn.Module):
    """One class a frame, with the labels of all utterances end to end.

    `begin` and `count` give the first label and the number of labels of each row of the dataset,
    `place` the label of each frame, see `label_places`.
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
        # Padding may go on after the end of the longest utterance.
        known = torch.arange(frames, device=rows.device).clamp(max=len(self.place) - 1)
        places = self.place[known].minimum(self.count[rows].unsqueeze(1) - 1)
        classes = self.classes[self.begin[rows].unsqueeze(1) + places].long()
        return torch.where(frame_mask(lengths, frames), classes, NO_CLASS)

    def majority(self, train: Rows) -> int:
        """Return the most frequent class in the labels of these rows."""
        begin, count = self.begin.tolist(), self.count.tolist()
        parts = [self.classes[begin[row] : begin[row] + count[row]] for row in train.tolist()]
        return int(torch.bincount(torch.cat(parts).long()).argmax())


def find_aligned(dataset: Dataset, config: LabelConfig) -> NDArray[np.int64]:
    """Return 0 for every row that has an alignment and `NO_CLASS` for the others.

    Raises `InputError` when none has one.
    """
    if not config.alignments:
        raise ConfigError(
            f"labels.alignments is not set: name the folder or file of alignments; {MAKE_THEM}"
        )
    aligned = aligned_keys(config.alignments)
    keys = dataset.column("key")
    classes = np.array([0 if key in aligned else NO_CLASS for key in keys], np.int64)
    if not len(classes) or classes.max() == NO_CLASS:
        raise InputError(
            f"{config.alignments} has no alignment of any of the {len(keys)} utterances of "
            f"{dataset.place}, such as '{keys[0]}': alignments go by the same keys"
        )
    return classes


def find_phones(inputs: Inputs, config: LabelConfig, rows: Rows) -> FrameLabels:
    """Return the phones of these rows as labels for the frames of an upstream.

    The classes are all phones that the alignments have. Raises `InputError` when an utterance
    has an alignment that does not last as long as its audio.
    """
    dataset = inputs.dataset
    keys = dataset.table.column("key").take(rows).to_pylist()
    samples = dataset.table.column("samples").take(rows).to_pylist()
    found = read_alignments(
        config.alignments, keys, shift_ms=config.label_shift_ms, drop_stress=config.drop_stress
    )
    for key, count in zip(keys, samples, strict=True):
        check_length(key, found[key], count / inputs.stored.sample_rate)
    place = label_places(
        inputs.most_frames(rows), inputs.frame_times(), label_shift_ms=config.label_shift_ms
    )
    return gather_labels(len(dataset), rows, [found[key] for key in keys], place)


def check_length(key: str, alignment: Alignment, audio_seconds: float) -> None:
    """Raise `InputError` unless labels and audio have the same duration."""
    if abs(alignment.seconds - audio_seconds) * 1000 > TOLERANCE_MS:
        raise InputError(
            f"the alignment of '{key}' lasts {alignment.seconds:.2f} s, its audio "
            f"{audio_seconds:.2f} s: they are not of the same recording, labels.label_shift_ms "
            f"({alignment.shift_ms:g}) is wrong, or silence was cut out of the audio"
        )


def gather_labels(
    rows_in_all: int, rows: Rows, alignments: Sequence[Alignment], place: NDArray[np.int64]
) -> FrameLabels:
    """Return the phones of all alignments as numbered classes, end to end.

    Numeric names are in the order of their values, others in alphabetical order.
    """
    names = sorted(
        {phone for each in alignments for phone in set(each.phones)},
        key=lambda name: (int(name), name) if name.isdigit() else (0, name),
    )
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
