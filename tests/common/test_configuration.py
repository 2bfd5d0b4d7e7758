from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from aalbert.common.configuration import group_type, load_config, to_yaml
from aalbert.errors import ConfigError, InputError
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.preset import preset_names, read_preset
from aalbert.train.pretraining.config import PretrainConfig


def load(**sources: object) -> PretrainConfig:
    if "preset" in sources:
        sources["preset"] = read_preset(str(sources["preset"]))
    return load_config(PretrainConfig, **{"environment": {}, **sources})  # type: ignore[arg-type]


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("steps: 11\nseed: 11\noptimiser: {learning_rate: 11e-4}\n")
    config = load(
        preset="tiny",
        file=file,
        environment={"AALBERT_SEED": "12", "AALBERT_OPTIMISER__LEARNING_RATE": "12e-4"},
        assignments=["optimiser.learning_rate=13e-4"],
    )
    assert config.encoder.width == 128  # preset over default
    assert config.steps == 11  # file over preset
    assert config.seed == 12  # environment over file
    assert config.optimiser.learning_rate == 13e-4  # assignment over environment


@pytest.mark.parametrize("text", ["5e-4", "0.0005", "5E-04", "+5e-4"])
def test_numbers_in_scientific_notation_are_numbers(text: str) -> None:
    assert load(assignments=[f"optimiser.learning_rate={text}"]).optimiser.learning_rate == 5e-4


def test_a_resolved_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    config = load(preset="tiny", assignments=["data.splits=[train-clean-100, dev*]"])
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    assert load(file=file) == config


def test_a_whole_number_may_be_written_with_an_exponent() -> None:
    config = load(assignments=["steps=2e3", "seed=010", "data.batch_seconds=0x20"])
    assert (config.steps, config.seed, config.data.batch_seconds) == (2000, 10, 32.0)


@pytest.mark.parametrize("text", ["5e-4", "010", "0o17", "yes", "1:30", "2001-01-01", "null", "~"])
def test_texts_that_look_like_something_else_stay_texts(text: str, tmp_path: Path) -> None:
    config = load(assignments=[f"data.exclude='{text}'", f"data.splits=['{text}']"])
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    assert load(file=file) == config
    # Other programs may read YAML 1.1.
    assert yaml.safe_load(file.read_text())["data"]["exclude"] == text


def test_a_mapping_of_free_keys_is_replaced_and_its_entries_can_be_set(tmp_path: Path) -> None:
    preset = {"objective": {"targets": {"linear": 1.0}, "loss": "l2"}}
    file = tmp_path / "settings.yaml"
    file.write_text("objective: {targets: {logmel: 1.0}}\n")

    def targets(**sources: Any) -> dict[str, float]:
        config = load_config(
            PretrainConfig, preset=("preset", preset), **{"environment": {}, **sources}
        )
        assert config.objective.loss == "l2"
        return dict(config.objective.targets)

    assert targets() == {"linear": 1.0}
    assert targets(file=file) == {"logmel": 1.0}
    assert targets(assignments=["objective.targets={mfcc: 2}"]) == {"mfcc": 2.0}
    assert targets(environment={"AALBERT_OBJECTIVE__TARGETS": "{mfcc: 2}"}) == {"mfcc": 2.0}
    more = ["objective={targets: {mfcc: 2}}", "objective.targets.logmel=3"]
    assert targets(assignments=more) == {"mfcc": 2.0, "logmel": 3.0}
    assert preset == {"objective": {"targets": {"linear": 1.0}, "loss": "l2"}}


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_is_valid(preset: str) -> None:
    assert load(preset=preset).steps > 0


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimiser.learning_rat=1", r"there is no setting 'optimiser\.learning_rat': did you mean "
         r"optimiser\.learning_rate\?"),
        ("nonsense=1", "there is no setting 'nonsense': it has encoder, front_end"),
        ("optimiser.learning_rate=true", r"learning_rate = True: Input should be a valid number"),
        ("data.batch_seconds=8:20", r"batch_seconds = '8:20': Input should be a valid number"),
        ("steps='7'", r"steps = '7': Input should be a valid integer"),
        ("steps=2.5", r"steps = 2\.5: Input should be a valid integer"),
        ("encoder.share_layers=yes", r"share_layers = 'yes': Input should be a valid boolean"),
        ("encoder.share_layers=1", r"share_layers = 1: Input should be a valid boolean"),
        (
            "data.exclude=7",
            r"data\.exclude = 7: Input should be a valid string; in quotes it is text: '\"7\"'",
        ),
        ("data.static_seconds=[true]", r"static_seconds\.0 = True: Input should be a valid number"),
        ("steps=many", r"steps = 'many': Input should be a valid integer"),
        ("encoder.activation=tanh", r"encoder\.activation = 'tanh': Input should be 'gelu' or"),
        ("steps", "--set steps: expected NAME=VALUE, such as steps=1000"),
        ("steps=0", "steps 0 must be above 0"),
        ("encoder.heads=0", r"encoder\.heads 0 must be above 0"),
        ("encoder.dropout=3", r"encoder\.dropout 3\.0 must be in \[0, 1\)"),
        ("front_end.frames_stacked=0", r"front_end\.frames_stacked 0 must be above 0"),
        ("front_end.delta_window=2", r"front_end\.delta_window 2 must be odd"),
        ("optimiser.learning_rate=.nan", r"optimiser\.learning_rate nan must be above 0"),
        ("optimiser.gradient_clip=-1", r"optimiser\.gradient_clip -1\.0 must be above 0"),
        ("encoder=3", r"--set: encoder is a group of settings, such as encoder"),
        ("data.crop_seconds=1e9", r"data\.crop_seconds .* at most data\.batch_seconds"),
        ("optimiser.warmup_steps=-1", r"optimiser\.warmup_steps -1 must not be negative"),
        ("optimiser.warmup_steps=1000000", r"warmup_steps 1000000 leave none of 1000000 steps at "
         r"the full learning rate: use fewer, or --set optimiser\.warmup_steps=null for "
         r"optimiser\.warmup_proportion 0\.07"),
        ("front_end.normalisation=speaker", "pretraining knows no speakers, use utterance"),
        ("data.batching=packed", r"packed has no dropout .* --set encoder\.attention_dropout=0"),
        ("data.static_seconds=[5.0]", r"static_seconds \(5\.0,\) are for data\.batching static"),
        ("data.shortest_seconds=20", r"shortest_seconds 20\.0 must be at most data\.crop_seconds"),
        ("objective.loss=l3", r"objective\.loss = 'l3': Input should be 'l1', 'l2' or 'huber'"),
        ("optimiser.warmup_proportion=1", r"optimiser\.warmup_proportion 1\.0 must be in \[0, 1\)"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_the_way_out(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(assignments=[assignment])


def test_a_key_given_twice_in_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("steps: 1\nsteps: 2\n")
    with pytest.raises(ConfigError, match=r"settings\.yaml: 'steps' is given twice"):
        load(file=file)


def test_a_yaml_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    levels = "".join(
        f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9 if n else ['x'] * 9)}]\n" for n in range(9)
    )
    file = tmp_path / "bomb.yaml"
    file.write_text(levels)
    with pytest.raises(ConfigError, match=r"YAML aliases \(\*name\) are not allowed"):
        load(file=file)


