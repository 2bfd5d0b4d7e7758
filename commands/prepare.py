"""The commands `aalbert prepare CORPUS` and `aalbert prepare finalize`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aalbert.commands.console import AsJson
from aalbert.commands.help import Group
from aalbert.commands.options import MaxSkippedOption
from aalbert.commands.prepare_corpus import prepare_command, show_manifest
from aalbert.errors import ConfigError

if TYPE_CHECKING:
    from aalbert.pipeline.corpora.corpus import Corpus


class CorpusGroup(Group):
    """The corpora by their names; it knows that a folder is no such name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is asked for; `ConfigError` for a path in its place."""
        place = Path(args[0])
        if args[0] not in self.commands and (place.exists() or len(place.parts) > 1):
            kinds = ", ".join(name for name in self.commands if name != "finalize")
            raise ConfigError(
                f"'{args[0]}' is no kind of corpus: name it before the folder ({kinds}), such as "
                f"aalbert prepare {likely_corpus(place)} {args[0]} --out DIR"
            )
        return super().resolve_command(ctx, args)


def likely_corpus(place: Path) -> str:
    """Return the kind of corpus that a place seems to be."""
    if place.is_file():
        return "manifest"
    names = {path.name for path in place.iterdir()} if place.is_dir() else set()
    if "SPEAKERS.TXT" in names or any(
        name.startswith(("train-", "dev-", "test-")) for name in names
    ):
        return "librispeech"
    return (
        "voxceleb1"
        if {"wav", "iden_split.txt"} & names or "vox" in place.name.lower()
        else "folder"
    )


prepare_app = typer.Typer(
    cls=CorpusGroup, help="Turn a corpus into shards of features.", no_args_is_help=True
)


@prepare_app.command("librispeech")
@prepare_command
def prepare_librispeech(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="The folder with train-clean-100/ or train-clean-100.tar.gz and so on.",
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
    from aalbert.pipeline.corpora.librispeech import read_librispeech
    from aalbert.pipeline.corpora.librispeech_download import download_subsets

    download_subsets(download or (), directory)
    return read_librispeech(directory, [*(subset or ()), *(download or ())])


@prepare_app.command("voxceleb1")
@prepare_command
def prepare_voxceleb1(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The folder with wav/, or dev/wav/ and test/wav/."),
    ],
    split_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The identification split; by default iden_split.txt or veri_test_class.txt.",
        ),
    ] = None,
) -> "Corpus":
    """Compute the features of VoxCeleb1 with its identification split.

    Example: aalbert prepare voxceleb1 /corpora/VoxCeleb1 --out data/voxceleb1
    """
    from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1

    return read_voxceleb1(directory, split_file)


@prepare_app.command("folder")
@prepare_command
def prepare_folder(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIRECTORY", help="The folder with audio files at any depth."),
    ],
    speaker_level: Annotated[
        int | None,
        typer.Option(
            metavar="LEVEL",
            help="The folder that names the speaker: 1 is the first below DIRECTORY, "
            "-1 the one that holds the file.",
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
        int | None,
        typer.Option(
            metavar="LEVEL", help="The folder that names the split; by default all are one."
        ),
    ] = None,
) -> "Corpus":
    """Compute the features of any folder of audio files.

    Example: aalbert prepare folder /corpora/mine --speaker-level 1 --out data/mine
    """
    from aalbert.pipeline.corpora.folder import FolderOptions, read_folder

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
            metavar="FILE",
            help="CSV, TSV, JSON or Parquet with the column path, and optionally key, speaker, "
            "split, start, end; or a list of Common Voice, NeMo, lhotse, or a Kaldi data folder.",
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder from which relative paths count; that of FILE by default."
        ),
    ] = None,
) -> "Corpus":
    """Compute the features of the recordings that a table lists.

    Example: aalbert prepare manifest corpus.csv --root /corpora/mine --out data/mine
    """
    from aalbert.pipeline.corpora.manifest_file import read_manifest_file

    return read_manifest_file(file, root)


@prepare_app.command("finalize")
def prepare_finalize(
    out: Annotated[str, typer.Argument(metavar="DIR", help="Where --part I/N wrote: the --out.")],
    max_skipped: MaxSkippedOption = 0.001,
    as_json: AsJson = False,
) -> None:
    """Finish a dataset whose parts are all computed.

    Example: aalbert prepare finalize data/librispeech
    """
    from aalbert.pipeline.prepare.prepare import finalize

    show_manifest(out, finalize(out, max_skipped), as_json)
