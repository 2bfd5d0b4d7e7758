"""Training steps in bfloat16, in which the classifier and the loss stay in float32."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aalbert.errors import ConfigError
from aalbert.models import DownstreamModel, HeadConfig
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.dev_measures import dev_measure
from aalbert.train.downstream.labels import classification_loss
from aalbert.train.downstream.run import start_downstream
from aalbert.train.run_folder import RunFolder

HEAD = HeadConfig(projection=16, classifier="cosine", hidden=(8,))
FULL = DownstreamConfig(
    epochs=2, learning_rate=1e-3, crop_seconds=0, head=HEAD, prefetch=0, precision="32-true"
)


@pytest.mark.parametrize("cached", [False, True], ids=["features", "cached"])
def test_bfloat16_is_near_float32_and_the_loss_is_in_float32(
    cached: bool,
    voxceleb1_data: Path,
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds: list[tuple[torch.dtype, bool]] = []

    def note(scores: Tensor, *rest: Any) -> Tensor:
        kinds.append((scores.dtype, torch.is_autocast_enabled("cpu")))
        return classification_loss(scores, *rest)

    monkeypatch.setattr("aalbert.train.downstream.objectives.classification_loss", note)
    half = replace(FULL, precision="bf16-mixed", cache_embeddings=cached)
    models = {}
    for name, config in {"full": replace(FULL, cache_embeddings=cached), "half": half}.items():
        models[name] = start_downstream(config, voxceleb1_data, str(pretrained), tmp_path / name)
        assert set(kinds) == {(torch.float32, False)}
    losses = {
        name: [row["train_loss"] for row in RunFolder(tmp_path / name).read_metrics()[::2]]
        for name in models
    }
    assert losses["half"] == pytest.approx(losses["full"], rel=0.02)
    assert losses["half"] != losses["full"], "nothing was computed in bfloat16"
    assert all(one.dtype == torch.float32 for one in models["half"].parameters())


def test_the_dev_part_is_measured_in_float32(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    """What was recorded is what the model gives outside of training."""
    from aalbert.shards import Dataset
    from aalbert.train.downstream.build import setup_of_model

    config = replace(FULL, epochs=1, precision="bf16-mixed")
    start_downstream(config, voxceleb1_data, str(pretrained), tmp_path / "run")
    [row] = [each for each in RunFolder(tmp_path / "run").read_metrics() if "dev_loss" in each]
    model = DownstreamModel.from_pretrained(tmp_path / "run")
    again = dev_measure(config, setup_of_model(config, Dataset(voxceleb1_data), model), None)()
    assert row["dev_loss"] == pytest.approx(again["dev_loss"], rel=1e-6)


def test_a_precision_that_there_is_not_is_refused() -> None:
    from aalbert.common.configuration import load_config

    with pytest.raises(ConfigError, match="precision.*bf16-mixed"):
        load_config(DownstreamConfig, assignments=("precision=bf16",))
