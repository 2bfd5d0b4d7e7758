"""Every tensor of a step lies on the device of the model, checked on an imagined GPU.

Shapes alone are imagined, also of the kernel for packed batches. What needs numbers (the backward
pass, the optimiser, all that reads a number back) runs on the GPU of `tests/computing_gpu.py`,
which has no such kernel. Copies from pinned memory and `torch.compile` cannot be imagined: tests
marked gpu and `python -m benchmarks.gpu` run them.
"""

from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn

from aalbert.models.downstream import DownstreamModel
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.front_end_config import FrontEndConfig
from aalbert.models.head_config import HeadConfig
from aalbert.models.pretrained import PretrainedModel, TargetConfig
from aalbert.models.standalone.encoder_aalbert import Upstream as StandaloneUpstream
from aalbert.models.standalone.features_aalbert import WaveFeatures
from aalbert.models.upstream import Upstream, UpstreamConfig
from aalbert.pipeline.embeddings.model import EmbeddingModel
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.labels import ColumnLabels
from aalbert.train.downstream.module import HeadTraining
from aalbert.train.downstream.phones import FrameLabels
from aalbert.train.preset import preset_names
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import Pretraining
from aalbert.train.pretraining.reconstruction import measure_errors, reconstruct
from aalbert.train.recipes import read_recipe
from tests.fake_gpu import LENGTHS, fake_batch, fake_gpu
from tests.models.systems import SYSTEMS, make_system

DIMS = {"logmel": 20, "linear": 33}
HEADS = {
    "mean": HeadConfig(),
    "statistics, projected, hidden": HeadConfig(
        pooling="statistics", projection=8, hidden=(16, 12)
    ),
    "attentive": HeadConfig(pooling="attentive"),
    "x-vector": HeadConfig(trunk="xvector", projection=8, pooling="statistics"),
    "cosine": HeadConfig(classifier="cosine", hidden=(8,)),
}


def small_module(name: str, *, packed: bool) -> Pretraining:
    """The module of a preset, with a small encoder; for packed batches in bfloat16."""
    config = read_recipe(name)
    encoder = replace(
        config.encoder,
        layers=2,
        width=32,
        heads=4,
        feed_forward_width=64,
        # Below the longest utterance, so that encoders that can cut do so.
        position_frames=25,
        attention_dropout=0.0 if packed else None,
    )
    front_end = replace(config.front_end, feature_dims=DIMS["logmel"])
    config = replace(config, encoder=encoder, front_end=front_end)
    module = Pretraining(model_of(config), config)
    # Autocast is off without a GPU, and the kernel for packed batches takes 16 bits only.
    return module.bfloat16() if packed else module


def model_of(config: PretrainConfig) -> PretrainedModel:
    targets = tuple(
        TargetConfig(feature=kind, dims=DIMS[kind], normalisation=config.front_end.normalisation)
        for kind in config.objective.targets or ("logmel",)
    )
    description = UpstreamConfig(
        features={"kind": "logmel"}, front_end=config.front_end, encoder=config.encoder
    )
    return PretrainedModel(description, targets, mask_token=config.masking.learned_token)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("name", preset_names())
