import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning import LightningModule
from pytorch_lightning.accelerators import CPUAccelerator, MPSAccelerator

from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.trainer import fit, make_trainer


def test_apples_gpu_is_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    trainer = make_trainer(tmp_path, [], Ranks(), max_steps=1)
    assert isinstance(trainer.accelerator, CPUAccelerator)


def test_a_ctrl_c_before_training_listens_is_one_that_the_command_line_reports() -> None:
    unused: Any = None
    # As Lightning does when it is interrupted.
    trainer: Any = SimpleNamespace(fit=lambda *_, **__: sys.exit(1))
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, LightningModule(), unused, None)
