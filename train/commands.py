"""The commands of this room: `aalbert pretrain`, `aalbert downstream TASK`, `aalbert evaluate`."""

import json
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from aalbert.console import AsJson, Out, show
from aalbert.errors import ConfigError

Value = TypeVar("Value")

downstream_app = typer.Typer(help="Train a task on a frozen upstream.", no_args_is_help=True)

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Any setting, such as optimiser.learning_rate=5e-4."
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file with settings.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random draw.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]


def pretrain(
    out: Out,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Folder or URL of a dataset; give it again for several."),
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="How often an epoch has each utterance of the dataset in that place."),
    ] = None,
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
    from aalbert.configuration import load_config
    from aalbert.train.configs import PretrainConfig
    from aalbert.train.presets import read_preset
    from aalbert.train.pretrain import resume_pretraining, start_pretraining
    from aalbert.train.run_folder import RunFolder

    if resume:
        refuse_with_resume(
            data=data, weight=weight, preset=preset, config=config, set=assignments, seed=seed
        )
        resume_pretraining(out)
    else:
        settings = load_config(
            PretrainConfig,
            preset=read_preset(preset) if preset else None,
            file=config,
            assignments=[*(assignments or ()), *flags(seed=seed, **{"data.weights": weight})],
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
    data: Annotated[str | None, typer.Option(help="A dataset with train, dev and test.")] = None,
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
    from aalbert.configuration import load_config
    from aalbert.train.configs import DownstreamConfig
    from aalbert.train.downstream import resume_downstream, start_downstream
    from aalbert.train.run_folder import RunFolder

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


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Finished downstream runs.")],
    data: Annotated[str | None, typer.Option(help="Where their dataset lies now.")] = None,
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
