"""The commands of this room: `aalbert prepare CORPUS`, `aalbert prepare finalize`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aalbert.console import AsJson
from aalbert.pipeline.options import prepare_command
from aalbert.pipeline.signals import stop_on_signals

if TYPE_CHECKING:
    from aalbert.pipeline.corpus import Corpus

prepare_app = typer.Typer(help="Turn a corpus into shards of features.", no_args_is_help=True)


@prepare_app.command("librispeech")
@prepare_command
def prepare_librispeech(
    directory: Annotated[
        Path,
        typer.Argument(
            help="The folder with train-clean-100/ or train-clean-100.tar.gz and so on."
        ),
    ],
    subset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this subset; give it again for more."),
    ] = None,
    download: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="First fetch this subset's archive; give it again for more."
        ),
    ] = None,
) -> "Corpus":
    """Compute the features of LibriSpeech.

    Audio in .tar.gz archives is read where it lies, nothing is unpacked. --download fetches
    archives into the folder and, like --subset, says what is prepared.

    Example: aalbert prepare librispeech /corpora/LibriSpeech --out data/librispeech
    """
    from aalbert.pipeline.download import download_subsets
    from aalbert.pipeline.librispeech import read_librispeech

    download_subsets(download or (), directory)
    return read_librispeech(directory, [*(subset or ()), *(download or ())])


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


@prepare_app.command("folder")
@prepare_command
def prepare_folder(
    directory: Annotated[Path, typer.Argument(help="The folder with audio files at any depth.")],
    speaker_level: Annotated[
        int | None,
        typer.Option(
            help="The folder that names the speaker: 1 is the first below DIRECTORY, "
            "-1 the one that holds the file."
        ),
    ] = None,
    speaker_pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Regular expression searched for in the path below DIRECTORY; its groups speaker "
            "and split mean these, other named groups become columns.",
        ),
    ] = None,
    split_level: Annotated[
        int | None, typer.Option(help="The folder that names the split; by default all are one.")
    ] = None,
) -> "Corpus":
    """Compute the features of any folder of audio files.

    Example: aalbert prepare folder /corpora/mine --speaker-level 1 --out data/mine
    """
    from aalbert.pipeline.folder import FolderOptions, read_folder

    options = FolderOptions(
        speaker_level=speaker_level, speaker_pattern=speaker_pattern, split_level=split_level
    )
    return read_folder(directory, options)


@prepare_app.command("manifest")
@prepare_command
def prepare_manifest(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV, TSV, JSON lines or Parquet with the column path, and optionally key, "
            "speaker, split, start, end; other columns are kept."
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder from which relative paths count; that of FILE by default."),
    ] = None,
) -> "Corpus":
    """Compute the features of the recordings that a table lists.

    Example: aalbert prepare manifest corpus.csv --root /corpora/mine --out data/mine
    """
    from aalbert.pipeline.manifest_file import read_manifest_file

    return read_manifest_file(file, root)


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

    with stop_on_signals():
        run_finalize(out, max_skipped, as_json)
