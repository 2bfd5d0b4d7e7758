"""The commands `aalbert config show`, `diff` and `presets`."""

from typing import Annotated

import typer

from aalbert.console import AsJson, show
from aalbert.train.options import ConfigFile, Preset, Settings

config_app = typer.Typer(
    help="Look at the settings of presets, files and runs.", no_args_is_help=True
)

Place = typer.Argument(metavar="PLACE", help="A preset, a YAML file, or a run.")
Task = Annotated[
    str | None,
    typer.Option("--task", help="The downstream task of presets and files; else pretraining."),
]


@config_app.command("show")
def config_show(
    place: Annotated[
        str | None, typer.Argument(help="A run or a preset, instead of the options.")
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    assignments: Settings = None,
    task: Task = None,
    as_json: AsJson = False,
) -> None:
    """Print every setting that `aalbert pretrain` would use with these options, as YAML.

    With --task it is what `aalbert downstream TASK` would use.

    Flags win over the environment (AALBERT_*), that over the file, and that over the preset.

    Example: aalbert config show --preset aalbert-3l --set encoder.layers=6
    """
    import yaml

    from aalbert.errors import require
    from aalbert.train.config_views import resolved_settings, settings_of

    if place is None:
        settings = resolved_settings(task, preset, file=config, assignments=assignments or ())
    else:
        given = preset or config or assignments
        require(not given, f"'{place}' has its own settings: give it alone, or only options")
        settings = settings_of(place, task)
    show(settings, as_json, yaml.safe_dump(settings, sort_keys=False).rstrip())


@config_app.command("diff")
def config_diff(
    left: Annotated[str, Place],
    right: Annotated[str, Place],
    task: Task = None,
    as_json: AsJson = False,
) -> None:
    """Print the settings that differ between two presets, files or runs.

    Example: aalbert config diff aalbert-3l runs/pretrain
    """
    from aalbert.train.config_views import differences, settings_of, table

    found = differences(settings_of(left, task), settings_of(right, task))
    lines = [(name, str(ours), str(theirs)) for name, (ours, theirs) in found.items()]
    words = table([("", left, right), *lines]) if found else "no setting differs"
    show({name: list(pair) for name, pair in found.items()}, as_json, words)


@config_app.command("presets")
def config_presets(as_json: AsJson = False) -> None:
    """List the presets for pretraining, each with the `aalbert prepare` that makes its data.

    Example: aalbert config presets
    """
    from aalbert.train.presets import find_preset, preset_names
    from aalbert.train.recipes import prepare_command, read_recipe

    described = [
        {
            "name": preset.name,
            "about": preset.about,
            "prepare": prepare_command(read_recipe(preset.name), f"data/{preset.name}"),
        }
        for preset in map(find_preset, preset_names())
    ]
    lines = ["{name}: {about}\n    {prepare}".format(**entry) for entry in described]
    show(described, as_json, "\n".join(lines))
