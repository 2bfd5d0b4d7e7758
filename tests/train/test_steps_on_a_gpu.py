"""Steps on a GPU that is only imagined: loss, gradient and new weights are those of the CPU."""

from collections.abc import Callable
from copy import deepcopy
from typing import Literal

import numpy as np
import pytest
import torch

from aalbert.models.downstream import DownstreamModel
from aalbert.models.head_config import HeadConfig, Predicts
from aalbert.shards.loading.batch import Batch
from aalbert.train.downstream.config import DownstreamConfig, LabelConfig, RegressionConfig
from aalbert.train.downstream.labels import ColumnLabels
from aalbert.train.downstream.module import HeadTraining
from aalbert.train.downstream.numbers import NumberLabels
from aalbert.train.downstream.objectives import TaskLabels
from aalbert.train.downstream.phone_sequences import PhoneSequences
from aalbert.train.downstream.phones import FrameLabels
from aalbert.train.preset import preset_names
from aalbert.train.pretraining.module import Pretraining
from tests.computing_gpu import GPU, computing_gpu
from tests.fake_gpu import LENGTHS
from tests.test_device_placement import DIMS, small_module, upstream


def speech(dims: int, targets: dict[str, int]) -> Batch:
    """A batch of noise, with zeros past the end of each utterance."""
    torch.manual_seed(3)

    def features(dims: int) -> torch.Tensor:
        made = torch.randn(len(LENGTHS), max(LENGTHS), dims, dtype=torch.float16)
        for row, length in enumerate(LENGTHS):
            made[row, length:] = 0
        return made

    return Batch(
        features=features(dims),
        lengths=torch.tensor(LENGTHS),
        rows=torch.arange(len(LENGTHS)),
        real_frames=sum(LENGTHS),
        squared_frames=sum(length**2 for length in LENGTHS),
        longest=max(LENGTHS),
        targets={name: features(count) for name, count in targets.items()},
    )


def step(module: Pretraining | HeadTraining, batch: Batch) -> dict[str, torch.Tensor]:
    """Take a step; return the loss, and the weights that it leads to, on the CPU."""
    torch.manual_seed(7)
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2, fused=True)
    loss = module.training_step(batch, 0)
    torch.autograd.backward(loss)
    if isinstance(module, Pretraining):
        module.configure_gradient_clipping(optimiser)
    optimiser.step()
    state = {name: value.detach().cpu() for name, value in module.state_dict().items()}
    return {"loss": loss.detach().cpu(), **state}


def compare(
    module: Pretraining | HeadTraining, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = step(deepcopy(module), batch)
    with computing_gpu(monkeypatch):
        moved = module.to(GPU)
        assert {each.device for each in moved.parameters()} == {GPU}
        found = step(moved, batch.to(GPU))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("name", preset_names())
def test_a_pretraining_step_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = small_module(name, packed=False)
    others = {kind: DIMS[kind] for kind in module.config.objective.targets if kind != "logmel"}
    compare(module, speech(DIMS["logmel"], others), monkeypatch)


LABELS: dict[str, tuple[str, HeadConfig, Predicts, Callable[[], TaskLabels]]] = {
    "classes": (
        "classify",
        HeadConfig(pooling="attentive", hidden=(8,)),
        "classes",
        lambda: ColumnLabels(["a", "b", "c"], torch.arange(3)),
    ),
    "cosine classes": (
        "classify",
        HeadConfig(trunk="xvector", projection=8, pooling="statistics", classifier="cosine"),
        "classes",
        lambda: ColumnLabels(["a", "b", "c"], torch.arange(3)),
    ),
    "phones": (
        "librispeech-phone",
        HeadConfig(pooling="none"),
        "classes",
        lambda: FrameLabels(
            ["a", "b"],
            torch.arange(180) % 2,
            torch.tensor([0, 60, 120]),
            torch.full((3,), 60),
            torch.arange(100),
        ),
    ),
    "sequences": (
        "librispeech-phone-recognition",
        HeadConfig(projection=8, pooling="none"),
        "sequence",
        lambda: PhoneSequences(["a", "b"], {0: [0, 1, 0], 1: [1], 2: [0]}, rows=3, left_out={}),
    ),
    "numbers": (
        "regress",
        HeadConfig(),
        "number",
        lambda: NumberLabels(np.array([3.0, 1.0, 7.5]), np.arange(3), RegressionConfig()),
    ),
}


@pytest.mark.parametrize("mode", ["frozen", "fine-tuned"])
@pytest.mark.parametrize("name", LABELS)
def test_a_downstream_step_is_the_same(
    name: str, mode: Literal["frozen", "fine-tuned"], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, head, predicts, make_labels = LABELS[name]
    labels, frozen = make_labels(), mode == "frozen"
    torch.manual_seed(1)
    model = DownstreamModel(
        upstream(), labels.names, "weighted", head, frozen=frozen, predicts=predicts
    )
    column = LabelConfig(column="level" if task == "regress" else "speaker")
    config = DownstreamConfig(task=task, mode=mode, head=head, labels=column, crop_seconds=0)
    compare(HeadTraining(model, labels, config, [10]), speech(20, {}), monkeypatch)
