import json
from pathlib import Path
from typing import Any

import pytest

from aalbert.cli import main
from aalbert.train.downstream.tasks import TASKS
from aalbert.train.preset import find_preset, preset_names

jsonschema = pytest.importorskip("jsonschema", reason="schemas are checked by jsonschema")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shown(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[dict[str, Any], str]:
    assert main(["config", "show", *options, "--json"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def schema(capsys: pytest.CaptureFixture[str], *section: str) -> dict[str, Any]:
    assert main(["config", "schema", *section]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_settings_lie_beside_the_work_between_those_of_a_preset_and_of_a_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("aalbert.yaml").write_text(
        "pretrain: {preset: tiny, steps: 7, optimiser: {weight_decay: 0.5}}\n"
        "voxceleb1: {epochs: 3}\n"
    )
    tiny, _ = shown(capsys, "tiny")
    settings, said = shown(capsys)
    assert said == "note: pretrain has settings of aalbert.yaml\n"
    assert settings["steps"] == 7 and settings["optimiser"]["weight_decay"] == 0.5
    assert settings["encoder"] == tiny["encoder"]
    Path("own.yaml").write_text("steps: 9\n")
    assert shown(capsys, "--config", "own.yaml")[0]["steps"] == 9
    assert shown(capsys, "--set", "steps=11")[0]["steps"] == 11
    assert shown(capsys, "--task", "voxceleb1")[0]["epochs"] == 3
    other, said = shown(capsys, "--task", "librispeech-speaker")
    assert other["epochs"] != 3 and said == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {}", "aalbert.yaml: there is no section 'train': it may have prepare, pretrain,"),
        ("pretrain: 3", "aalbert.yaml: pretrain is a group of settings, such as preset: tiny"),
        ("pretrain: {preset: 3}", "aalbert.yaml: pretrain.preset = 3 is no name of a recipe"),
        ("pretrain: {stepz: 3}", "aalbert.yaml, pretrain: there is no setting 'stepz': did you"),
        ("pretrain: {preset: tinny}", "unknown preset 'tinny': use one of"),
    ],
)
def test_mistakes_in_it_are_named(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("aalbert.yaml").write_text(text)
    assert main(["pretrain", "--data", "data", "--out", "run"]) == 2
    assert message in capsys.readouterr().err


def test_prepare_reads_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("aalbert.yaml").write_text("prepare: {logmel: {melz: 3}}")
    Path("corpus").mkdir()
    Path("corpus/a.wav").touch()
    assert main(["prepare", "folder", "corpus", "--out", "data"]) == 2
    assert "aalbert.yaml, prepare: there is no setting 'logmel.melz'" in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["pretrain", *TASKS])
def test_the_schema_takes_all_presets(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    checker = jsonschema.Draft202012Validator(schema(capsys, folder))
    for name in preset_names(folder):
        checker.validate(find_preset(name, folder).settings)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pretrain": {"stepz": 3}},
        {"pretrain": {"encoder": {"norm": "both"}}},
        {"pretrain": {"steps": "many"}},
        {"pretrain": {"preset": "tinny"}},
        {"voxceleb": {}},
        {"prepare": {"logmel": {"melz": 3}}},
    ],
)
def test_the_schema_of_the_file_refuses_what_the_commands_refuse(
    wrong: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    checker = jsonschema.Draft202012Validator(schema(capsys))
    checker.validate(
        {"pretrain": {"preset": "tiny", "steps": 3}, "prepare": {"features": ["fbank"]}}
    )
    with pytest.raises(jsonschema.ValidationError):
        checker.validate(wrong)
