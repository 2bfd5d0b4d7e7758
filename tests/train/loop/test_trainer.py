from pathlib import Path

import pytest
from pytorch_lightning.accelerators import CPUAccelerator, MPSAccelerator

from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.trainer import make_trainer


def test_apples_gpu_is_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    trainer = make_trainer(tmp_path, [], Ranks(), max_steps=1)
    assert isinstance(trainer.accelerator, CPUAccelerator)
