"""Operations and speeds, compared with PyTorch's own counter and with hand-computed values."""

import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from aalbert.models import EncoderConfig, FrontEndConfig, PretrainedModel, UpstreamConfig
from aalbert.train.loop.throughput import FORWARD_AND_BACKWARD, Clock, ModelFlops, peak_flops

KINDS = [
    EncoderConfig(layers=3, width=32, heads=4, feed_forward_width=64),
    EncoderConfig(layers=2, width=32, heads=4, feed_forward_width=64, share_layers=False),
    EncoderConfig(layers=6, width=16, heads=2, feed_forward_width=64, share_query_key=True),
]


@pytest.mark.parametrize("encoder", KINDS, ids=["shared", "separate", "one query and key"])
@pytest.mark.parametrize("stacked", [1, 3])
def test_operations_equal_the_count_of_pytorch(encoder: EncoderConfig, stacked: int) -> None:
    """Every application of a shared layer counts; utterances of equal length, so no padding."""
    front_end = FrontEndConfig(feature_dims=20, deltas=1, frames_stacked=stacked)
    config = UpstreamConfig(
        features={"kind": "logmel", "dims": 20}, front_end=front_end, encoder=encoder
    )
    model = PretrainedModel(config)
    batch, frames = 2, 60
    inputs = torch.randn(batch, frames // stacked, front_end.input_dims)
    with FlopCounterMode(display=False) as counter:
        model(inputs, torch.full((batch,), frames // stacked))
    counted = ModelFlops.of(model).count(batch * frames, batch * frames**2)
    assert counted == pytest.approx(FORWARD_AND_BACKWARD * counter.get_total_flops())


def test_a_backward_pass_is_two_forward_passes() -> None:
    config = UpstreamConfig(
        features={"kind": "logmel", "dims": 20},
        front_end=FrontEndConfig(feature_dims=20),
        encoder=KINDS[0],
    )
    model = PretrainedModel(config)
    inputs = torch.randn(2, 40, 20, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        sum(model(inputs, torch.tensor([40, 40])).values()).sum().backward()
    # PyTorch counts the scores of the attention once more, which its kernel computes again.
    assert counter.get_total_flops() == pytest.approx(
        ModelFlops.of(model).count(80, 3200), rel=0.05
    )


def test_peaks_are_known_by_name_and_unknown_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert peak_flops(cuda, "bf16-mixed") == 989.5e12
    assert peak_flops(cuda, "32-true") == 67e12
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 PCIe")
    assert peak_flops(cuda, "bf16-mixed") == 756.5e12
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L40S")
    assert peak_flops(cuda, "bf16-mixed") == 362e12
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Another one")
    assert peak_flops(cuda, "bf16-mixed") is None
    assert peak_flops(torch.device("cpu"), "bf16-mixed") is None


def test_a_stopped_clock_does_not_run() -> None:
    clock = Clock()
    with clock.stopped():
        time.sleep(0.2)
    assert clock.seconds < 0.1
