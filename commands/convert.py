"""The command `aalbert convert`."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from aalbert.commands.console import AsJson, show
from aalbert.commands.help import RUNNING, SETTINGS


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A checkpoint of s3prl or of the AALBERT repository: a file, a URL, or "
            "hf://USER/MODEL/FILE; with --to s3prl also a model or a pretraining run.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="PLACE",
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
            rich_help_panel=SETTINGS,
            help="A feature setting that the checkpoint does not hold, such as logmel.fft_size=400 "
            "or front_end.deltas=1.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Read and check all, and write nothing.", rich_help_panel=RUNNING
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import a checkpoint of another system, or write a model for s3prl.

    No code in the checkpoint is run.

    Example: aalbert convert states-1000000.ckpt --out models/audio-albert
    """
    from aalbert.pipeline.convert import convert_to_aalbert, convert_to_s3prl, summary_text

    write = convert_to_aalbert if to == "aalbert" else convert_to_s3prl
    document = write(source, out, assignments or (), dry_run=dry_run)
    then = f"aalbert downstream voxceleb1 --data DATA --upstream {shlex.quote(str(out))} --out RUN"
    usable = to == "aalbert" and not dry_run
    show(
        document, as_json, "" if as_json else summary_text(document), then=then if usable else None
    )
