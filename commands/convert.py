"""The command `aalbert convert`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from aalbert.commands.console import AsJson, show


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A checkpoint of s3prl or of the AALBERT repository: a file, a URL, or "
            "hf://USER/MODEL/FILE; with --to s3prl also a model or a pretraining run."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Folder to write; with --to s3prl a file, or a folder where s3prl's layout cannot "
            "hold the model.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Literal["aalbert", "s3prl"], typer.Option("--to", help="The layout to write.")
    ] = "aalbert",
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A feature setting that the checkpoint does not hold, such as logmel.fft_size=400 "
            "or front_end.deltas=1.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import a checkpoint of another system, or write a model for s3prl.

    No code in the checkpoint is run.

    Example: aalbert convert states-1000000.ckpt --out models/audio-albert
    """
    from aalbert.pipeline.convert import convert_to_aalbert, convert_to_s3prl, summary_text

    write = convert_to_aalbert if to == "aalbert" else convert_to_s3prl
    document = write(source, out, assignments or ())
    show(document, as_json, "" if as_json else summary_text(document))
