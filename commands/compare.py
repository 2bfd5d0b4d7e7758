"""The command `aalbert compare`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from aalbert.commands.console import AsJson, show
from aalbert.commands.options import DeviceOption, MaxSkippedOption, RunArgument
from aalbert.commands.threads import ThreadsOption, use_threads
from aalbert.errors import require


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
        typer.Option("--audio", help="Folder of the files of the list, by default the list's own."),
    ] = None,
    format: Annotated[
        Literal["table", "jsonl", "csv"], typer.Option(help="How a list's scores are printed.")
    ] = "table",
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
    from dataclasses import asdict

    from aalbert.common.trial_list import ListedTrial, read_trial_list
    from aalbert.pipeline.corpora.corpus import check_skipped
    from aalbert.pipeline.prediction.predictor import load
    from aalbert.pipeline.prediction.trial_tables import (
        TABLES,
        as_document,
        describe_errors,
        describe_pair,
        describe_threshold,
    )
    from aalbert.pipeline.prediction.trials import NO_ERRORS, compare_trials, count_errors

    require(
        (trials is None) == (len(audio or ()) == 2) and (trials is None or not audio),
        f"{len(audio or ())} recordings are given{' and a list' if trials else ''}: give two, or "
        "--trials LIST",
    )
    use_threads(threads)
    predictor = load(run, device)
    if trials is None:
        listed = [ListedTrial(1, None, *(str(each) for each in audio or ()))]
        folder = Path()
    else:
        listed, folder = read_trial_list(trials), root or trials.parent
    compared, skipped = compare_trials(predictor, listed, folder)
    errors, threshold = count_errors(compared), predictor.model.threshold
    facts = {"threshold": threshold and asdict(threshold), "errors": asdict(errors)}
    if as_json:
        show({"trials": [as_document(each) for each in compared], **facts}, True, "")
    elif trials is None:
        print(describe_pair(compared[0]), describe_threshold(threshold), sep="\n")
    else:
        print(TABLES[format](compared), end="")
        print(describe_threshold(threshold), file=sys.stderr)
        if errors != NO_ERRORS:
            print(describe_errors(errors), file=sys.stderr)
    for skip in skipped:
        print(f"skipped {skip.source}: {skip.reason}", file=sys.stderr)
    check_skipped(
        taken=sum(each.similarity is not None for each in compared),
        skipped=sum(each.similarity is None for each in compared),
        max_skipped=max_skipped,
        find_skips=lambda: skipped,
        advice="The scores of the others are above",
    )
