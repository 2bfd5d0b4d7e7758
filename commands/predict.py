"""The command `aalbert predict`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aalbert.commands.console import AsJson, show, show_skipped
from aalbert.commands.machine import DeviceOption, ThreadsOption, use_machine
from aalbert.commands.options import (
    AudioArgument,
    MaxSkippedOption,
    RunArgument,
    SplitsOption,
    listed_places,
)
from aalbert.errors import require

if TYPE_CHECKING:
    from aalbert.pipeline.corpora.corpus import Skip
    from aalbert.pipeline.embeddings.inputs import Inputs
    from aalbert.pipeline.prediction.predict import PredictConfig
    from aalbert.pipeline.prediction.predictor import Predictor


PredictionFormat = Literal["table", "jsonl", "csv", "parquet", "ctm", "textgrid"]


def predict(
    run: RunArgument,
    inputs: AudioArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder to write, in which an interrupted command continues; else stdout.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to state.")] = 1,
    per: Annotated[
        Literal["utterance", "segment", "frame"] | None,
        typer.Option(
            help="Of runs that classify frames: segment, frames of one class in turn (the "
            "default), or frame; of phone sequences segment or utterance."
        ),
    ] = None,
    format: Annotated[
        PredictionFormat | None,
        typer.Option(help="table by default, with --out jsonl; ctm and textgrid have segments."),
    ] = None,
    split: SplitsOption = None,
    device: DeviceOption = None,
    max_skipped: MaxSkippedOption = 0.001,
    threads: ThreadsOption = None,
    as_json: AsJson = False,
) -> None:
    """Label recordings with a trained run: speakers, phones, numbers, any classes it has learned.

    Example: aalbert predict runs/speaker recordings/ --top 3
    """
    from aalbert.pipeline.corpora.corpus import check_skipped
    from aalbert.pipeline.embeddings.inputs import find_inputs
    from aalbert.pipeline.prediction.predict import PredictConfig
    from aalbert.pipeline.prediction.predictor import load

    form = choose_format(format, to_files=out is not None, as_json=as_json)
    config = PredictConfig(per=per, top=top, format=form)
    use_machine(device, threads)
    predictor = load(run, device=None)
    found = replace(find_inputs(predictor, listed_places(inputs), split or ()), places=inputs)
    if out is not None:
        write_predictions(predictor, found, out, config, max_skipped, as_json)
        return
    taken, skipped = print_predictions(predictor, found, config, as_json)
    check_skipped(
        taken=taken,
        skipped=len(skipped),
        max_skipped=max_skipped,
        find_skips=lambda: skipped,
        advice="The predictions of the others are above",
    )


def choose_format(
    given: PredictionFormat | None, *, to_files: bool, as_json: bool
) -> PredictionFormat:
    """Return the format of predictions; `ConfigError` for one that does not fit where they go."""
    form = given or ("jsonl" if to_files else "table")
    require(
        to_files or form not in ("parquet", "textgrid"),
        f"--format {form} is for files: give --out FOLDER",
    )
    require(
        not to_files or form != "table",
        "--format table is for people, on stdout: use csv, or leave out --out",
    )
    require(
        to_files or not (as_json and given),
        f"--json and --format {form} exclude each other: give one of them",
    )
    return form


def write_predictions(
    predictor: "Predictor",
    inputs: "Inputs",
    out: Path,
    config: "PredictConfig",
    max_skipped: float,
    as_json: bool,
) -> None:
    """Write predictions into a folder, and print what came of it."""
    from aalbert.pipeline.embeddings.pieces import check_finished
    from aalbert.pipeline.prediction.predict import predict_into

    record = predict_into(predictor, inputs, out, config)
    text = (
        f"{out}: {record['utterances']:,} recordings, {record['hours']:.2f} hours, "
        f"{record['classes']} classes, {record['skipped']} inputs skipped"
    )
    show({"out": str(out), **record}, as_json, text)
    check_finished(out, record, max_skipped, "predictions")


def print_predictions(
    predictor: "Predictor", inputs: "Inputs", config: "PredictConfig", as_json: bool
) -> tuple[int, list["Skip"]]:
    """Print predictions on stdout as they come; return their number, and what was skipped."""
    from aalbert.pipeline.embeddings.inputs import refuse_all
    from aalbert.pipeline.prediction.predict import predict_in_turn
    from aalbert.pipeline.prediction.writers import TEXTS, as_document, as_table, header

    per, form = predictor.choose_per(config.per), config.format
    skipped, kept, taken = list(inputs.skipped), [], 0
    for predicted, unusable in predict_in_turn(predictor, inputs, config):
        if form == "table":
            # Its columns line up.
            kept += predicted
        elif predicted:
            print("" if taken else header(form, per), TEXTS[form](predicted, per), sep="", end="")
        taken += len(predicted)
        skipped += unusable
    if not taken:
        refuse_all(skipped)
    skips = [asdict(skip) for skip in skipped]
    if as_json:
        documents = [as_document(each, per) for each in kept]
        show({"predictions": documents, "skipped": skips}, True, "")
    elif kept:
        print(as_table(kept, per), end="")
    show_skipped(skips)
    return taken, skipped
