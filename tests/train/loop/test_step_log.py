"""The log of training steps, without a run."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aalbert.train.loop.ranks import find_ranks
from aalbert.train.loop.step_log import LogSettings, StepLog
from aalbert.train.loop.throughput import Clock


class Rows:
    """A recorder that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, **row: Any) -> None:
        self.rows.append(row)


@pytest.mark.parametrize(("steps", "recorded"), [(7, [3, 6, 7]), (6, [3, 6])])
def test_the_last_step_is_recorded_once_wherever_it_falls(steps: int, recorded: list[int]) -> None:
    loader: Any = SimpleNamespace(waited_s=0.0)
    metrics = Rows()
    settings = LogSettings("task", steps=steps, every_steps=3, frame_shift_ms=10.0)
    log = StepLog(settings, metrics, loader, Clock(), find_ranks())
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_idx=0))
    optimisers = [SimpleNamespace(param_groups=[{"lr": 0.5}])]
    trainer: Any = SimpleNamespace(
        global_step=0, accumulate_grad_batches=1, fit_loop=loop, optimizers=optimisers
    )
    module: Any = SimpleNamespace(device=torch.device("cpu"))
    batch: Any = SimpleNamespace(real_frames=40, squared_frames=800, features=torch.empty(2, 25, 4))
    log.on_train_start(trainer, module)
    for step in range(1, steps + 1):
        log.on_train_batch_start(trainer)
        trainer.global_step = step
        log.on_train_batch_end(trainer, module, {"loss": torch.tensor(float(step))}, batch)
    log.teardown(trainer, module, "fit")
    assert [(row["step"], row["train_loss"]) for row in metrics.rows] == [
        (step, float(step)) for step in recorded
    ]
    assert {row["padding_efficiency"] for row in metrics.rows} == {0.8}
