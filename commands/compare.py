"""The command `aalbert compare`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aalbert.commands.console import AsJson, show, show_skipped
from aalbert.commands.machine import DeviceOption, ThreadsOption, use_machine
from aalbert.commands.options import MaxSkippedOption, RunArgument
from aalbert.common.notes import note
from aalbert.errors import InputError, require

if TYPE_CHECKING:
    from aalbert.common.trial_list import ListedTrial
    from aalbert.models.downstream import DownstreamModel
    from aalbert.pipeline.corpora.corpus import Skip
    from aalbert.pipeline.prediction.trial_tables import TableFormat
    from aalbert.pipeline.prediction.trials import Compared


def compare(
    run: RunArgument,
    audio: Annotated[
        list[Path] | None, typer.Argument(metavar="[A B]", help="Two recordings.")
    ] = None,
    trials: Annotated[
        Path | None,
        typer.Option(
            metavar="LIST", help="A list of trials, FILE FILE or, with a label, 1 FILE FILE."
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--audio",
            metavar="DIR",
            help="Folder of the files of the list, by default the list's own.",
        ),
    ] = None,
    format: Annotated[
        Literal["table", "jsonl", "csv"] | None,
        typer.Option(help="How trials are printed: a list as a table, two recordings in words."),
    ] = None,
    device: DeviceOption = None,
    max_skipped: MaxSkippedOption = 0.001,
    threads: ThreadsOption = None,
    as_json: AsJson = False,
) -> None:
    """Say whether two recordings are of one speaker, with a run of verification.

    The decision is by the threshold that the run chose on its dev part. For trials of a prepared
    dataset: aalbert evaluate RUN --set trials.test=LIST.

    Example: aalbert compare runs/verification a.wav b.wav
    """
    from aalbert.pipeline.corpora.corpus import check_skipped
    from aalbert.pipeline.prediction.predictor import load
    from aalbert.pipeline.prediction.trials import compare_trials

    require(
        not (as_json and format),
        f"--json and --format {format} exclude each other: give one of them",
    )
    listed, folder = find_trials(audio or (), trials, root)
    use_machine(device, threads)
    predictor = load(run, device=None)
    compared, skipped = compare_trials(predictor, listed, folder)
    if as_json:
        print_document(compared, skipped, predictor.model)
    else:
        print_comparison(compared, predictor.model, format, in_words=trials is None)
    show_skipped([asdict(skip) for skip in skipped])
    check_skipped(
        taken=sum(each.similarity is not None for each in compared),
        skipped=sum(each.similarity is None for each in compared),
        max_skipped=max_skipped,
        find_skips=lambda: skipped,
        advice="The scores of the others are above",
    )


def find_trials(
    audio: Sequence[Path], trials: Path | None, root: Path | None
) -> tuple[Sequence["ListedTrial"], Path]:
    """Return the trial of two recordings, or those of a list, and the folder of their files."""
    from aalbert.common.trial_list import ListedTrial, read_trial_list

    require(
        (trials is None) == (len(audio) == 2) and (trials is None or not audio),
        f"recordings beside RUN: {len(audio)}{' and a list' if trials else ''}: give two, or "
        "--trials LIST",
    )
    if trials is not None:
        return read_trial_list(trials), root or trials.parent
    left, right = require_files(audio)
    return [ListedTrial(1, None, left, right)], Path()


def print_document(
    compared: Sequence["Compared"], skipped: Sequence["Skip"], model: "DownstreamModel"
) -> None:
    """Print trials as one JSON document."""
    from aalbert.pipeline.prediction.trial_tables import as_document
    from aalbert.pipeline.prediction.trials import count_errors

    document = {
        "trials": [as_document(each) for each in compared],
        "score_is": model.scorer.describe(),
        "threshold": model.threshold and asdict(model.threshold),
        "errors": asdict(count_errors(compared)),
        "skipped": [asdict(skip) for skip in skipped],
    }
    show(document, True, "")


def print_comparison(
    compared: Sequence["Compared"],
    model: "DownstreamModel",
    format: "TableFormat | None",
    *,
    in_words: bool,
) -> None:
    """Print trials in a format, or without one a single trial `in_words`, others as a table."""
    from aalbert.pipeline.prediction.trial_tables import (
        TABLES,
        describe_errors,
        describe_pair,
        describe_threshold,
    )
    from aalbert.pipeline.prediction.trials import NO_ERRORS, count_errors

    if in_words and format is None:
        print(describe_pair(compared[0]), describe_threshold(model.threshold), sep="\n")
        return
    print(TABLES[format or "table"](compared), end="")
    note(f"the score is the {model.scorer.describe()}")
    note(describe_threshold(model.threshold))
    errors = count_errors(compared)
    if errors != NO_ERRORS:
        note(describe_errors(errors))


def require_files(paths: Sequence[Path]) -> list[str]:
    """Return paths as text; `InputError` for one where no file is."""
    for path in paths:
        if not path.is_file():
            raise InputError(f"there is no file {path}: give two recordings")
    return [str(path) for path in paths]
