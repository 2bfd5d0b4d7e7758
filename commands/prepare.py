"""The commands `aalbert prepare CORPUS` and `aalbert prepare finalize`."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aalbert.commands.console import AsJson, show
from aalbert.commands.help import Group
from aalbert.commands.options import ConfigFile, MaxSkippedOption
from aalbert.common.notes import note
from aalbert.common.redaction import redact_url
from aalbert.errors import ConfigError
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND

if TYPE_CHECKING:
    from aalbert.pipeline.corpora.corpus import Corpus
    from aalbert.pipeline.prepare.config import PrepareConfig
    from aalbert.pipeline.prepare.engine import Engine
    from aalbert.shards.format.manifest import Manifest

EngineName = Literal["local", "dask"]
FEATURES_HELP = (
    f"One of {', '.join(SETTINGS_BY_KIND)}; give it again to store more (logmel by default)."
)
TRIM_HELP = "Cut silence at both ends and long silence within (settings: wave.silence)."

FeatureOption = Annotated[
    list[str] | None, typer.Option("--feature", metavar="NAME", help=FEATURES_HELP)
]
PartOption = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Only part I of N; then 'aalbert prepare finalize'."),
]

prepare_app = typer.Typer(
    cls=Group, help="Turn a corpus into shards of features.", no_args_is_help=True
)


def run_prepare(
    corpus: "Corpus",
    *,
    out: Annotated[str, typer.Option("--out", help="Folder or URL to write.", show_default=False)],
    feature: FeatureOption = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting, such as logmel.mels=40."),
    ] = None,
    config: ConfigFile = None,
    loudness_db: Annotated[
        float | None, typer.Option(help="Scale every wave to this RMS; s3prl's recipe is -25.")
    ] = None,
    gain_db: Annotated[float | None, typer.Option(help="Amplify every wave.")] = None,
    trim_silence: Annotated[bool, typer.Option("--trim-silence", help=TRIM_HELP)] = False,
    strict_audio: Annotated[
        bool, typer.Option("--strict-audio", help="Refuse audio that is not 16 kHz mono.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; all cores by default.")
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="Local processes, or a Dask cluster.")
    ] = "local",
    dask_address: Annotated[
        str | None, typer.Option(help="The scheduler of --engine dask, tcp://HOST:PORT.")
    ] = None,
    part: PartOption = None,
    max_skipped: MaxSkippedOption = 0.001,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prepare a corpus, or a part of it, and print what came of it.

    All parameters but the corpus are options that every command of a corpus has.
    """
    from aalbert.pipeline.prepare.estimate import estimate
    from aalbert.pipeline.prepare.output import open_output
    from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
    from aalbert.pipeline.prepare.recipe import load_recipe

    recipe = load_recipe(
        config,
        [*silence_assignments(trim_silence), *(assignments or ()), *wave(loudness_db, gain_db)],
        features=tuple(feature) if feature else None,
        strict_audio=strict_audio or None,
    )
    chosen = make_engine(engine, workers, dask_address)
    for text in corpus.notes:
        note(f"note: {text}")
    if dry_run:
        expected = estimate(corpus, open_output(out), recipe, chosen, max_skipped)
        place = redact_url(out)
        show({"data": place, **asdict(expected)}, as_json, f"{place}: {expected.describe()}")
    elif part is not None:
        run_part(corpus, out, recipe, chosen, part, as_json)
    else:
        limits = PrepareLimits(engine=chosen, max_skipped=max_skipped)
        show_manifest(out, prepare(corpus, out, recipe, limits), as_json)


def prepare_command(read: Callable[..., "Corpus"]) -> Callable[..., None]:
    """Make a command of a function that reads a corpus.

    The command takes that function's arguments and then the options of `run_prepare`, reads
    the corpus, and prepares it.
    """
    own = inspect.signature(read).parameters
    _, *common = inspect.signature(run_prepare).parameters.values()

    @functools.wraps(read)
    def command(**values: Any) -> None:
        options = {parameter.name: values.pop(parameter.name) for parameter in common}
        run_prepare(read(**values), **options)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*own.values(), *common)
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


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
    from aalbert.pipeline.corpora.librispeech import read_librispeech
    from aalbert.pipeline.corpora.librispeech_download import download_subsets

    download_subsets(download or (), directory)
    return read_librispeech(directory, [*(subset or ()), *(download or ())])


