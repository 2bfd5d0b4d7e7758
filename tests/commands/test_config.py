import json
from pathlib import Path

import pytest
import yaml

from aalbert.cli import main
from aalbert.train.preset import preset_names


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["config", *words]) == 0
    return capsys.readouterr().out


def test_show_prints_what_pretrain_would_use(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("steps: 11\nseed: 11\n")
    monkeypatch.setenv("AALBERT_SEED", "12")
    words = ["--preset", "aalbert-6l", "--config", str(file), "--set", "data.prefetch=3"]
    text = printed(capsys, "show", *words)
    shown = yaml.safe_load(text)
    assert shown["encoder"]["layers"] == 6  # preset
    assert shown["optimiser"]["warmup_proportion"] == 0.07  # what the preset extends
    assert (shown["steps"], shown["seed"], shown["data"]["prefetch"]) == (11, 12, 3)
    assert json.loads(printed(capsys, "show", *words, "--json")) == shown
    file.write_text(text)
    assert yaml.safe_load(printed(capsys, "show", "--config", str(file))) == shown


def test_show_prints_what_a_run_used(pretrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = yaml.safe_load(printed(capsys, "show", str(pretrained)))
    assert shown == yaml.safe_load((pretrained / "config.yaml").read_text())


def test_diff_prints_the_settings_that_differ(
    pretrained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = json.loads(printed(capsys, "diff", "mockingjay-3l", "tera-3l", "--json"))
    assert found == {"masking.band_share": [0.0, 0.2], "masking.noise_share": [0.0, 0.15]}
    words = printed(capsys, "diff", "aalbert-3l", "aalbert-12l").split()
    assert words == ["aalbert-3l", "aalbert-12l", "encoder.layers", "3", "12"]
    assert printed(capsys, "diff", "tiny", "tiny") == "no setting differs\n"
    file = tmp_path / "settings.yaml"
    file.write_text((pretrained / "config.yaml").read_text())
    assert printed(capsys, "diff", str(pretrained), str(file)) == "no setting differs\n"


def test_settings_of_a_downstream_task_are_shown_and_compared(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--task", "voxceleb1", "--preset", "superb", "--set", "epochs=7"]
    text = printed(capsys, "show", *words)
    shown = yaml.safe_load(text)
    assert (shown["task"], shown["epochs"]) == ("voxceleb1", 7)
    assert (shown["layers"], shown["head"]["projection"]) == ("weighted", 256)
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    diff = ["diff", "superb", str(file), "--task", "voxceleb1", "--json"]
    assert json.loads(printed(capsys, *diff)).keys() == {"epochs"}
    # What is left open comes from the preset that the task has by itself.
    file.write_text("seed: 3")
    diff[1] = "best"
    assert json.loads(printed(capsys, *diff)) == {"seed": [0, 3]}
    usual = printed(capsys, "show", "--task", "librispeech-phone")
    assert usual == printed(capsys, "show", "linear", "--task", "librispeech-phone")


def test_presets_are_listed_with_the_command_for_their_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = json.loads(printed(capsys, "presets", "--json"))
    assert [entry["name"] for entry in listed] == preset_names()
    assert all(entry["about"] for entry in listed)
    text = printed(capsys, "presets")
    for entry in listed:
        assert f"{entry['name']}: {entry['about']}\n    {entry['prepare']}\n" in text


def test_what_is_no_configuration_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "diff", "tiny", "nowhere"]) == 2
    assert "'nowhere' is no preset (aalbert-12l" in capsys.readouterr().err
    assert main(["config", "show", "tiny", "--set", "steps=3"]) == 2
    assert "'tiny' has its own settings" in capsys.readouterr().err
    assert main(["config", "show", "tiny", "--task", "voxceleb1"]) == 2
    assert "'tiny' is no preset (best, seed, superb), file or" in capsys.readouterr().err
    for words in (["show"], ["diff", "best", "superb"]):
        assert main(["config", *words, "--task", "voxceleb2"]) == 2
        assert "unknown task 'voxceleb2': use one of voxceleb1, " in capsys.readouterr().err
