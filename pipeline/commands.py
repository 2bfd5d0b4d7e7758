"""The commands of this room: `aalbert prepare CORPUS`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aalbert.console import AsJson, Out, show

if TYPE_CHECKING:
    from aalbert.pipeline.corpus import Corpus

prepare_app = typer.Typer(help="Turn a corpus into shards of features.", no_args_is_help=True)

Features = Annotated[
    list[str],
    typer.Option("--feature", metavar="NAME", help="logmel or fbank; give it twice to store both."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")
]
MaxSkipped = Annotated[
    float,
    typer.Option(
        "--max-skipped",
        min=0,
        max=1,
        help="Share of inputs that may be unusable; unless 0, one always may.",
    ),
]
StrictAudio = Annotated[
    bool, typer.Option("--strict-audio", help="Refuse audio that is not 16 kHz mono.")
]


@prepare_app.command("librispeech")
def prepare_librispeech(
    directory: Annotated[Path, typer.Argument(help="The folder with train-clean-100/ and so on.")],
    out: Out,
    subset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this subset; give it again for more."),
    ] = None,
    feature: Features = ["logmel"],  # noqa: B006 - Typer reads the default, nobody changes it
    workers: Workers = None,
    max_skipped: MaxSkipped = 0.001,
    strict_audio: StrictAudio = False,
    as_json: AsJson = False,
) -> None:
    """Compute the features of LibriSpeech.

    Example: aalbert prepare librispeech /corpora/LibriSpeech --out data/librispeech
    """
    from aalbert.pipeline.librispeech import read_librispeech

    corpus = read_librispeech(directory, subset or ())
    run_prepare(corpus, out, feature, workers, max_skipped, strict_audio, as_json)


@prepare_app.command("voxceleb1")
def prepare_voxceleb1(
    directory: Annotated[
        Path, typer.Argument(help="The folder with wav/, or dev/wav/ and test/wav/.")
    ],
    out: Out,
    split_file: Annotated[
        Path | None, typer.Option(help="The identification split; iden_split.txt by default.")
    ] = None,
    feature: Features = ["logmel"],  # noqa: B006 - Typer reads the default, nobody changes it
    workers: Workers = None,
    max_skipped: MaxSkipped = 0.001,
    strict_audio: StrictAudio = False,
    as_json: AsJson = False,
) -> None:
    """Compute the features of VoxCeleb1 with its identification split.

    Example: aalbert prepare voxceleb1 /corpora/VoxCeleb1 --out data/voxceleb1
    """
    from aalbert.pipeline.voxceleb1 import read_voxceleb1

    corpus = read_voxceleb1(directory, split_file)
    run_prepare(corpus, out, feature, workers, max_skipped, strict_audio, as_json)


@prepare_app.command("folder")
def prepare_folder(
    directory: Annotated[Path, typer.Argument(help="The folder with audio files at any depth.")],
    out: Out,
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
    feature: Features = ["logmel"],  # noqa: B006 - Typer reads the default, nobody changes it
    workers: Workers = None,
    max_skipped: MaxSkipped = 0.001,
    strict_audio: StrictAudio = False,
    as_json: AsJson = False,
) -> None:
    """Compute the features of any folder of audio files.

    Example: aalbert prepare folder /corpora/mine --speaker-level 1 --out data/mine
    """
    from aalbert.pipeline.folder import FolderOptions, read_folder

    options = FolderOptions(
        speaker_level=speaker_level, speaker_pattern=speaker_pattern, split_level=split_level
    )
    corpus = read_folder(directory, options)
    run_prepare(corpus, out, feature, workers, max_skipped, strict_audio, as_json)


@prepare_app.command("manifest")
def prepare_manifest(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV, TSV, JSON lines or Parquet with the column path, and optionally key, "
            "speaker, split, start, end; other columns are kept."
        ),
    ],
    out: Out,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder from which relative paths count; that of FILE by default."),
    ] = None,
    feature: Features = ["logmel"],  # noqa: B006 - Typer reads the default, nobody changes it
    workers: Workers = None,
    max_skipped: MaxSkipped = 0.001,
    strict_audio: StrictAudio = False,
    as_json: AsJson = False,
) -> None:
    """Compute the features of the recordings that a table lists.

    Example: aalbert prepare manifest corpus.csv --root /corpora/mine --out data/mine
    """
    from aalbert.pipeline.manifest_file import read_manifest_file

    corpus = read_manifest_file(file, root)
    run_prepare(corpus, out, feature, workers, max_skipped, strict_audio, as_json)


def run_prepare(
    corpus: "Corpus",
    out: Path,
    features: Sequence[str],
    workers: int | None,
    max_skipped: float,
    strict_audio: bool,
    as_json: bool,
) -> None:
    """Prepare a corpus and print what came of it."""
    from aalbert.pipeline.plan import PrepareConfig
    from aalbert.pipeline.prepare import PrepareLimits, prepare
    from aalbert.shards.settings import default_settings

    settings = tuple(default_settings(kind) for kind in dict.fromkeys(features))
    config = PrepareConfig(features=settings, strict_audio=strict_audio)
    limits = PrepareLimits(max_skipped=max_skipped)
    if workers is not None:
        limits = PrepareLimits(max_skipped=max_skipped, workers=workers)
    for note in corpus.notes:
        print(f"note: {note}", file=sys.stderr)
    manifest = prepare(corpus, out, config, limits)
    summary = {
        "data": str(out),
        "utterances": manifest.utterances,
        "hours": round(manifest.hours, 4),
        "splits": {name: split.utterances for name, split in manifest.splits.items()},
        "skipped": manifest.skipped,
        "fingerprint": manifest.fingerprint,
    }
    splits = ", ".join(f"{name} {count:,}" for name, count in summary["splits"].items())  # type: ignore[attr-defined]
    show(
        summary,
        as_json,
        f"{out}: {manifest.utterances:,} utterances, {manifest.hours:.2f} hours ({splits}), "
        f"{manifest.skipped} inputs skipped",
    )
