"""The command `aalbert pretrain`."""

import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from aalbert.commands.console import AsJson, Out, show
from aalbert.commands.help import RUNNING
from aalbert.commands.machine import DeviceOption, ThreadsOption, use_machine
from aalbert.commands.options import (
    ConfigFile,
    DryRunOption,
    PresetOption,
    ResumeOption,
    SeedOption,
    SetOption,
    flags,
    refuse_with_resume,
    require_datasets,
    require_option,
)
from aalbert.commands.work_file import read_work_file
from aalbert.train.preset import PRETRAIN

WeightOption = Annotated[
    list[float] | None,
    typer.Option(
        metavar="NUMBER",
        help="How often an epoch repeats each utterance of the dataset at the same position.",
    ),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="MODEL",
        help="Continue from a model: a run (RUN@STEP: after a step), a saved model, a URL, "
        "USER/MODEL on the hub, a checkpoint of s3prl or its name there.",
    ),
]


def pretrain(
    out: Out,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Folder or URL of a dataset; give it again for several."),
    ] = None,
    weight: WeightOption = None,
    model: FromOption = None,
    preset: PresetOption = None,
    logger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Log to tensorboard, wandb, mlflow, comet or csv too; give it again for several.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    dry_run: DryRunOption = False,
    extend: Annotated[
        int | None,
        typer.Option(
            metavar="STEPS",
            min=1,
            help="Continue the run in --out for this many more steps.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    config: ConfigFile = None,
    assignments: SetOption = None,
    seed: SeedOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    as_json: AsJson = False,
) -> None:
    """Pretrain an encoder by reconstructing masked frames.

    Example: aalbert pretrain --preset tiny --data data/librispeech --out runs/pretrain
    """
    from aalbert.train.recipes import read_pretrain_recipe

    given = [*(assignments or ()), *flags(seed=seed, loggers=logger, **{"data.weights": weight})]
    settings = None
    if resume or extend:
        new = {"from": model, "weight": weight, "preset": preset, "config": config}
        refuse_with_resume(**new, set=assignments, seed=seed, logger=logger, **{"dry-run": dry_run})
    else:
        work = read_work_file(PRETRAIN)
        read = partial(
            read_pretrain_recipe,
            preset or work.preset,
            work=work.settings,
            file=config,
            assignments=given,
        )
        # Mistakes are found before PyTorch is imported, unless a model decides some settings.
        settings = read() if preset or work.preset or not model else None
        places = require_option(data, "--data")
        if not model:
            require_datasets(*places)

    from aalbert.train.loop.ranks import find_ranks
    from aalbert.train.pretraining.estimate import estimate_pretraining
    from aalbert.train.pretraining.run import resume_pretraining, start_pretraining
    from aalbert.train.pretraining.start import open_start
    from aalbert.train.run_folder import RunFolder

    if resume or extend:
        use_machine(device, threads, of_run=RunFolder(out).read_record()["threads"])
        resume_pretraining(out, extend=extend or 0, data=data)
    else:
        use_machine(device, threads)
        start = open_start(model) if model else None
        settings = settings or read(start=start)
        if dry_run:
            RunFolder(out).require_new()
            expected = estimate_pretraining(settings, places, start)
            show(asdict(expected), as_json, expected.describe())
            return
        start_pretraining(settings, places, out, start=start)
    if find_ranks().first:
        show_run(out, as_json)


def show_run(out: Path, as_json: bool) -> None:
    """Print what came of a finished run."""
    from aalbert.train.pretraining.trivial_predictors import (
        TRIVIAL_PREDICTORS,
        recorded_predictors,
    )
    from aalbert.train.run_folder import RunFolder

    run = RunFolder(out)
    step, loss = list(run.held_out_losses().items())[-1]
    summary = {
        "run": str(out),
        "model": str(run.export),
        "step": step,
        "validation_loss": loss,
        TRIVIAL_PREDICTORS: recorded_predictors(run),
    }
    show(
        summary,
        as_json,
        f"{out}: {step:,} steps, held-out loss {loss:.4f}; model in {run.export}, "
        f"report: {run.report}",
        then=f"aalbert downstream voxceleb1 --data DATA --upstream {shlex.quote(str(out))} "
        "--out runs/speaker",
    )
