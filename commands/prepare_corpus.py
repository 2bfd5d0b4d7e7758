"""What every `aalbert prepare CORPUS` has: its options, and what is done with a corpus."""

import functools
import inspect
import shlex
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aalbert.commands.completion import complete_features, complete_settings
from aalbert.commands.console import AsJson, show
from aalbert.commands.help import RUNNING, SETTINGS
from aalbert.commands.options import ConfigFile, MaxSkippedOption, WorkersOption
from aalbert.commands.work_file import PREPARE, read_work_file
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
    list[str] | None,
    typer.Option(
        "--feature",
        metavar="NAME",
        help=FEATURES_HELP,
        rich_help_panel=SETTINGS,
        autocompletion=complete_features,
    ),
]
PartOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Only part I of N; then 'aalbert prepare finalize'.",
        rich_help_panel=RUNNING,
    ),
]


def run_prepare(
    read: Callable[[], "Corpus"],
    *,
    out: Annotated[
        str,
        typer.Option("--out", metavar="DIR", help="Folder or URL to write.", show_default=False),
    ],
    feature: FeatureOption = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting, such as logmel.mels=40; give it again for more.",
            rich_help_panel=SETTINGS,
            autocompletion=complete_settings,
        ),
    ] = None,
    config: ConfigFile = None,
    loudness_db: Annotated[
        float | None,
        typer.Option(
            metavar="DB",
            help="Scale every wave to this RMS; s3prl's recipe is -25.",
            rich_help_panel=SETTINGS,
        ),
    ] = None,
    gain_db: Annotated[
        float | None,
        typer.Option(metavar="DB", help="Amplify every wave.", rich_help_panel=SETTINGS),
    ] = None,
    trim_silence: Annotated[
        bool, typer.Option("--trim-silence", help=TRIM_HELP, rich_help_panel=SETTINGS)
    ] = False,
    strict_audio: Annotated[
        bool,
        typer.Option(
            "--strict-audio",
            help="Refuse audio that is not 16 kHz mono.",
            rich_help_panel=SETTINGS,
        ),
    ] = False,
    workers: WorkersOption = None,
    engine: Annotated[
        EngineName,
        typer.Option(help="Local processes, or a Dask cluster.", rich_help_panel=RUNNING),
    ] = "local",
    dask_address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The scheduler of --engine dask, tcp://HOST:PORT.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    part: PartOption = None,
    max_skipped: MaxSkippedOption = 0.001,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would be done and how long it takes, and do nothing.",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read a corpus, prepare it, or a part of it, and print what came of it.

    All parameters but the first are options that every command of a corpus has.
    """
    from aalbert.pipeline.prepare.recipe import load_recipe

    # Mistakes in settings are found before anything is read.
    recipe = load_recipe(
        config,
        [*silence_assignments(trim_silence), *(assignments or ()), *wave(loudness_db, gain_db)],
        work=read_work_file(PREPARE).settings,
        features=tuple(feature) if feature else None,
        strict_audio=strict_audio or None,
    )
    chosen = make_engine(engine, workers, dask_address)

    from aalbert.pipeline.prepare.estimate import estimate
    from aalbert.pipeline.prepare.output import open_output
    from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare

    corpus = read()
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
        run_prepare(functools.partial(read, **values), **options)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*own.values(), *common)
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


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
    missing = prepare_part(corpus, out, recipe, engine, part)
    place = redact_url(out)
    document: dict[str, Any] = {
        "data": place,
        "part": part.name,
        "finished": missing is None,
        "missing_parts": missing or [],
    }
    finish = f"aalbert prepare finalize {shlex.quote(place)}"
    if missing is None:
        show(document, as_json, f"{place}: the dataset is finished already")
    elif missing:
        parts = ", ".join(missing)
        text = f"{place}: part {part.name} is done, these are not: {parts}; after them: {finish}"
        show(document, as_json, text)
    else:
        show(document, as_json, f"{place}: all {part.count} parts are done", then=finish)


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
        then=next_command(place, manifest),
    )


def next_command(place: str, manifest: "Manifest") -> str:
    """Return what follows: training on the speakers of VoxCeleb1, or pretraining."""
    data = shlex.quote(place)
    if manifest.corpus == "voxceleb1":
        return f"aalbert downstream voxceleb1 --data {data} --upstream MODEL --out runs/speaker"
    return f"aalbert pretrain --preset tiny --data {data} --out runs/pretrain"