@prepare_app.command("voxceleb1")
@prepare_command
def prepare_voxceleb1(
    directory: Annotated[
        Path, typer.Argument(help="The folder with wav/, or dev/wav/ and test/wav/.")
    ],
    split_file: Annotated[
        Path | None,
        typer.Option(
            help="The identification split; by default iden_split.txt or veri_test_class.txt."
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
            help="CSV, TSV, JSON or Parquet with the column path, and optionally key, speaker, "
            "split, start, end; or a list of Common Voice, NeMo, lhotse, or a Kaldi data folder."
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
    from aalbert.pipeline.corpora.manifest_file import read_manifest_file

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
    from aalbert.pipeline.prepare.prepare import finalize

    show_manifest(out, finalize(out, max_skipped), as_json)


def make_engine(
    name: EngineName = "local", workers: int | None = None, dask_address: str | None = None
) -> "Engine":
    """Return the engine that the options ask for; `ConfigError` when they contradict each other."""
    if name == "dask":
        from aalbert.pipeline.prepare.dask_engine import DaskEngine

        if dask_address is None or workers is not None:
            raise ConfigError(
                "--engine dask needs --dask-address tcp://HOST:PORT of a scheduler, and the "
                "cluster decides about its workers: leave out --workers"
            )
        return DaskEngine(address=dask_address)
    if dask_address is not None:
        raise ConfigError(f"--dask-address {dask_address} needs --engine dask")
    from aalbert.common.cores import available_cores
    from aalbert.pipeline.prepare.engine import LocalEngine

    return LocalEngine(workers=workers or available_cores())


def silence_assignments(trim_silence: bool) -> list[str]:
    """Return what --trim-silence means: the defaults, over which other settings may go."""
    from aalbert.shards.format.wave_settings import SilenceSettings

    defaults = asdict(SilenceSettings()) if trim_silence else {}
    return [f"wave.silence.{name}={value}" for name, value in defaults.items()]


def wave(loudness_db: float | None, gain_db: float | None) -> list[str]:
    """Return the flags about the wave as assignments."""
    flags = {"loudness_db": loudness_db, "gain_db": gain_db}
    return [f"wave.{name}={value}" for name, value in flags.items() if value is not None]


def run_part(
    corpus: "Corpus",
    out: str,
    recipe: "PrepareConfig",
    engine: "Engine",
    text: str,
    as_json: bool,
) -> None:
    """Prepare one part and say how to go on."""
    from aalbert.pipeline.prepare.prepare import prepare_part
    from aalbert.pipeline.prepare.work_folder import parse_part

    part = parse_part(text)
    computed = prepare_part(corpus, out, recipe, engine, part)
    place = redact_url(out)
    document: dict[str, Any] = {"data": place, "part": part.name, "finished": not computed}
    words = (
        f"{place}: part {part.name} is done; when all are: aalbert prepare finalize {place}"
        if computed
        else f"{place}: the dataset is finished already"
    )
    show(document, as_json, words)


def show_manifest(out: str, manifest: "Manifest", as_json: bool) -> None:
    """Print what a dataset holds."""
    place = redact_url(out)
    splits = {name: split.utterances for name, split in manifest.splits.items()}
    summary = {
        "data": place,
        "utterances": manifest.utterances,
        "hours": round(manifest.hours, 4),
        "splits": splits,
        "skipped": manifest.skipped,
        "fingerprint": manifest.fingerprint,
    }
    listed = ", ".join(f"{name} {count:,}" for name, count in splits.items())
    show(
        summary,
        as_json,
        f"{place}: {manifest.utterances:,} utterances, {manifest.hours:.2f} hours ({listed}), "
        f"{manifest.skipped} inputs skipped",
    )
