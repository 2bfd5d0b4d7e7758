"""The commands of this room: `aalbert prepare CORPUS`, `aalbert prepare finalize`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aalbert.console import AsJson
from aalbert.pipeline.options import prepare_command

if TYPE_CHECKING:
    from aalbert.pipeline.corpus import Corpus

prepare_app = typer.Typer(help="Turn a corpus into shards of features.", no_args_is_help=True)


@prepare_app.command("librispeech")
@prepare_command
def prepare_librispeech(
    directory: Annotated[Path, typer.Argument(help="The folder with train-clean-100/ and so on.")],
    subset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this subset; give it again for more."),
    ] = None,
) -> "Corpus":
    """Compute the features of LibriSpeech.

    Example: aalbert prepare librispeech /corpora/LibriSpeech --out data/librispeech
    """
    from aalbert.pipeline.librispeech import read_librispeech

    return read_librispeech(directory, subset or ())


@prepare_app.command("voxceleb1")
@prepare_command
def prepare_voxceleb1(
    directory: Annotated[
        Path, typer.Argument(help="The folder with wav/, or dev/wav/ and test/wav/.")
    ],
    split_file: Annotated[
        Path | None, typer.Option(help="The identification split; iden_split.txt by default.")
    ] = None,
) -> "Corpus":
    """Compute the features of VoxCeleb1 with its identification split.

    Example: aalbert prepare voxceleb1 /corpora/VoxCeleb1 --out data/voxceleb1
    """
    from aalbert.pipeline.voxceleb1 import read_voxceleb1

    return read_voxceleb1(directory, split_file)


@prepare_app.command("finalize")
def prepare_finalize(
    out: Annotated[str, typer.Argument(metavar="DIR", help="Where --part I/N wrote: the --out.")],
    max_skipped: Annotated[
        float, typer.Option(min=0, max=1, help="Share of inputs that may be unusable.")
    ] = 0.001,
    as_json: AsJson = False,
) -> None:
    """Finish a dataset whose parts are all computed.

    Example: aalbert prepare finalize data/librispeech
    """
    from aalbert.pipeline.run import run_finalize

    run_finalize(out, max_skipped, as_json)
