"""The command `aalbert push`."""

from pathlib import Path
from typing import Annotated

import typer

from aalbert.commands.console import AsJson, show
from aalbert.commands.help import RUNNING
from aalbert.errors import require


def push(
    place: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run, one of its states, or a saved model.")
    ],
    name: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="Its name on the hub, made if it is new.")
    ],
    licence: Annotated[
        str,
        typer.Option(
            metavar="LICENCE",
            help="The licence of the weights, as the hub calls it, such as cc-by-4.0; needed "
            "unless the card has one.",
        ),
    ] = "",
    private: Annotated[
        bool, typer.Option("--private", help="Only you, or your organisation, may read it.")
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(
            metavar="BRANCH", help="Branch to send to, made if it is new; main by default."
        ),
    ] = None,
    message: Annotated[
        str, typer.Option(metavar="TEXT", help="Message of the commit.")
    ] = "Model of aalbert",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Prepare and check all, and send nothing.", rich_help_panel=RUNNING
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for what --dry-run prepares."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a model to the Hugging Face hub: weights, settings, modules and card, in one commit.

    'hf auth login' keeps the token that this needs. Evaluate a downstream run before: its card
    then has the results.

    Example: aalbert push runs/speaker user/speaker --licence cc-by-4.0
    """
    from aalbert.common.hub import target_place
    from aalbert.pipeline.publish import Publication, rehearse, summary_text
    from aalbert.pipeline.publish import push as push_model

    require(out is None or dry_run, "--out is for what --dry-run prepares: give both, or neither")
    publication = Publication(
        target=target_place(name, revision), licence=licence, private=private, message=message
    )
    document = rehearse(place, publication, out) if dry_run else push_model(place, publication)
    show(document, as_json, "" if as_json else summary_text(document))
