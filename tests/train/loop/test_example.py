"""The commands of the documents for loggers, dry runs and several processes run."""

import shlex
from pathlib import Path

import pytest

from aalbert.cli import main
from tests.examples import examples_of
from tests.two_ranks import Started

# The settings of the presets take hours.
QUICK = ("--set=epochs=1", "--set=least_epoch_steps=0", "--set=prefetch=0")


@pytest.fixture
def places(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paths that the examples name."""
    monkeypatch.chdir(tmp_path)
    for place, path in (("data/voxceleb1", voxceleb1_data), ("runs/pretrain", pretrained)):
        Path(place).parent.mkdir()
        Path(place).symlink_to(path)


def command_of(page: str, text: str) -> list[str]:
    """Return the words of the one command of a page that has the text."""
    commands = [
        command
        for example in examples_of(page)
        for command in example["code"].replace("\\\n", " ").splitlines()
        if text in command
    ]
    [command] = commands
    return shlex.split(command)


@pytest.mark.usefixtures("places")
def test_the_commands_of_loggers_and_of_a_dry_run_run(capsys: pytest.CaptureFixture[str]) -> None:
    command = command_of("downstream.md", "--dry-run")
    assert main([*command[1:], *QUICK]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not Path("runs/dry").exists()
    command = command_of("runs.md", "loggers=")
    assert main([*command[1:], *QUICK]) == 0
    assert list(Path("runs/speaker/tensorboard").glob("events*"))
    assert Path("runs/speaker/csv/metrics.csv").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("places")
def test_the_command_of_several_processes_runs(tmp_path: Path) -> None:
    command = command_of("downstream.md", "torchrun")
    assert command[:5] == ["torchrun", "--nproc-per-node", "4", "-m", "aalbert"]
    # Two processes share its four batches.
    results = Started(tmp_path, [*command[5:], *QUICK]).finish()
    assert [code for code, _ in results] == [0, 0], results
    assert (tmp_path / "runs/speaker/export/model.safetensors").is_file()