def test_a_pretraining_step_stays_on_the_device(
    name: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aalbert.models.layout.gpu_generation", lambda device: 9)
    module = small_module(name, packed=packed)
    others = {kind: DIMS[kind] for kind in module.config.objective.targets if kind != "logmel"}
    with fake_gpu(module):
        batch = fake_batch(DIMS["logmel"], others, packed=packed)
        result = reconstruct(module.model, batch, module.config.masking, seed=1)
        errors = measure_errors(result, module.config.objective)
        loss = module.training_step(batch, 0)
        tensors = [result.inputs, errors.sums, errors.counts, loss]
        tensors += [*result.predicted.values(), *result.targets.values()]
        assert {tensor.device.type for tensor in tensors} == {"cuda"}
        assert loss.requires_grad


@pytest.mark.parametrize("mode", ["frozen", "fine-tuned"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_downstream_step_of_utterances_stays_on_the_device(head: HeadConfig, mode: str) -> None:
    labels = ColumnLabels(["a", "b", "c"], torch.arange(3))
    check_downstream_step(head, mode, labels)


@pytest.mark.parametrize("mode", ["frozen", "fine-tuned"])
@pytest.mark.parametrize("column", [True, False], ids=["column", "alignments"])
def test_a_downstream_step_of_frames_stays_on_the_device(mode: str, column: bool) -> None:
    classes = torch.zeros(90, dtype=torch.int64)
    begin, count = torch.tensor([0, 30, 60]), torch.full((3,), 30)
    labels = (
        ColumnLabels(["a", "b"], torch.tensor([0, 1, 0]))
        if column
        else FrameLabels(["a", "b"], classes, begin, count, torch.arange(100))
    )
    check_downstream_step(HeadConfig(pooling="none"), mode, labels)


def check_downstream_step(head: HeadConfig, mode: str, labels: ColumnLabels | FrameLabels) -> None:
    model = DownstreamModel(upstream(), labels.names, "weighted", head, frozen=mode == "frozen")
    phones = isinstance(labels, FrameLabels)
    config = DownstreamConfig(
        task="librispeech-phone" if phones else "classify",
        mode=mode,  # type: ignore[arg-type]
        head=head,
        crop_seconds=0,
    )
    module = HeadTraining(model, labels, config, epoch_ends=[10])
    with fake_gpu(module):
        batch = fake_batch(20)
        cached = replace(batch, features=torch.empty(3, max(LENGTHS) // 2, 3, 16, device="cuda"))
        losses = [module.training_step(each, 0) for each in (batch, cached)]
        assert [loss.device.type for loss in losses] == ["cuda", "cuda"]
        embeddings = model.embed(batch.features, batch.lengths)
        assert embeddings.device.type == "cuda"


def upstream() -> Upstream:
    """An encoder that stacks frames, appends deltas and normalises globally."""
    front_end = FrontEndConfig(feature_dims=20, deltas=1, normalisation="global", frames_stacked=2)
    encoder = EncoderConfig(layers=2, width=16, heads=2, feed_forward_width=32)
    features = asdict(LogMelSettings(mels=20))
    return Upstream(UpstreamConfig(features=features, front_end=front_end, encoder=encoder))


def test_the_hidden_states_of_extract_stay_on_the_device() -> None:
    part = upstream()
    model = EmbeddingModel(part, part, layer_weights=torch.tensor([0.2, 0.3, 0.5]))
    with fake_gpu(model), torch.no_grad():
        assert model.device.type == "cuda"
        batch = fake_batch(20)
        states, lengths = model.upstream(batch.features, batch.lengths)
        chosen = [model.choose(states, layers) for layers in ("all", "last", "mean", "weighted")]
        assert {tensor.device.type for tensor in (lengths, *chosen)} == {"cuda"}


class Forgetful(nn.Module):
    """A module with a tensor that is not registered."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.zeros(3)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.offset


def test_a_tensor_left_behind_is_noticed() -> None:
    module = Forgetful()
    with (
        fake_gpu(module),
        pytest.raises(AssertionError, match="convert all Tensors to FakeTensors"),
    ):
        module(torch.empty(3, device="cuda"))
    with fake_gpu(), pytest.raises(RuntimeError, match="Unhandled FakeTensor Device Propagation"):
        torch.empty(3, device="cuda") + torch.arange(3)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_model_without_this_package_stays_on_the_device(name: str) -> None:
    config = make_system(name).config.to_dict()
    features, upstream = WaveFeatures(config["features"]), StandaloneUpstream(config)
    with fake_gpu(upstream):
        waves = torch.zeros(3, 9_600, device="cuda")
        lengths = torch.tensor([9_600, 4_000, 800], device="cuda")
        states, frames = upstream(features(waves, lengths), features.count_frames(lengths))
        assert {each.device.type for each in (*states, frames)} == {"cuda"}
