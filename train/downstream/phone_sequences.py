"""The phones of transcripts, by a dictionary of pronunciations."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aalbert.common.notes import note
from aalbert.common.pronunciations import (
    Pronunciations,
    read_pronunciations,
    without_stress,
    words_of,
)
from aalbert.errors import ConfigError, InputError
from aalbert.models.ctc import ctc_losses, frames_needed
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import LabelConfig

# Words that dictionaries lack, in a message.
MOST_WORDS_NAMED = 5
# Why utterances are left out.
NO_TEXT, NO_PRONUNCIATION = "no text", "a word without a pronunciation"
GET_LEXICON = (
    "LibriSpeech's is librispeech-lexicon.txt of https://www.openslr.org/11, its lines are "
    "'WORD  P H O N E S'"
)


class PhoneSequences(nn.Module):
    """The phones of utterances, end to end, as numbers of their names.

    `begin` and `count` give the first phone and the number of phones of each row of the dataset; a
    row without a transcript, or with a word that the dictionaries lack, has none. `left_out` are
    such rows, by reason.
    """

    phones: Tensor
    begin: Tensor
    count: Tensor

    def __init__(
        self,
        names: Sequence[str],
        sequences: Mapping[int, Sequence[int]],
        rows: int,
        left_out: Mapping[str, Rows],
    ) -> None:
        super().__init__()
        self.names = list(names)
        self.left_out = left_out
        count = np.zeros(rows, np.int64)
        for row, phones in sequences.items():
            count[row] = len(phones)
        together = [phone for row in sorted(sequences) for phone in sequences[row]]
        for name, tensor in (
            ("phones", torch.tensor(together, dtype=torch.int64)),
            ("begin", torch.from_numpy(np.cumsum(count) - count)),
            ("count", torch.from_numpy(count)),
        ):
            self.register_buffer(name, tensor, persistent=False)

    def targets(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the phones of utterances `(batch, most)`, padded, and their numbers `(batch,)`."""
        counts = self.count[rows]
        places = torch.arange(int(counts.max()), device=rows.device)
        real = places < counts.unsqueeze(1)
        found = self.phones[torch.where(real, self.begin[rows].unsqueeze(1) + places, 0)]
        return torch.where(real, found, 0), counts

    def losses(self, rows: Tensor, lengths: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of all phones of every utterance that can be aligned, and their numbers.

        Both are `(batch,)`, and 0 for an utterance with fewer frames than its phones need. See
        `ctc.ctc_losses`.
        """
        targets, counts = self.targets(rows)
        enough = frames_needed(targets, counts) <= lengths
        return ctc_losses(scores, lengths, targets, counts), torch.where(enough, counts, 0)

    def loss(self, rows: Tensor, lengths: Tensor, scores: Tensor) -> Tensor:
        """Return the mean loss over the phones of a batch, in nats a phone."""
        losses, phones = self.losses(rows, lengths, scores)
        return losses.sum() / phones.sum().clamp(min=1)

    def row_classes(self) -> NDArray[np.int64]:
        """Return 0 for every row that has phones, and -1 for the others."""
        classes: NDArray[np.int64] = np.where(self.count.cpu().numpy() > 0, 0, -1)
        return classes

    def of_row(self, row: int) -> list[int]:
        """Return the phones of a row."""
        first = int(self.begin[row])
        phones: list[int] = self.phones[first : first + int(self.count[row])].tolist()
        return phones


def find_phone_sequences(dataset: Dataset, config: LabelConfig, rows: Rows) -> PhoneSequences:
    """Return the phones of the transcripts of these rows, by the first pronunciation of each word.

    The names are all phones of the first pronunciations. What is left out is said on stderr, with
    the words that are missing. Raises `InputError` when nothing is left.
    """
    spoken = read_lexicons(config)
    names = sorted({phone for phones in spoken.values() for phone in phones})
    number = {name: place for place, name in enumerate(names)}
    texts = read_texts(dataset, config.column)
    known: Mapping[str, Pronunciations] = {word: [phones] for word, phones in spoken.items()}
    missing: Counter[str] = Counter()
    sequences: dict[int, list[int]] = {}
    left_out: dict[str, list[int]] = {NO_TEXT: [], NO_PRONUNCIATION: []}
    for row in rows.tolist():
        words = words_of(texts[row] or "", known)
        if not words:
            left_out[NO_TEXT].append(row)
        elif unknown := {word for word in words if word not in spoken}:
            missing.update(unknown)
            left_out[NO_PRONUNCIATION].append(row)
        else:
            sequences[row] = [number[phone] for word in words for phone in spoken[word]]
    lexicons = " and ".join(config.lexicons)
    note_left_out(lexicons, len(rows), {why: len(each) for why, each in left_out.items()}, missing)
    if not sequences:
        raise InputError(
            f"{dataset.place}: no utterance of the splits has a text ('{config.column}') of which "
            f"{lexicons} has all words; LibriSpeech's texts are its *.trans.txt files, which "
            "have to be beside the audio when 'aalbert prepare' reads it"
        )
    without = {why: np.array(each, np.int64) for why, each in left_out.items()}
    return PhoneSequences(names, sequences, len(dataset), without)


def read_lexicons(config: LabelConfig) -> dict[str, tuple[str, ...]]:
    """Return the pronunciation of every word, of several dictionaries by the first that has it.

    Raises `ConfigError` when none is named, and `InputError` that names the one whose phones are
    not those of the others.
    """
    if not config.lexicons:
        raise ConfigError(
            "labels.lexicon is not set: name a dictionary of pronunciations with "
            f"--set labels.lexicon=FILE; {GET_LEXICON}"
        )
    lexicons = {
        path: first_pronunciations(read_pronunciations(Path(path)), config.drop_stress)
        for path in config.lexicons
    }
    require_same_phones(lexicons)
    together: dict[str, tuple[str, ...]] = {}
    for spoken in reversed(lexicons.values()):
        together |= spoken
    return together


def require_same_phones(lexicons: Mapping[str, Mapping[str, tuple[str, ...]]]) -> None:
    """Raise `InputError` for a dictionary with a phone that the one with the most phones lacks.

    Else the same sound would be two classes, as `AH` beside `AH0`.
    """
    inventories = {
        path: {phone for phones in spoken.values() for phone in phones}
        for path, spoken in lexicons.items()
    }
    largest = max(inventories, key=lambda path: len(inventories[path]))
    for path, phones in inventories.items():
        if foreign := sorted(phones - inventories[largest]):
            unstressed = set(map(without_stress, inventories[largest]))
            way_out = "write its words with the phones of that one"
            if without_stress(foreign[0]) in unstressed:
                way_out += ", or drop stress from both with --set labels.drop_stress=true"
            raise InputError(
                f"{path} has the phone '{foreign[0]}', which {largest} lacks: {way_out}"
            )


def first_pronunciations(
    pronunciations: Mapping[str, Pronunciations], drop_stress: bool
) -> dict[str, tuple[str, ...]]:
    """Return the first pronunciation of every word, as SUPERB takes it."""
    return {
        word: tuple(map(without_stress, spoken[0])) if drop_stress else spoken[0]
        for word, spoken in pronunciations.items()
    }


def read_texts(dataset: Dataset, column: str) -> list[str | None]:
    """Return the transcript of every row; `InputError` when the index has no such column."""
    names = dataset.table.column_names
    if column not in names:
        raise InputError(
            f"{dataset.place} has no column '{column}' with transcripts: prepare it again from a "
            "corpus that has them, or name their column with --set labels.column=NAME; the "
            f"columns are {', '.join(names)}"
        )
    return dataset.column(column)


def note_left_out(
    lexicons: str, utterances: int, left_out: Mapping[str, int], missing: Counter[str]
) -> None:
    """Say on stderr how many utterances are left out, and for which words."""
    if silent := left_out[NO_TEXT]:
        note(f"left out {silent} of {utterances} utterances that have no text")
    if unknown := left_out[NO_PRONUNCIATION]:
        most = sorted(missing.items(), key=lambda each: (-each[1], each[0]))[:MOST_WORDS_NAMED]
        named = ", ".join(f"'{word}' (in {count})" for word, count in most)
        such = "such as " if len(missing) > len(most) else ""
        note(
            f"left out {unknown} of {utterances} utterances with words that {lexicons} lacks: "
            f"{len(missing)} words, {such}{named}",
        )


def note_short(
    labels: PhoneSequences, dataset: Dataset, frames: NDArray[np.int64], train: Rows
) -> None:
    """Say on stderr how many utterances to train on have fewer `frames` than their phones need.

    No path gives their phones, so nothing is learned of them. Raises `InputError` when it is all.
    """
    targets, counts = labels.targets(torch.from_numpy(train))
    needed = frames_needed(targets, counts).numpy()
    short = np.flatnonzero(needed > frames[train])
    if not len(short):
        return
    row, least = int(train[short[0]]), int(needed[short[0]])
    what = (
        f"{len(short)} of {len(train)} utterances to train on have fewer frames than their phones "
        f"need, such as '{dataset.key(row)}' with {frames[row]} of {least}"
    )
    if len(short) == len(train):
        raise InputError(
            f"{dataset.place}: {what}: take an upstream with shorter frames, or the text of each "
            "utterance alone"
        )
    note(f"{what}: nothing is learned of them")