def test_patterns_reach_the_settings_they_are_for() -> None:
    config = load_config(DownstreamConfig, assignments=["splits.train=*"], environment={})
    assert config.splits.train == "*"
    settings = load(assignments=["data.splits=[*-clean, dev-*]"])
    assert settings.data.splits == ("*-clean", "dev-*")


@pytest.mark.parametrize("value", ["*", "*-clean", "[*]"])
def test_a_pattern_in_a_file_must_be_quoted(value: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"data:\n  splits: {value}\n")
    with pytest.raises(ConfigError, match=r"settings\.yaml: .*begins with \* needs quotes"):
        load(file=file)


def test_python_objects_in_yaml_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text("steps: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        load(file=file)


def test_a_missing_file_and_an_unknown_preset_are_named() -> None:
    with pytest.raises(InputError, match="there is no configuration file nowhere"):
        load(file=Path("nowhere.yaml"))
    with pytest.raises(ConfigError, match="unknown preset 'huge': use one of .*tiny"):
        load(preset="huge")


def test_an_environment_variable_of_another_command_does_not_stop_this_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = load_config(DownstreamConfig, environment={"AALBERT_STEPS": "3"})
    assert config == DownstreamConfig()
    assert "AALBERT_STEPS is not a setting of this command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AALBERT_STEPS": "abc"}, r"steps = 'abc': .* integer.* \(set by AALBERT_STEPS\)$"),
        (
            {"AALBERT_DATA__BATCH_SECONDS": "-1", "AALBERT_SEED": "3"},
            r"data\.batch_seconds -1\.0 must .* \(set by AALBERT_DATA__BATCH_SECONDS\)$",
        ),
        ({"AALBERT_DATA": "/x"}, r"^AALBERT_DATA: data is a group of settings, such as data\."),
    ],
)
def test_a_variable_with_a_wrong_value_is_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(PretrainConfig, environment=variables)


@pytest.mark.parametrize("kind", [PretrainConfig, DownstreamConfig])
def test_a_group_that_is_set_in_part_has_its_own_defaults_for_the_rest(kind: type) -> None:
    """Only what is set is merged: a group with other defaults of its owner's would lose them."""
    defaults = kind()
    groups = {item.name: group_type(item.type) for item in fields(kind)}
    assert sum(group is not None for group in groups.values()) >= 6
    for name, group in groups.items():
        assert group is None or getattr(defaults, name) == group()
