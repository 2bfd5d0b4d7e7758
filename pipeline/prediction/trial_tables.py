"""Compared trials as text for people, JSON lines and CSV."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from aalbert.common.csv_text import csv_text
from aalbert.common.json_files import json_lines
from aalbert.common.text import percent, text_table, visible
from aalbert.models.downstream import Threshold
from aalbert.models.trial_scorer import COSINE
from aalbert.pipeline.prediction.trials import Compared, Errors

TableFormat = Literal["table", "jsonl", "csv"]


def as_document(compared: Compared) -> dict[str, Any]:
    """Return a trial as a JSON document, without a score where there is none."""
    trial, similarity = compared.trial, compared.similarity
    return {
        "left": trial.left,
        "right": trial.right,
        **({} if trial.same is None else {"same": trial.same}),
        "cosine": similarity and similarity.cosine,
        "score": similarity and similarity.score,
        "same_speaker": similarity and similarity.same_speaker,
    }


def as_csv(compared: Sequence[Compared]) -> str:
    """Return CSV with a row a trial."""
    documents = [as_document(each) for each in compared]
    return csv_text([list(documents[0]), *(list(each.values()) for each in documents)])


def as_table(compared: Sequence[Compared]) -> str:
    """Return a table for people; `same` is what the list says, `decision` what the run does."""
    labelled = compared[0].trial.same is not None
    rows = [
        (
            each.trial.left,
            each.trial.right,
            *(("yes" if each.trial.same else "no",) if labelled else ()),
            f"{each.similarity.score:.4f}" if each.similarity else "",
            decision(each.similarity.same_speaker) if each.similarity else "not usable",
        )
        for each in compared
    ]
    header = ("left", "right", *(("same",) if labelled else ()), "score", "decision")
    return text_table([header, *rows]) + "\n"


TABLES: dict[TableFormat, Callable[[Sequence[Compared]], str]] = {
    "table": as_table,
    "jsonl": lambda compared: json_lines(map(as_document, compared), ascii=True),
    "csv": as_csv,
}


def decision(same_speaker: bool | None) -> str:
    """Return a decision in words."""
    if same_speaker is None:
        return "none"
    return "one speaker" if same_speaker else "two speakers"


def describe_threshold(threshold: Threshold | None) -> str:
    """Return the threshold in words, and what its error rates were."""
    if threshold is None:
        return "no decision: the run chose no threshold, for want of dev trials"
    return (
        f"threshold {threshold.score:.4f}: of the run's {threshold.trials:,} dev trials it missed "
        f"{percent(threshold.misses)} of those of one speaker and accepted "
        f"{percent(threshold.false_alarms)} of those of two"
    )


def describe_errors(errors: Errors) -> str:
    """Return the errors about labelled trials in words."""
    known = {"of one speaker missed": errors.misses, "of two accepted": errors.false_alarms}
    rates = [f"{percent(rate)} {name}" for name, rate in known.items() if rate is not None]
    return f"of these trials: {', '.join(rates)}"


def describe_pair(compared: Compared) -> str:
    """Return the comparison of two recordings in words."""
    trial, similarity = compared.trial, compared.similarity
    assert similarity is not None
    names = visible(f"{trial.left} and {trial.right}")
    score = f"score {similarity.score:.4f}"
    if similarity.score_is != COSINE:
        score += f" ({similarity.score_is}), cosine {similarity.cosine:.4f}"
    return f"{names}: {decision(similarity.same_speaker)}, {score}"
