"""The commands `aalbert config show`, `diff`, `presets` and `schema`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aalbert.commands.completion import complete_places, complete_tasks
from aalbert.commands.console import AsJson, show
from aalbert.commands.help import Group
from aalbert.commands.options import ConfigFile, PresetOption, SetOption
from aalbert.commands.work_file import SECTIONS, WorkSettings, complete_sections, read_work_file
from aalbert.common.text import flat, text_table
from aalbert.errors import ConfigError, require
from aalbert.train.downstream.tasks import find_task
from aalbert.train.preset import PRETRAIN

if TYPE_CHECKING:
    from aalbert.common.settings_text import Document

config_app = typer.Typer(
    cls=Group, help="Look at the settings of presets, files and runs.", no_args_is_help=True
)

PlaceArgument = typer.Argument(
    metavar="PLACE", help="A preset, a YAML file, or a run.", autocompletion=complete_places
)
TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="TASK",
        help="The downstream task of presets and files; else pretraining.",
        autocompletion=complete_tasks,
    ),
]


@config_app.command("show")
def config_show(
    place: Annotated[
        str | None,
        typer.Argument(
            metavar="[PLACE]",
            help="A run or a preset, instead of the options.",
            autocompletion=complete_places,
        ),
    ] = None,
    preset: PresetOption = None,
    config: ConfigFile = None,
    assignments: SetOption = None,
    task: TaskOption = None,
    as_json: AsJson = False,
) -> None:
    """Print every setting that `aalbert pretrain` would use with these options, as YAML.

    With --task it is what `aalbert downstream TASK` would use.

    Flags win over the environment (AALBERT_*), that over the file, and that over the preset.

    Example: aalbert config show --preset aalbert-3l --set encoder.layers=6
    """
    from aalbert.common.settings_text import dump_document

    if place is None:
        settings = resolved_settings(task, preset, file=config, assignments=assignments or ())
    else:
        given = preset or config or assignments
        require(not given, f"'{place}' has its own settings: give it alone, or only options")
        settings = settings_of(place, task)
    show(settings, as_json, dump_document(settings).rstrip())


@config_app.command("diff")
def config_diff(
    left: Annotated[str, PlaceArgument],
    right: Annotated[str, PlaceArgument],
    task: TaskOption = None,
    as_json: AsJson = False,
) -> None:
    """Print the settings that differ between two presets, files or runs.

    Example: aalbert config diff aalbert-3l runs/pretrain
    """

    found = differences(settings_of(left, task), settings_of(right, task))
    lines = [(name, str(ours), str(theirs)) for name, (ours, theirs) in found.items()]
    words = text_table([("", left, right), *lines]) if found else "no setting differs"
    show({name: list(pair) for name, pair in found.items()}, as_json, words)


@config_app.command("presets")
def config_presets(task: TaskOption = None, as_json: AsJson = False) -> None:
    """List the presets for pretraining, each with the `aalbert prepare` that makes its data.

    With --task those of a downstream task.

    Example: aalbert config presets --task voxceleb1
    """
    from aalbert.train.preset import find_preset, preset_names
    from aalbert.train.recipes import prepare_command, read_recipe

    folder = PRETRAIN if task is None else find_task(task).name
    described = [
        {"name": preset.name, "about": preset.about}
        for preset in (find_preset(name, folder) for name in preset_names(folder))
    ]
    if task is None:
        for entry in described:
            name = entry["name"]
            entry["prepare"] = prepare_command(read_recipe(name), f"data/{name}")
    lines = [
        f"{entry['name']}: {entry['about']}"
        + (f"\n    {entry['prepare']}" if "prepare" in entry else "")
        for entry in described
    ]
    show(described, as_json, "\n".join(lines))


@config_app.command("schema")
def config_schema(
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="[SECTION]",
            help=f"One of {', '.join(SECTIONS)}: the schema of a file for --config.",
            autocompletion=complete_sections,
        ),
    ] = None,
) -> None:
    """Print the JSON schema of the settings, by which editors complete and check YAML files.

    Without SECTION it is that of aalbert.yaml, which lies beside the work and has settings of all
    commands, in sections.

    Example: aalbert config schema > aalbert.schema.json
    """
    from aalbert.commands.work_file import schema_of_section, schema_of_work_file

    require(
        section is None or section in SECTIONS,
        f"there are no settings of '{section}': name one of {', '.join(SECTIONS)}",
    )
    show(schema_of_work_file() if section is None else schema_of_section(section), True, "")


def settings_of(place: str, task: str | None) -> "Document":
    """Return all settings of any run, or of a preset or a YAML file.

    The last two are for pretraining, or for a downstream task. Raises `ConfigError` when
    the place is none of them.
    """
    from aalbert.common.configuration import read_yaml_file
    from aalbert.train.preset import preset_names
    from aalbert.train.run_folder import RunFolder

    if task is not None:
        find_task(task)
    path = Path(place)
    if path.is_dir():
        return read_yaml_file(RunFolder(path).config)
    names = preset_names(task or PRETRAIN)
    if place in names:
        return resolved_settings(task, place, environment={})
    if path.is_file():
        return resolved_settings(task, file=path, environment={})
    raise ConfigError(f"'{place}' is no preset ({', '.join(names)}), file or folder of a run")


def resolved_settings(
    task: str | None,
    preset: str | None = None,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
) -> "Document":
    """Return what `aalbert pretrain` would use, or `aalbert downstream` for a task.

    `environment` is that of the process unless given.
    """
    from aalbert.common.configuration import as_plain
    from aalbert.train.recipes import read_pretrain_recipe, read_task_recipe

    read = read_pretrain_recipe if task is None else partial(read_task_recipe, task)
    # Of a preset or a file that is asked for, nothing else is shown.
    work = read_work_file(task or PRETRAIN) if environment is None else WorkSettings()
    config = read(
        preset or work.preset,
        work=work.settings,
        file=file,
        environment=environment,
        assignments=assignments,
    )
    document: Document = as_plain(asdict(config))
    return document


def differences(left: "Document", right: "Document") -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, by dotted name; None where one side has no such setting."""
    ours, theirs = dict(flat(left)), dict(flat(right))
    return {
        name: (ours.get(name), theirs.get(name))
        for name in {**ours, **theirs}
        if ours.get(name) != theirs.get(name)
    }
