"""Under autocast no recording, however unusual, leads to NaN or infinity."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from aalbert.models import EncoderConfig, FrontEndConfig, Packed, PretrainedModel, UpstreamConfig

MELS = 20
SILENCE_LOG = -23.025851  # log(1e-10), where s3prl's log-mel ends
CLIPPED_LOG = 14.0  # log-mel of a square wave of full scale


def waves() -> dict[str, Tensor]:
    """Log-mel frames of unusual recordings."""
    dc = torch.full((40, MELS), SILENCE_LOG)
    dc[:, 0] = 12.0
    return {
        "silence": torch.full((40, MELS), SILENCE_LOG),
        "dc": dc,
        "clipped": torch.full((40, MELS), CLIPPED_LOG) + 1e-3 * torch.randn(40, MELS),
        "half silence": torch.cat([torch.full((20, MELS), SILENCE_LOG), torch.randn(20, MELS)]),
        "one frame": torch.full((1, MELS), CLIPPED_LOG),
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("normalisation", ["utterance", "none"])
@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("lay", ["padded", "packed"])
def test_states_losses_and_gradients_stay_finite(
    dtype: torch.dtype,
    normalisation: Literal["utterance", "none"],
    norm: Literal["post", "pre"],
    lay: str,
) -> None:
    torch.manual_seed(0)
    config = UpstreamConfig(
        features={"kind": "logmel"},
        front_end=FrontEndConfig(
            feature_dims=MELS, deltas=2, normalisation=normalisation, frames_stacked=3
        ),
        encoder=EncoderConfig(
            layers=3, width=32, heads=2, feed_forward_width=64, norm=norm, dropout=0.0
        ),
    )
    model = PretrainedModel(config)
    utterances = [wave.half() for wave in waves().values()]
    lengths = torch.tensor([len(utterance) for utterance in utterances])
    features, layout = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True), lengths
    if lay == "packed":
        offsets = torch.cat([torch.zeros(1), lengths.cumsum(0)]).int()
        features, layout = torch.cat(utterances), Packed(offsets, longest=40)  # type: ignore[assignment]
    with torch.autocast("cpu", dtype=dtype):
        prepared = model.upstream.front_end(features, layout)
        states = model.upstream.encoder(prepared.inputs, prepared.lengths)  # type: ignore[misc]
        predicted = model(prepared.inputs, prepared.lengths)["logmel"]
        target = model.prepare_targets({"logmel": features}, layout)["logmel"]
        loss = (predicted.float() - target).abs().mean()
    torch.autograd.backward(loss)
    assert prepared.inputs.dtype == target.dtype == torch.float32
    assert all(tensor.isfinite().all() for tensor in (prepared.inputs, target, predicted, loss))
    assert all(state.isfinite().all() for state in states)
    # Every trained parameter has a gradient, which several ranks rely on.
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
