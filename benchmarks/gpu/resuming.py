"""The stage `resuming`: a run that is interrupted and continued equals one that was not.

Both are commands, as a user gives them; the first is sent SIGTERM in its middle. The losses of the
last step, of training and held out, must agree within 1e-3. The weights are compared too, without a
limit: AdamW moves a weight whose gradient is only rounding by as much as any other.
"""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aalbert.common.configuration import to_yaml
from aalbert.models.pretrained import PretrainedModel
from aalbert.train.run_folder import RunFolder
from benchmarks.gpu.context import Context
from benchmarks.gpu.features import data_for, read_preset_config
from benchmarks.gpu.steps import WAYS

PRESET = "aalbert-3l"
STEPS = {"cuda": 60, "cpu": 12}
MOST_DIFFERENCE = 1e-3
STOPPED = 128 + signal.SIGTERM


def run(context: Context) -> None:
    """Make both runs and compare them."""
    work = Path(context.work) / "resuming"
    work.mkdir()
    [way] = [way for way in WAYS if way.name == "packed"]
    config = way.of(read_preset_config(PRESET, context), rehearsal=context.rehearsal)
    steps = STEPS[context.device]
    config = replace(config, steps=steps, validate_every_steps=steps, log_every_steps=1)
    settings = work / "config.yaml"
    settings.write_text(to_yaml(config), "utf-8")
    begin = ["--config", str(settings), "--data", str(data_for(config, context))]
    whole, parts = work / "whole", work / "parts"
    # Beside each other: most of their time is that of a start.
    uninterrupted = start([*begin, "--out", str(whole)])
    stopped_at = interrupt([*begin, "--out", str(parts)], parts, steps // 3)
    resumed = start(["--resume", "--out", str(parts)])
    for process in (uninterrupted, resumed):
        finish(process)
    expected, found = last_losses(whole), last_losses(parts)
    line: dict[str, Any] = {
        "steps": steps,
        "stopped_at": stopped_at,
        "precision": config.precision,
        **{name: abs(found[name] - value) / value for name, value in expected.items()},
        "weights": weight_difference(whole, parts),
    }
    equal = all(line[name] <= MOST_DIFFERENCE for name in expected)
    context.write(kind="resuming", **line, equal=equal)
    if not equal:
        sys.exit(f"the continued run differs: {line}")


def start(arguments: list[str]) -> "subprocess.Popen[bytes]":
    """Start `aalbert pretrain`."""
    return subprocess.Popen([sys.executable, "-P", "-m", "aalbert", "pretrain", *arguments])


def finish(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of `aalbert pretrain`."""
    if code := process.wait():
        sys.exit(f"aalbert pretrain ended with {code}")


def interrupt(arguments: list[str], out: Path, after: int) -> int:
    """Send SIGTERM to a run after so many steps; return the step that it saved."""
    process = start(arguments)
    metrics = RunFolder(out).metrics
    while process.poll() is None:
        if metrics.is_file() and metrics.read_text("utf-8").count("\n") >= after:
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.005)
    if (code := process.wait()) != STOPPED:
        sys.exit(f"the run was to be stopped after {after} steps, and ended with {code}")
    return max(int(path.stem.rpartition("-")[2]) for path in out.glob("checkpoints/step-*.ckpt"))


def last_losses(run: Path) -> dict[str, float]:
    """Return both losses of the last step."""
    rows = RunFolder(run).read_metrics()
    return {
        name: float([row[name] for row in rows if name in row][-1])
        for name in ("train_loss", "validation_loss")
    }


def weight_difference(left: Path, right: Path) -> float:
    """Return the norm of the difference of two runs' weights, relative to that of the weights."""
    ours, theirs = (
        torch.cat(
            [each.detach().flatten() for each in PretrainedModel.from_pretrained(run).parameters()]
        )
        for run in (left, right)
    )
    return float((ours - theirs).norm() / ours.norm())
