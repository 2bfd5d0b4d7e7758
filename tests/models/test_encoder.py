import argparse
import math
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aalbert.errors import ConfigError
from aalbert.models.encoder import Encoder, EncoderConfig
from aalbert.models.heads import ReconstructionHead
from aalbert.models.positions import sinusoids
from aalbert.models.upstream import count_parameters

SMALL = EncoderConfig(layers=3, width=16, heads=4, feed_forward_width=32)


@pytest.mark.parametrize(
    ("layers", "shared", "input_dims", "parameters"),
    [
        # REFERENCE.md 1.3: AALBERT has the same number at any depth.
        (3, True, 480, 7_458_816),
        (12, True, 480, 7_458_816),
        (6, True, 80, 7_151_616),
        (3, True, 160, 7_213_056),
        (3, False, 480, 21_634_560),
        (3, False, 80, 21_327_360),
        (12, False, 480, 85_425_408),
    ],
)
def test_encoders_have_as_many_parameters_as_published(
    layers: int, shared: bool, input_dims: int, parameters: int
) -> None:
    with torch.device("meta"):
        encoder = Encoder(EncoderConfig(layers=layers, share_layers=shared), input_dims)
    assert count_parameters(encoder) == parameters


def test_the_reconstruction_head_has_as_many_parameters_as_published() -> None:
    assert count_parameters(ReconstructionHead(EncoderConfig(), 80)) == 653_648


def test_a_shared_layer_is_stored_once() -> None:
    names = Encoder(SMALL, 8).state_dict()
    assert {name.split(".")[1] for name in names if name.startswith("layers.")} == {"0"}


def test_sharing_is_the_same_as_separate_layers_with_equal_weights() -> None:
    shared = Encoder(SMALL, 8).eval()
    separate = Encoder(EncoderConfig(**{**vars(SMALL), "share_layers": False}), 8).eval()
    state = shared.state_dict()
    for name in list(state):
        if name.startswith("layers.0."):
            for layer in (1, 2):
                state[name.replace("layers.0.", f"layers.{layer}.")] = state[name]
    separate.load_state_dict(state)
    inputs, lengths = torch.randn(2, 9, 8), torch.tensor([9, 5])
    for ours, theirs in zip(shared(inputs, lengths), separate(inputs, lengths), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_there_is_a_state_for_the_input_and_for_every_layer() -> None:
    states = Encoder(SMALL, 8)(torch.randn(2, 9, 8), torch.tensor([9, 9]))
    assert [tuple(state.shape) for state in states] == [(2, 9, 16)] * 4


def test_batch_mates_and_padding_never_change_a_state() -> None:
    encoder = Encoder(SMALL, 8).eval()
    short = torch.randn(1, 6, 8)
    padded = torch.randn(2, 20, 8)
    padded[0, :6] = short
    alone = encoder(short, torch.tensor([6]))
    beside = encoder(padded, torch.tensor([6, 20]))
    for single, batched in zip(alone, beside, strict=True):
        torch.testing.assert_close(single[0], batched[0, :6], atol=1e-5, rtol=0)


def test_positions_follow_the_published_formula() -> None:
    positions = sinusoids(50, 6)
    for frame in (0, 1, 49):
        for dim in range(6):
            angle = frame / 10_000 ** (2 * (dim // 2) / 6)
            expected = math.sin(angle) if dim % 2 == 0 else math.cos(angle)
            assert positions[frame, dim].item() == pytest.approx(expected, abs=1e-5)


def test_a_width_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.width 30 must be .* encoder\.heads 4"):
        EncoderConfig(width=30, heads=4)


@pytest.mark.parametrize("wave", [0, 1])
def test_every_hidden_state_equals_s3prl_audio_albert(shared: Path, wave: int) -> None:
    golden = shared / "golden"
    checkpoint = load_golden(golden / "s3prl_audio_albert.ckpt")
    sizes = checkpoint["Upstream_Config"]["transformer"]
    config = EncoderConfig(
        layers=sizes["num_hidden_layers"],
        width=sizes["hidden_size"],
        heads=sizes["num_attention_heads"],
        feed_forward_width=sizes["intermediate_size"],
    )
    encoder = Encoder(config, 80).eval()
    encoder.load_state_dict(rename_s3prl(checkpoint["Transformer"]))
    arrays = np.load(golden / "s3prl_audio_albert_io.npz")
    inputs = torch.from_numpy(arrays[f"input_wav{wave}"]).unsqueeze(0)
    with torch.no_grad():
        states = torch.cat(encoder(inputs, torch.tensor([inputs.shape[1]])))
    assert np.abs(states.numpy() - arrays[f"hidden_wav{wave}"]).max() < 1e-5


def load_golden(path: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals([argparse.Namespace, pathlib.PosixPath]):
        checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def rename_s3prl(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of s3prl's shared layer our names."""
    theirs = "encoder.layer.0."
    renamed = {}
    for kind in ("weight", "bias"):
        spec = "input_representations"
        renamed[f"projection.{kind}"] = weights[f"{spec}.spec_transform.{kind}"]
        renamed[f"input_norm.{kind}"] = weights[f"{spec}.LayerNorm.{kind}"]
        renamed[f"layers.0.attention.query_key_value.{kind}"] = torch.cat(
            [weights[f"{theirs}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
        )
        for our_name, their_name in (
            ("attention.output", "attention.output.dense"),
            ("attention_norm", "attention.output.LayerNorm"),
            ("expand", "intermediate.dense"),
            ("contract", "output.dense"),
            ("feed_forward_norm", "output.LayerNorm"),
        ):
            renamed[f"layers.0.{our_name}.{kind}"] = weights[f"{theirs}{their_name}.{kind}"]
    return renamed
