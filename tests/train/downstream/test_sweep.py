import json
import os
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.common.locking import hold
from aalbert.errors import InputError, OutputInUseError


def test_a_sweep_reports_every_point_the_best_first_and_continues(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "voxceleb1", "--data", str(voxceleb1_data), "--upstream", str(pretrained)]
    grid = [
        "--set=lr=1e-6,1e-1",
        "--set=epochs=2",
        "--set=prefetch=0",
        "--cache-embeddings",
        "--preset=superb",
    ]
    out = tmp_path / "sweep"
    assert main([*command, *grid, "--out", str(out), "--json"]) == 0
    points = json.loads(capsys.readouterr().out)
    swept = [point["settings"][0] for point in points]
    assert sorted(swept) == ["learning_rate=1e-1", "learning_rate=1e-6"]
    qualities = [(point["best"]["dev_accuracy"], -point["best"]["dev_loss"]) for point in points]
    assert qualities == sorted(qualities, reverse=True)
    assert points == json.loads((out / "sweep.json").read_text())["points"]
    assert len(list((out / "states").iterdir())) == 1
    with hold(out / "states" / "lock"):
        assert main([*command, *grid, "--out", str(out)]) == OutputInUseError.exit_code
    assert f"{out} is being written by process {os.getpid()}" in capsys.readouterr().err
    left = out / "learning_rate=1e-1_epochs=2_prefetch=0" / "checkpoints" / "lock"
    left.touch()
    assert main([*command, *grid, "--out", str(out), "--json"]) == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == points and "step" not in again.err
    assert not left.exists()
    assert main([*command, *grid, "--seed=1", "--out", str(out)]) == 2
    assert (
        "holds a run with another set of settings: choose another --out" in capsys.readouterr().err
    )
    assert main(["evaluate", str(out)]) == InputError.exit_code
    assert (
        f"{out} is not the folder of a run: it is a sweep's, whose best run on the dev part is "
        f"{points[0]['run']}" in capsys.readouterr().err
    )
    same = ["--set=lr=1e-1,0.1", "--set=epochs=2", "--out", str(tmp_path / "x")]
    assert main([*command, *same]) == 2
    assert "learning_rate=1e-1 epochs=2 and learning_rate=0.1 epochs=2 are the same settings: " in (
        capsys.readouterr().err
    )
    assert main([*command, "--set=epochs=2", "--out", str(tmp_path / "x")]) == 2
    assert "a sweep needs a setting with several values" in capsys.readouterr().err


def test_a_point_that_diverges_does_not_end_a_sweep(
    voxceleb1_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "voxceleb1", "--data", str(voxceleb1_data), "--upstream", "logmel"]
    grid = ["--set=lr=1e37,1e-2", "--set=epochs=3", "--set=prefetch=0", "--set=gradient_clip=0"]
    for _ in range(2):
        assert main([*command, *grid, "--out", str(tmp_path / "sweep"), "--json"]) == 0
        good, bad = json.loads(capsys.readouterr().out)
        assert good["settings"][0] == "learning_rate=1e-2" and good["best"]["dev_accuracy"] >= 0
        assert bad["settings"][0] == "learning_rate=1e37" and bad["best"] is None
        # The name of a setting that this task has.
        assert bad["diverged"].endswith("start again with a lower learning_rate")
    assert main([*command, *grid, "--out", str(tmp_path / "sweep")]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [*bad["settings"], "diverged"]
