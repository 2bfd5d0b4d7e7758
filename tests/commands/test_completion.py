from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.shards import Dataset
from aalbert.train.preset import preset_names


def completed(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Return what bash gets for a line whose last word is unfinished."""
    monkeypatch.setenv("_AALBERT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    monkeypatch.setattr("sys.argv", ["aalbert"])
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("aalbert pre", ["prepare", "pretrain"]),
        ("aalbert pretrain --preset ti", ["tiny"]),
        ("aalbert pretrain --set encoder.lay", ["encoder.layers="]),
        ("aalbert pretrain --set encoder.norm=p", ["encoder.norm=post", "encoder.norm=pre"]),
        ("aalbert pretrain --set encoder.share_layers=", ["encoder.share_layers=true"]),
        ("aalbert prepare librispeech --set logmel.me", ["logmel.mels="]),
        ("aalbert prepare librispeech x --feature f", ["fbank"]),
        ("aalbert downstream voxceleb1-", ["voxceleb1-verification"]),
        ("aalbert downstream voxceleb1 --preset su", ["superb"]),
        ("aalbert downstream voxceleb1 --mode fr", ["frozen", "from-scratch"]),
        ("aalbert sweep voxceleb1 --preset su", ["superb"]),
        ("aalbert sweep reg", ["regress"]),
        ("aalbert config show tin", ["tiny"]),
        ("aalbert config show --preset tin", ["tiny"]),
        ("aalbert config show --set encoder.la", ["encoder.layers="]),
        ("aalbert config show --task voxceleb1 --preset su", ["superb"]),
        ("aalbert config show --task voxceleb1 --set ep", ["epochs="]),
        ("aalbert config schema pret", ["pretrain"]),
        ("aalbert extract --format np", ["npy"]),
        ("aalbert help down", ["downstream"]),
        ("aalbert help prepare libri", ["librispeech"]),
        ("aalbert help pretrain t", []),
        ("aalbert shards show nowhere 1", []),
    ],
)
def test_a_shell_completes_commands_presets_settings_and_values(
    words: str,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = completed(words, monkeypatch, capsys)
    assert found[: len(expected)] == expected and bool(found) == bool(expected)


def test_a_shell_completes_the_keys_of_a_dataset(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = Dataset(prepared).key(0)
    found = completed(f"aalbert shards show {prepared} {key[:-1]}", monkeypatch, capsys)
    assert key in found and all(each.startswith(key[:-1]) for each in found)


def test_all_presets_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed("aalbert pretrain --preset ", monkeypatch, capsys) == preset_names()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_can_be_installed_for_every_shell(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["aalbert"])
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    with pytest.raises(SystemExit) as ended:
        main(["--show-completion"])
    assert ended.value.code == 0
    script = capsys.readouterr().out
    assert "_AALBERT_COMPLETE" in script and "aalbert" in script
