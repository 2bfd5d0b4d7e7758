"""The commands `aalbert downstream TASK`."""

from typing import Annotated

import typer

from aalbert.console import AsJson, Out, show
from aalbert.train.options import (
    ConfigFile,
    Resume,
    Seed,
    Settings,
    flags,
    refuse_with_resume,
    require,
)

downstream_app = typer.Typer(help="Train a task on a frozen upstream.", no_args_is_help=True)


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
