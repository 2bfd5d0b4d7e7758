"""The command line: parse, build a configuration, call one function, print.

Heavy packages are imported inside the commands, so that `--help` answers at once.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from typer.core import TyperGroup

from aalbert import __version__
from aalbert.console import exit_code_of, show
from aalbert.errors import ConfigError

if TYPE_CHECKING:
    from aalbert.pipeline.corpus import Corpus

Value = TypeVar("Value")


class InOrderOfWork(TyperGroup):
    """Lists the commands in the order in which they are used."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return the names of the commands."""
        order = ["prepare", "pretrain", "downstream", "evaluate"]
        return sorted(self.commands, key=lambda name: [*order, name].index(name))


app = typer.Typer(
    cls=InOrderOfWork,
    name="aalbert",
    help="Compute speech features once, pretrain Audio ALBERT on them, identify speakers with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
prepare_app = typer.Typer(help="Turn a corpus into shards of features.", no_args_is_help=True)
downstream_app = typer.Typer(help="Train a task on a frozen upstream.", no_args_is_help=True)
app.add_typer(prepare_app, name="prepare")
app.add_typer(downstream_app, name="downstream")

Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
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
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any setting, such as optimiser.learning_rate=5e-4."
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with settings.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random draw.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Compute speech features once, pretrain Audio ALBERT on them, identify speakers with it."""
    if version:
        print(__version__)
        raise typer.Exit


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


@app.command("pretrain")
def pretrain(
    out: Out,
    data: Annotated[Path | None, typer.Option(help="A dataset made by 'aalbert prepare'.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="A recipe: tiny, aalbert-3l, mockingjay-3l.")
    ] = None,
    config: ConfigFile = None,
    assignments: Settings = None,
    seed: Seed = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Pretrain an encoder by reconstructing masked frames.

    Example: aalbert pretrain --preset tiny --data data/librispeech --out runs/pretrain
    """
    from aalbert.train.configs import PretrainConfig
    from aalbert.train.pretrain import resume_pretraining, start_pretraining
    from aalbert.train.run_folder import RunFolder
    from aalbert.train.settings import load_config

    if resume:
        refuse_with_resume(data=data, preset=preset, config=config, set=assignments, seed=seed)
        resume_pretraining(out)
    else:
        settings = load_config(
            PretrainConfig,
            preset=preset,
            file=config,
            assignments=[*(assignments or ()), *flags(seed=seed)],
        )
        start_pretraining(settings, require(data, "--data"), out)
    losses = [row for row in RunFolder(out).read_metrics() if "validation_loss" in row]
    summary = {"run": str(out), "model": str(RunFolder(out).export), **losses[-1]}
    loss, step = losses[-1]["validation_loss"], losses[-1]["step"]
    show(
        summary, as_json, f"{out}: {step:,} steps, held-out loss {loss:.4f}; model in {out}/export"
    )


@downstream_app.command("voxceleb1")
def downstream_voxceleb1(
    out: Out,
    data: Annotated[Path | None, typer.Option(help="A dataset with train, dev and test.")] = None,
    upstream: Annotated[
        str | None, typer.Option(help="A pretraining run, a saved model, or logmel or fbank.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="last, or weighted: a learned mix of all (default).")
    ] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Draw the upstream's weights anew: the control.")
    ] = False,
    config: ConfigFile = None,
    assignments: Settings = None,
    seed: Seed = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train speaker identification on a frozen upstream.

    Example: aalbert downstream voxceleb1 --data data/voxceleb1 --upstream runs/pretrain
    --out runs/speaker
    """
    from aalbert.train.configs import DownstreamConfig
    from aalbert.train.downstream import resume_downstream, start_downstream
    from aalbert.train.run_folder import RunFolder
    from aalbert.train.settings import load_config

    if resume:
        refuse_with_resume(
            data=data,
            upstream=upstream,
            layers=layers,
            untrained=untrained,
            config=config,
            set=assignments,
            seed=seed,
        )
        resume_downstream(out)
    else:
        given = flags(seed=seed, layers=layers, untrained=untrained or None)
        settings = load_config(
            DownstreamConfig, file=config, assignments=[*(assignments or ()), *given]
        )
        start_downstream(settings, require(data, "--data"), require(upstream, "--upstream"), out)
    measured = [row for row in RunFolder(out).read_metrics() if "dev_accuracy" in row]
    best = max(measured, key=lambda row: (row["dev_accuracy"], -row["dev_loss"]))
    text = f"{out}: best accuracy on dev {100 * best['dev_accuracy']:.1f} %"
    show({"run": str(out), **best}, as_json, f"{text}; next: aalbert evaluate {out}")


@app.command("evaluate")
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Finished downstream runs.")],
    data: Annotated[Path | None, typer.Option(help="Where their dataset lies now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure runs on the test split: metrics.json and report.html in each.

    Example: aalbert evaluate runs/speaker runs/speaker-untrained runs/speaker-logmel
    """
    from dataclasses import asdict

    from aalbert.train.evaluate import evaluate_runs, results_table
    from aalbert.train.report import write_reports

    evaluations = evaluate_runs(runs, data=data)
    write_reports(evaluations)
    results = [evaluation.result for evaluation in evaluations]
    reports = "\n".join(f"report: {evaluation.run.report}" for evaluation in evaluations)
    show([asdict(result) for result in results], as_json, f"{results_table(results)}\n{reports}")


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("demo"),
) -> None:
    """Synthesise two small corpora and run the whole path on them, in under three minutes.

    Example: aalbert demo
    """
    from aalbert.demo import run_demo

    run_demo(out)


def flags(**values: object) -> list[str]:
    """Return the flags that were given as assignments, which win over all other settings."""
    return [f"{name}={json.dumps(value)}" for name, value in values.items() if value is not None]


def require(value: Value | None, option: str) -> Value:
    """Return the value of an option that only `--resume` makes needless."""
    if value is None:
        raise ConfigError(f"missing option {option} (or --resume, to continue the run in --out)")
    return value


def refuse_with_resume(**values: object) -> None:
    """Raise `ConfigError` when a setting is given to a run that has its own."""
    given = [f"--{name}" for name, value in values.items() if value]
    if given:
        raise ConfigError(
            f"--resume continues a run with its own settings: leave out {', '.join(given)}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return exit_code_of(lambda: app(arguments, standalone_mode=False))


if __name__ == "__main__":
    sys.exit(main())
