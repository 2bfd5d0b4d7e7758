"""`compare`: trials of two recordings each, by the embeddings of a run of verification."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from aalbert.common.progress import SHORT_WAIT_S, progress_bar
from aalbert.common.trial_list import ListedTrial
from aalbert.errors import InputError
from aalbert.models.finite import require_finite
from aalbert.models.trial_scorer import Voices
from aalbert.pipeline.corpora.corpus import Skip
from aalbert.pipeline.embeddings.inputs import (
    Recording,
    audio_recording,
    by_length,
    prefetch,
    read_file,
    refuse_all,
)
from aalbert.pipeline.prediction.predictor import Predictor, Similarity


@dataclass(frozen=True)
class Compared:
    """A trial and how similar its utterances are; None where one of them cannot be used."""

    trial: ListedTrial
    similarity: Similarity | None


@dataclass(frozen=True)
class Errors:
    """The errors of decisions about labelled trials, as shares of those of one speaker and of two.

    They are None where a list has none of a kind.
    """

    misses: float | None
    false_alarms: float | None


NO_ERRORS = Errors(misses=None, false_alarms=None)


def compare_trials(
    predictor: Predictor, trials: Sequence[ListedTrial], root: Path
) -> tuple[list[Compared], list[Skip]]:
    """Return the trials with their similarity, in order, and the recordings that were skipped.

    Names are paths below `root`, or absolute. Raises `ConfigError` when the run does not compare,
    `InputError` for a file that is not there, or when no trial can be used.
    """
    predictor.require_comparison()
    recordings, skipped = find_named(predictor, trials, root)
    sources, voices = read_voices(predictor, recordings, skipped)
    compared = []
    for trial in trials:
        names = [str(root / name) for name in (trial.left, trial.right)]
        places = [sources[name] for name in names if name in sources]
        known = len(places) == len(names)
        similarity = predictor.similarity_of(voices, *places) if known else None
        compared.append(Compared(trial, similarity))
    if not any(each.similarity for each in compared):
        refuse_all(skipped)
    return compared, skipped


def find_named(
    predictor: Predictor, trials: Sequence[ListedTrial], root: Path
) -> tuple[list[Recording], list[Skip]]:
    """Return the recordings that trials name, each once, and those that are unusable."""
    recordings: list[Recording] = []
    skipped: list[Skip] = []
    for name in dict.fromkeys(name for trial in trials for name in (trial.left, trial.right)):
        path = root / name
        if not path.is_file():
            raise InputError(
                f"there is no file {path}, which a trial names: say below which folder the "
                "recordings lie with --audio FOLDER"
            )
        corpus = read_file(str(path), name)
        recordings += [audio_recording(predictor, each) for each in corpus.utterances]
        skipped += corpus.skipped
    return recordings, skipped


def read_voices(
    predictor: Predictor, recordings: Sequence[Recording], skipped: list[Skip]
) -> tuple[dict[str, int], Voices]:
    """Return the place of each source, and the utterances in these places as they are compared.

    Unusable ones go to `skipped`; raises `InputError` when all are.
    """
    embeddings: dict[str, Tensor] = {}
    frames: list[int] = []
    total = len(recordings)
    with progress_bar("compare", total=total, unit="file", delay_s=SHORT_WAIT_S) as bar:
        loaded = (
            ((recording.source, len(audio.features)), audio.features)
            for recording, audio in prefetch(by_length(recordings), skipped)
        )
        for (source, count), embedding in predictor.outputs(loaded, predictor.model.head.embed):
            require_finite(embedding, source)
            embeddings[source] = embedding.float().cpu()
            frames.append(count)
            bar.update()
    if not embeddings:
        refuse_all(skipped)
    places = {source: place for place, source in enumerate(embeddings)}
    return places, predictor.voices(list(embeddings.values()), frames)


def count_errors(compared: Sequence[Compared]) -> Errors:
    """Return the errors of the decisions about the trials that have a label and a decision."""
    rejected: dict[bool, list[bool]] = {True: [], False: []}
    for each in compared:
        similarity = each.similarity
        if each.trial.same is not None and similarity and similarity.same_speaker is not None:
            rejected[each.trial.same].append(not similarity.same_speaker)
    misses, rejections = rejected[True], rejected[False]
    return Errors(
        misses=sum(misses) / len(misses) if misses else None,
        false_alarms=1 - sum(rejections) / len(rejections) if rejections else None,
    )
