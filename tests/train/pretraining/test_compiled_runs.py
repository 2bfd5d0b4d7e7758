"""Runs whose encoder is compiled, and runs in bfloat16: only the steps are compiled."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from aalbert.models.encoder import Encoder
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.run import start_pretraining
from aalbert.train.run_folder import RunFolder


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Count graphs, and take the operations as they are."""
    counter = CompileCounter()

    def compile_encoder(encoder: Encoder) -> None:
        nn.Module.compile(encoder, backend=counter)

    monkeypatch.setattr(Encoder, "compile", compile_encoder)
    torch.compiler.reset()
    return counter


@pytest.mark.slow
def test_steps_of_one_shape_are_compiled_once_and_nothing_else_is(
    pretrain_config: PretrainConfig, librispeech_data: Path, tmp_path: Path, counter: Any
) -> None:
    data = replace(
        pretrain_config.data, batching="static", batch_seconds=8.0, crop_seconds=2.0, prefetch=0
    )
    encoder = replace(pretrain_config.encoder, dropout=0.0)
    config = replace(
        pretrain_config,
        data=data,
        encoder=encoder,
        steps=4,
        validate_every_steps=2,
        picture_every_steps=2,
    )
    start_pretraining(replace(config, compile=True), [librispeech_data], tmp_path / "compiled")
    # One with a gradient. Validation and the pictures have other shapes and none.
    assert counter.frame_count == 1
    start_pretraining(config, [librispeech_data], tmp_path / "eager")
    compiled, eager = (
        RunFolder(tmp_path / name).held_out_losses() for name in ("compiled", "eager")
    )
    assert list(compiled) == [2, 4]
    assert compiled == pytest.approx(eager, rel=1e-5)


def test_validation_has_the_precision_of_the_steps(
    pretrain_config: PretrainConfig,
    librispeech_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: set[tuple[bool, torch.dtype]] = set()
    forward = Encoder.forward

    def noting(encoder: Encoder, *arguments: Any) -> Any:
        states = forward(encoder, *arguments)
        seen.add((encoder.training, encoder.projection(arguments[0]).dtype))
        return states

    monkeypatch.setattr(Encoder, "forward", noting)
    config = replace(pretrain_config, steps=1, precision="bf16-mixed")
    start_pretraining(config, [librispeech_data], tmp_path / "run")
    # The picture alone is drawn in float32.
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16), (False, torch.float32)}
