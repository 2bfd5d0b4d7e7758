"""The commands `aalbert downstream TASK` and `aalbert sweep TASK`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aalbert.commands.completion import beginning, complete_settings, complete_tasks
from aalbert.commands.console import AsJson, Out, show
from aalbert.commands.help import RUNNING, SETTINGS, Group
from aalbert.commands.machine import DeviceOption, ThreadsOption, use_machine
from aalbert.commands.options import (
    ConfigFile,
    DryRunOption,
    PresetCommand,
    PresetOption,
    ResumeOption,
    SeedOption,
    SetOption,
    flags,
    refuse_with_resume,
    require_datasets,
    require_option,
)
from aalbert.commands.waves import CorpusOption, wave_corpus
from aalbert.commands.work_file import read_work_file
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND
from aalbert.train.downstream.tasks import TASKS, Task, refuse_names_of_s3prl

if TYPE_CHECKING:
    from aalbert.common.settings_text import Document
    from aalbert.train.downstream.config import DownstreamConfig

EXAMPLE = (
    "Example: aalbert downstream {task} --data DATA --upstream runs/pretrain --out runs/{task}"
)


class TaskGroup(Group):
    """The tasks by their names; it knows those that s3prl has of them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the task that is asked for; `ConfigError` for a name of s3prl."""
        refuse_names_of_s3prl(args[0])
        return super().resolve_command(ctx, args)


downstream_app = typer.Typer(
    cls=TaskGroup, help="Train the head of a task on an upstream.", no_args_is_help=True
)

Data = Annotated[str | None, typer.Option(metavar="DIR", help="Folder or URL of a dataset.")]
UpstreamName = Annotated[
    str | None,
    typer.Option(
        "--upstream",
        metavar="MODEL",
        help="A run (RUN@STEP: after a step), a saved model, USER/MODEL on the hub, a checkpoint "
        f"of s3prl or its name there, {', '.join(SETTINGS_BY_KIND)}; of transformers hf:FOLDER or "
        "hf:USER/MODEL, of an installed s3prl s3prl:NAME.",
    ),
]
LayersOption = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="LAYERS",
        help="last, mean, weighted (a learned mix), or a state's number.",
        rich_help_panel=SETTINGS,
        autocompletion=lambda incomplete: beginning(incomplete, "last", "mean", "weighted"),
    ),
]
ModeName = Annotated[
    str | None,
    typer.Option(
        "--mode",
        metavar="MODE",
        help="frozen (default), fine-tuned or from-scratch.",
        rich_help_panel=SETTINGS,
        autocompletion=lambda incomplete: beginning(
            incomplete, "frozen", "fine-tuned", "from-scratch"
        ),
    ),
]
Untrained = Annotated[
    bool,
    typer.Option(
        "--untrained",
        help="Take random weights for the upstream: the control.",
        rich_help_panel=SETTINGS,
    ),
]
CacheEmbeddings = Annotated[
    bool,
    typer.Option(
        "--cache-embeddings",
        help="Compute the hidden states once, not per epoch.",
        rich_help_panel=SETTINGS,
    ),
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

    @downstream_app.command(task.name, cls=PresetCommand, help=text, short_help=task.summary)
    def command(
        out: Out,
        data: Data = None,
        upstream: UpstreamName = None,
        corpus: CorpusOption = None,
        preset: PresetOption = None,
        layers: LayersOption = None,
        mode: ModeName = None,
        untrained: Untrained = False,
        cache_embeddings: CacheEmbeddings = False,
        dry_run: DryRunOption = False,
        config: ConfigFile = None,
        assignments: SetOption = None,
        seed: SeedOption = None,
        resume: ResumeOption = False,
        device: DeviceOption = None,
        threads: ThreadsOption = None,
        as_json: AsJson = False,
    ) -> None:
        from aalbert.train.recipes import read_task_recipe

        given = task_flags(layers, mode, untrained, cache_embeddings, seed)
        settings = None
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
        else:
            # Mistakes are found before PyTorch is imported.
            place, implied = take_upstream(require_option(upstream, "--upstream"))
            work = read_work_file(task.name)
            settings = read_task_recipe(
                task.name,
                preset or work.preset,
                implied=implied,
                work=work.settings,
                file=config,
                assignments=[*(assignments or ()), *given],
            )
            place_of_data = require_option(data, "--data")
            require_datasets(place_of_data)

        from aalbert.train.downstream.estimate import estimate_downstream
        from aalbert.train.downstream.run import resume_downstream, start_downstream
        from aalbert.train.loop.ranks import find_ranks
        from aalbert.train.run_folder import RunFolder

        waves = wave_corpus(corpus)
        if settings is None:
            use_machine(device, threads, of_run=RunFolder(out).read_record()["threads"])
            named = take_upstream(upstream)[0] if upstream else None
            resume_downstream(out, task.name, data=data, upstream=named, corpus=waves)
        else:
            use_machine(device, threads)
            if dry_run:
                RunFolder(out).require_new()
                expected = estimate_downstream(settings, place_of_data, place, waves)
                show(asdict(expected), as_json, expected.describe())
                return
            start_downstream(settings, place_of_data, place, out, corpus=waves)
        if find_ranks().first:
            show_run(out, as_json)


def show_run(out: Path, as_json: bool) -> None:
    """Print how a finished run did on its dev part, and what comes next."""
    from aalbert.train.downstream.selection import best_measurement, describe_measurement
    from aalbert.train.run_folder import RunFolder, evaluate_command

    run = RunFolder(out)
    best = best_measurement(run.read_metrics())
    text = f"{out}: {describe_measurement(best)}; model in {run.export}"
    show({"run": str(out), **best}, as_json, text, then=evaluate_command(run))


def sweep(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help=f"One of {', '.join(TASKS)}.", autocompletion=complete_tasks
        ),
    ],
    out: Out,
    data: Annotated[str, typer.Option(metavar="DIR", help="Folder or URL of a dataset.")],
    upstream: Annotated[str, typer.Option(metavar="MODEL", help="As of the command of the task.")],
    assignments: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=VALUE,VALUE",
            help="A setting and the values to try; give it again for more.",
            rich_help_panel=SETTINGS,
            autocompletion=complete_settings,
        ),
    ],
    corpus: CorpusOption = None,
    preset: PresetOption = None,
    layers: LayersOption = None,
    mode: ModeName = None,
    untrained: Untrained = False,
    cache_embeddings: CacheEmbeddings = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="List the points and their runs, train nothing.",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    config: ConfigFile = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    as_json: AsJson = False,
) -> None:
    """Train a task with every combination of settings and compare them on the dev part.

    The same command continues an interrupted sweep.

    Example: aalbert sweep voxceleb1 --data data/voxceleb1 --upstream runs/pretrain
    --set learning_rate=1e-4,1e-3,1e-2 --out runs/sweep
    """
    from aalbert.train.downstream.grid import make_grid
    from aalbert.train.recipes import read_task_recipe

    work = read_work_file(task)
    place, implied = take_upstream(upstream)
    given = task_flags(layers, mode, untrained, cache_embeddings, seed)

    def configure(point: Sequence[str]) -> "DownstreamConfig":
        return read_task_recipe(
            task,
            preset or work.preset,
            implied=implied,
            work=work.settings,
            file=config,
            assignments=[*point, *given],
        )

    # Mistakes are found before PyTorch is imported.
    grid = make_grid(assignments)
    configure(grid[0])
    require_datasets(data)

    from aalbert.train.downstream.sweep import (
        plan_sweep,
        plan_table,
        run_sweep,
        sweep_table,
    )
    from aalbert.train.run_folder import RunFolder, evaluate_command

    use_machine(device, threads)
    if dry_run:
        planned = plan_sweep(grid, configure, data, place, out, wave_corpus(corpus))
        show([asdict(each) for each in planned], as_json, plan_table(planned))
        return
    points = run_sweep(grid, configure, data, place, out, wave_corpus(corpus))
    first = points[0]
    command = evaluate_command(RunFolder(Path(first.run)))
    text = sweep_table(points) if first.best else f"{sweep_table(points)}\n{first.diverged}"
    then = command if first.best else None
    show([asdict(point) for point in points], as_json, text, then=then)


for each in TASKS.values():
    add_task(each)
