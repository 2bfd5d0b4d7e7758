"""The commands `aalbert downstream TASK` and `aalbert sweep TASK`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from aalbert.commands.console import AsJson, Out, show
from aalbert.commands.options import (
    ConfigFile,
    DryRunOption,
    ResumeOption,
    SeedOption,
    SetOption,
    flags,
    refuse_with_resume,
    require_option,
)
from aalbert.commands.threads import ThreadsOption, use_threads
from aalbert.commands.waves import CorpusOption, wave_corpus
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND
from aalbert.train.downstream.tasks import TASKS, Task, refuse_names_of_s3prl

if TYPE_CHECKING:
    from aalbert.common.settings_text import Document
    from aalbert.train.downstream.config import DownstreamConfig

EXAMPLE = (
    "Example: aalbert downstream {task} --data DATA --upstream runs/pretrain --out runs/{task}"
)


class TaskGroup(TyperGroup):
    """The tasks by their names; it knows those that s3prl has of them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the task that is asked for; `ConfigError` for a name of s3prl."""
        refuse_names_of_s3prl(args[0])
        return super().resolve_command(ctx, args)


downstream_app = typer.Typer(
    cls=TaskGroup, help="Train the head of a task on an upstream.", no_args_is_help=True
)

Data = Annotated[str | None, typer.Option(help="Folder or URL of a dataset.")]
UpstreamName = Annotated[
    str | None,
    typer.Option(
        "--upstream",
        help="A run (RUN@STEP: after a step), a saved model, USER/MODEL on the hub, a checkpoint "
        f"of s3prl or its name there, {', '.join(SETTINGS_BY_KIND)}; of transformers hf:FOLDER or "
        "hf:USER/MODEL, of an installed s3prl s3prl:NAME.",
    ),
]
TaskPresetOption = Annotated[str | None, typer.Option("--preset", help="A recipe of the task.")]
LayersOption = Annotated[
    str | None,
    typer.Option("--layers", help="last, mean, weighted (a learned mix), or a state's number."),
]
ModeName = Annotated[
    str | None, typer.Option("--mode", help="frozen (default), fine-tuned or from-scratch.")
]
Untrained = Annotated[
    bool,
    typer.Option("--untrained", help="Take random weights for the upstream: the control."),
]
CacheEmbeddings = Annotated[
    bool, typer.Option("--cache-embeddings", help="Compute the hidden states once, not per epoch.")
]


def number_or_name(layers: str | None) -> int | str | None:
    """Return the number of a hidden state as a number, and words as they are."""
    return int(layers) if layers and layers.isdigit() else layers


def take_upstream(upstream: str) -> tuple[str, "Document"]:
    """Return an upstream as it is named here, and the settings that its name stands for."""
    from aalbert.conversion.published_names import find_plain_feature

    feature = find_plain_feature(upstream)
    return (upstream, {}) if feature is None else (feature.kind, feature.settings)


def task_flags(
    layers: str | None, mode: str | None, untrained: bool, cache_embeddings: bool, seed: int | None
) -> list[str]:
    """Return the flags of a task that were given as assignments."""
    return flags(
        layers=number_or_name(layers),
        mode=mode,
        untrained=untrained or None,
        cache_embeddings=cache_embeddings or None,
        seed=seed,
    )


def add_task(task: Task) -> None:
    """Add the command of a task."""

    text = f"{task.summary}\n\n{EXAMPLE.format(task=task.name)}"

    @downstream_app.command(task.name, help=text, short_help=task.summary)
    def command(
        out: Out,
        data: Data = None,
        upstream: UpstreamName = None,
        corpus: CorpusOption = None,
        preset: TaskPresetOption = None,
        layers: LayersOption = None,
        mode: ModeName = None,
        untrained: Untrained = False,
        cache_embeddings: CacheEmbeddings = False,
        dry_run: DryRunOption = False,
        config: ConfigFile = None,
        assignments: SetOption = None,
        seed: SeedOption = None,
        resume: ResumeOption = False,
        threads: ThreadsOption = None,
        as_json: AsJson = False,
    ) -> None:
        from dataclasses import asdict

        from aalbert.train.downstream.estimate import estimate_downstream
        from aalbert.train.downstream.run import resume_downstream, start_downstream
        from aalbert.train.loop.ranks import find_ranks
        from aalbert.train.recipes import read_task_recipe
        from aalbert.train.run_folder import RunFolder

        if resume:
            refuse_with_resume(
                preset=preset,
                layers=layers,
                mode=mode,
                untrained=untrained,
                cache_embeddings=cache_embeddings,
                config=config,
                set=assignments,
                seed=seed,
                **{"dry-run": dry_run},
            )
            use_threads(threads, of_run=RunFolder(out).read_record()["threads"])
            place = take_upstream(upstream)[0] if upstream else None
            resume_downstream(out, task.name, data=data, upstream=place, corpus=wave_corpus(corpus))
        else:
            use_threads(threads)
            place, implied = take_upstream(require_option(upstream, "--upstream"))
            given = task_flags(layers, mode, untrained, cache_embeddings, seed)
            settings = read_task_recipe(
                task.name,
                preset,
                implied=implied,
                file=config,
                assignments=[*(assignments or ()), *given],
            )
            place_of_data = require_option(data, "--data")
            if dry_run:
                expected = estimate_downstream(settings, place_of_data, place, wave_corpus(corpus))
                show(asdict(expected), as_json, expected.describe())
                return
            start_downstream(settings, place_of_data, place, out, corpus=wave_corpus(corpus))
        if find_ranks().first:
            show_run(out, as_json)


def show_run(out: Path, as_json: bool) -> None:
    """Print how a finished run did on its dev part, and what comes next."""
    from aalbert.train.downstream.selection import best_measurement, describe_measurement
    from aalbert.train.run_folder import RunFolder, evaluate_command

    run = RunFolder(out)
    best = best_measurement(run.read_metrics())
    text = f"{out}: {describe_measurement(best)}; next: {evaluate_command(run)}"
    show({"run": str(out), **best}, as_json, text)


def sweep(
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(TASKS)}.")],
    out: Out,
    data: Annotated[str, typer.Option(help="Folder or URL of a dataset.")],
    upstream: Annotated[str, typer.Option(help="As of the command of the task.")],
    assignments: Annotated[
        list[str],
        typer.Option("--set", metavar="NAME=VALUE,VALUE", help="A setting and the values to try."),
    ],
    corpus: CorpusOption = None,
    preset: TaskPresetOption = None,
    layers: LayersOption = None,
    mode: ModeName = None,
    untrained: Untrained = False,
    cache_embeddings: CacheEmbeddings = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the points and their runs, train nothing.")
    ] = False,
    config: ConfigFile = None,
    seed: SeedOption = None,
    threads: ThreadsOption = None,
    as_json: AsJson = False,
) -> None:
    """Train a task with every combination of settings and compare them on the dev part.

    The same command continues an interrupted sweep.

    Example: aalbert sweep voxceleb1 --data data/voxceleb1 --upstream runs/pretrain
    --set learning_rate=1e-4,1e-3,1e-2 --out runs/sweep
    """
    from dataclasses import asdict

    from aalbert.train.downstream.sweep import (
        make_grid,
        plan_sweep,
        plan_table,
        run_sweep,
        sweep_table,
    )
    from aalbert.train.recipes import read_task_recipe
    from aalbert.train.run_folder import RunFolder, evaluate_command

    use_threads(threads)
    place, implied = take_upstream(upstream)
    given = task_flags(layers, mode, untrained, cache_embeddings, seed)
    grid = make_grid(assignments)

    def configure(point: Sequence[str]) -> "DownstreamConfig":
        return read_task_recipe(
            task, preset, implied=implied, file=config, assignments=[*point, *given]
        )

    if dry_run:
        planned = plan_sweep(grid, configure, data, place, out, wave_corpus(corpus))
        show([asdict(each) for each in planned], as_json, plan_table(planned))
        return
    points = run_sweep(grid, configure, data, place, out, wave_corpus(corpus))
    first = points[0]
    command = evaluate_command(RunFolder(Path(first.run)))
    after = f"next: {command}" if first.best else first.diverged
    show([asdict(point) for point in points], as_json, f"{sweep_table(points)}\n{after}")


for each in TASKS.values():
    add_task(each)
