"""The options that all `prepare` commands share, and how a command takes them."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aalbert.console import AsJson
from aalbert.pipeline.engine import EngineName
from aalbert.pipeline.signals import stop_on_signals

if TYPE_CHECKING:
    from aalbert.pipeline.corpus import Corpus

ReadCorpus = Callable[..., "Corpus"]
FEATURES_HELP = "logmel, fbank, mfcc or linear; give it again to store more (logmel by default)."
TRIM_HELP = "Cut silence at both ends and long silence within (settings: wave.silence)."


def prepare_options(
    out: Annotated[str, typer.Option("--out", help="Folder or URL to write.", show_default=False)],
    feature: Annotated[
        list[str] | None, typer.Option("--feature", metavar="NAME", help=FEATURES_HELP)
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting, such as logmel.mels=40."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with settings.")
    ] = None,
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
    engine: Annotated[EngineName, typer.Option(help="Who computes.")] = "local",
    dask_address: Annotated[
        str | None, typer.Option(help="The scheduler of --engine dask, tcp://HOST:PORT.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only part I of N; then 'aalbert prepare finalize'."),
    ] = None,
    max_skipped: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of inputs that may be unusable; unless 0, one always may."
        ),
    ] = 0.001,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Declare the options; the names are those that `run_prepare` takes."""


def prepare_command(read: ReadCorpus) -> Callable[..., None]:
    """Make a command of a function that reads a corpus.

    The command takes that function's arguments and then the options above, reads the
    corpus, and prepares it.
    """
    common = inspect.signature(prepare_options).parameters
    own = inspect.signature(read).parameters

    @functools.wraps(read)
    def command(**values: Any) -> None:
        from aalbert.pipeline.run import run_prepare

        options = {name: values.pop(name) for name in common}
        with stop_on_signals():
            corpus = read(**values)
            run_prepare(corpus, **options)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*own.values(), *common.values())
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
