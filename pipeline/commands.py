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
    directory: Annotated[
        Path,
        typer.Argument(
            help="The folder with train-clean-100/ or train-clean-100.tar.gz and so on."
        ),
    ],
    out: Out,
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
    feature: Features = ["logmel"],  # noqa: B006 - Typer reads the default, nobody changes it
    workers: Workers = None,
    max_skipped: MaxSkipped = 0.001,
    strict_audio: StrictAudio = False,
    as_json: AsJson = False,
) -> None:
    """Compute the features of LibriSpeech.

    Audio in .tar.gz archives is read where it lies, nothing is unpacked. --download fetches
    archives into the folder and, like --subset, says what is prepared.

    Example: aalbert prepare librispeech /corpora/LibriSpeech --out data/librispeech
    """
    from aalbert.pipeline.download import download_subsets
    from aalbert.pipeline.librispeech import read_librispeech
    from aalbert.pipeline.prepare import archive_cache

    cache = archive_cache(out)
    download_subsets(download or (), directory)
    corpus = read_librispeech(directory, [*(subset or ()), *(download or ())], cache)
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
