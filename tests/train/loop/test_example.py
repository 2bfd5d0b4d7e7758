"""The commands of the documents for loggers, dry runs and several processes run."""

from pathlib import Path

import pytest

from aalbert.cli import main
from tests.examples import commands_of
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


@pytest.mark.usefixtures("places")
def test_the_commands_of_loggers_and_of_a_dry_run_run(capsys: pytest.CaptureFixture[str]) -> None:
    [command] = [each for each in commands_of("downstream.md") if "--dry-run" in each]
    assert any(each.startswith("precision=") for each in command)
    assert main([*command, *QUICK]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not Path("runs/dry").exists()
    [command] = [
        each for each in commands_of("runs.md") if any(word.startswith("loggers=") for word in each)
    ]
    assert main([*command, *QUICK]) == 0
    assert list(Path("runs/speaker/tensorboard").glob("events*"))
    assert Path("runs/speaker/csv/metrics.csv").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("places")
def test_the_command_of_several_processes_runs(tmp_path: Path) -> None:
    [command] = commands_of("downstream.md", "torchrun")
    assert command[:4] == ["--nproc-per-node", "4", "-m", "aalbert"]
    # Two processes share its four batches.
    results = Started(tmp_path, [*command[4:], *QUICK]).finish()
    assert [code for code, _ in results] == [0, 0], results
    assert (tmp_path / "runs/speaker/export/model.safetensors").is_file()
