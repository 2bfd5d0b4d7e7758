from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aalbert.models import EncoderConfig, FrontEndConfig, PretrainedModel, Upstream, UpstreamConfig
from aalbert.models.costs import (
    Work,
    count_memory,
    count_parts,
    count_work,
    macs_per_second,
)


def upstream_config(**settings: object) -> UpstreamConfig:
    return UpstreamConfig(
        features={"kind": "logmel"},
        front_end=FrontEndConfig(feature_dims=10, deltas=1, frames_stacked=2),
        encoder=EncoderConfig(
            width=24,
            heads=3,
            feed_forward_width=56,
            **settings,  # type: ignore[arg-type]
        ),
    )


@pytest.mark.parametrize("input_width", [None, 48])
@pytest.mark.parametrize("share_query_key", [False, True])
@pytest.mark.parametrize("layers", [1, 4])
def test_the_work_is_what_pytorch_counts(
    layers: int, share_query_key: bool, input_width: int | None
) -> None:
    config = upstream_config(
        layers=layers, share_query_key=share_query_key, input_width=input_width
    )
    assert config.encoder is not None
    upstream = Upstream(config).eval()
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        upstream(torch.randn(1, 60, 10), torch.tensor([60]))
    work = count_work(config.encoder, config.front_end.input_dims, 30)
    # PyTorch counts a multiplication and an addition as two.
    assert 2 * work.total == counter.get_total_flops()
    assert work.attention == layers * 2 * 30 * 30 * 24


@pytest.mark.parametrize("frames", [100, 101, 399, 400])
def test_the_work_on_chunks_is_that_on_utterances_of_their_sizes(frames: int) -> None:
    cut = EncoderConfig(beyond_positions="restart", position_frames=100, layers=2)
    whole = replace(cut, beyond_positions="continue")
    sizes = [len(chunk) for chunk in torch.arange(frames).chunk(-(-frames // 100))]
    alone = [count_work(whole, 80, size) for size in sizes]
    assert count_work(cut, 80, frames) == Work(
        input_projection=sum(work.input_projection for work in alone),
        layers=sum(work.layers for work in alone),
        attention=sum(work.attention for work in alone),
    )


def test_plain_features_take_no_work() -> None:
    config = UpstreamConfig(
        features={"kind": "logmel", "frame_shift_ms": 10.0}, front_end=FrontEndConfig()
    )
    assert macs_per_second(config) == 0


@pytest.mark.parametrize("shared", [True, False])
def test_every_parameter_belongs_to_one_part(shared: bool) -> None:
    config = upstream_config(layers=3, share_layers=shared, norm="pre")
    model = PretrainedModel(config, mask_token=True)
    counted = count_parts(model, model.upstream)
    assert counted.stored == sum(each.numel() for each in model.parameters())
    assert sum(counted.parts.values()) == counted.stored
    applications = 3 if shared else 1
    attention = 4 * 24 * 24 + 4 * 24
    feed_forward = 2 * 24 * 56 + 24 + 56
    assert counted.parts["attention"] * applications == 3 * attention
    assert counted.parts["feed-forward network"] * applications == 3 * feed_forward
    assert counted.parts["input projection"] == 40 * 24 + 24
    assert counted.parts["mask token"] == 40
    assert "other" not in counted.parts
    unshared = PretrainedModel(
        upstream_config(layers=3, share_layers=False, norm="pre"), mask_token=True
    )
    assert counted.applied == sum(each.numel() for each in unshared.parameters())


def test_memory_is_of_float32() -> None:
    model = PretrainedModel(upstream_config(layers=2))
    parameters = count_parts(model, model.upstream)
    memory = count_memory(parameters, model.upstream, frames_per_second=50)
    weights = sum(each.numel() * each.element_size() for each in model.parameters())
    assert (memory.weights, memory.training) == (weights, 4 * weights)
    assert memory.states_per_second == 3 * 24 * 50 * 4


def test_a_hidden_layer_belongs_to_the_input_projection() -> None:
    upstream = Upstream(upstream_config(layers=3, input_width=48))
    parts = count_parts(upstream, upstream).parts
    assert parts["input projection"] == 40 * 48 + 48 + 48 * 24 + 24
