"""The command `aalbert predict`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from aalbert.commands.console import AsJson, show
from aalbert.commands.options import (
    AudioArgument,
    DeviceOption,
    MaxSkippedOption,
    RunArgument,
    SplitsOption,
    listed_places,
)
from aalbert.commands.threads import ThreadsOption, use_threads
from aalbert.errors import require


def predict(
    run: RunArgument,
    inputs: AudioArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder to write, in which an interrupted command continues; else stdout."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to state.")] = 1,
    per: Annotated[
        Literal["utterance", "segment", "frame"] | None,
        typer.Option(
            help="Of runs that classify frames: segment, frames of one class in turn (the "
            "default), or frame."
        ),
    ] = None,
    format: Annotated[
        Literal["table", "jsonl", "csv", "parquet", "ctm", "textgrid"] | None,
        typer.Option(help="table by default, with --out jsonl; ctm and textgrid have segments."),
    ] = None,
    split: SplitsOption = None,
    device: DeviceOption = None,
    max_skipped: MaxSkippedOption = 0.001,
    threads: ThreadsOption = None,
    as_json: AsJson = False,
) -> None:
    """Label recordings with a trained run: speakers, phones, any classes it was trained on.

    Example: aalbert predict runs/speaker recordings/ --top 3
    """
    from aalbert.pipeline.corpora.corpus import check_skipped, read_skips
    from aalbert.pipeline.embeddings.inputs import find_inputs
    from aalbert.pipeline.prediction.predict import (
        SKIPPED_NAME,
        PredictConfig,
        predict_here,
        predict_into,
    )
    from aalbert.pipeline.prediction.predictor import load
    from aalbert.pipeline.prediction.writers import TEXTS, as_document

    form = format or ("jsonl" if out else "table")
    require(
        out is not None or form in TEXTS,
        f"--format {form} is for files: give --out FOLDER",
    )
    config = PredictConfig(per=per, top=top, format=form)
    use_threads(threads)
    predictor = load(run, device)
    found = find_inputs(predictor, listed_places(inputs), split or ())
    if out is not None:
        record = predict_into(predictor, found, out, config)
        text = (
            f"{out}: {record['utterances']:,} recordings, {record['hours']:.2f} hours, "
            f"{record['classes']} classes, {record['skipped']} inputs skipped"
        )
        show({"out": str(out), **record}, as_json, text)
        check_skipped(
            taken=record["utterances"],
            skipped=record["skipped"],
            max_skipped=max_skipped,
            find_skips=lambda: read_skips(out / SKIPPED_NAME),
            advice=f"The predictions of the others are complete; see {out / SKIPPED_NAME}",
        )
        return
    predicted, skipped = predict_here(predictor, found, config)
    kind = predictor.choose_per(per)
    if as_json:
        show({"predictions": [as_document(each, kind) for each in predicted]}, True, "")
    else:
        print(TEXTS[form](predicted, kind), end="")
    for skip in skipped:
        print(f"skipped {skip.source}: {skip.reason}", file=sys.stderr)
    check_skipped(
        taken=len(predicted),
        skipped=len(skipped),
        max_skipped=max_skipped,
        find_skips=lambda: skipped,
        advice="The predictions of the others are above",
    )
