import argparse
import math
import pathlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aalbert.errors import ConfigError
from aalbert.models.encoder import Encoder, Layer, SelfAttention
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.initialisation import initialise
from aalbert.models.layout import Padded, frame_mask
from aalbert.models.positions import Rotation, sinusoids
from aalbert.models.pretrained import ReconstructionHead
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
        (3, False, 160, 21_388_800),
        (6, False, 480, 42_898_176),
        (6, False, 80, 42_590_976),
        (12, False, 480, 85_425_408),
        (12, False, 80, 85_118_208),
    ],
)
def test_encoders_have_as_many_parameters_as_published(
    layers: int, shared: bool, input_dims: int, parameters: int
) -> None:
    with torch.device("meta"):
        encoder = Encoder(EncoderConfig(layers=layers, share_layers=shared), input_dims)
    assert count_parameters(encoder) == parameters


@pytest.mark.parametrize(
    ("target_dims", "parameters"), [(80, 653_648), (3 * 1024, 2_954_496), (3 * 1025, 2_956_803)]
)
def test_the_reconstruction_head_has_as_many_parameters_as_published(
    target_dims: int, parameters: int
) -> None:
    with torch.device("meta"):
        assert count_parameters(ReconstructionHead(EncoderConfig(), target_dims)) == parameters


def test_sharing_leaves_out_91_percent_of_twelve_layers() -> None:
    with torch.device("meta"):
        shared, separate = (
            count_parameters(Encoder(EncoderConfig(layers=12, share_layers=share), 480))
            for share in (True, False)
        )
    assert round(100 * (1 - shared / separate), 2) == 91.27


def test_one_projection_of_queries_and_keys_saves_a_square_matrix_per_layer() -> None:
    counts = [
        count_parameters(Encoder(replace(SMALL, share_query_key=share, share_layers=False), 8))
        for share in (False, True)
    ]
    assert counts[0] - counts[1] == 3 * (16 * 16 + 16)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_a_layer_computes_the_same_as_that_of_pytorch(
    norm: Literal["post", "pre"], activation: Literal["gelu", "relu"]
) -> None:
    config = replace(SMALL, norm=norm, activation=activation, initial_std=0.3, dropout=0.0)
    ours = Layer(config)
    initialise(ours, 0.3)
    theirs = nn.TransformerEncoderLayer(
        16, 4, 32, 0.0, activation, 1e-12, batch_first=True, norm_first=norm == "pre"
    )
    theirs.load_state_dict(names_of_pytorch(ours))
    hidden, lengths = torch.randn(2, 9, 16), torch.tensor([9, 4])
    expected = theirs(hidden, src_key_padding_mask=~frame_mask(lengths, 9))
    found = ours(hidden, Padded.of(lengths, 9))
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1, :4], expected[1, :4], atol=1e-5, rtol=1e-5)


def names_of_pytorch(layer: Layer) -> dict[str, Tensor]:
    names = {
        "attention.query_key_value.": "self_attn.in_proj_",
        "attention.output.": "self_attn.out_proj.",
        "attention_norm.": "norm1.",
        "expand.": "linear1.",
        "contract.": "linear2.",
        "feed_forward_norm.": "norm2.",
    }
    return {
        theirs + kind: layer.state_dict()[ours + kind].clone()
        for ours, theirs in names.items()
        for kind in ("weight", "bias")
    }


def test_attention_maps_are_those_of_pytorch_and_give_padding_nothing() -> None:
    encoder = Encoder(replace(SMALL, initial_std=0.5), 8).eval()
    inputs, lengths = torch.randn(2, 9, 8), torch.tensor([9, 4])
    with torch.no_grad():
        maps = encoder.attention_maps(inputs, lengths)
        states = encoder(inputs, lengths)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert encoder.attention_maps(inputs, lengths).dtype == torch.float32
    assert maps.shape == (3, 2, 4, 9, 9)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(3, 2, 4, 9))
    assert not maps[:, 1, :, :, 4:].any()
    attention = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    layer = encoder.layers[0]
    assert isinstance(layer, Layer)
    attention.load_state_dict(
        {
            name.removeprefix("self_attn."): value
            for name, value in names_of_pytorch(layer).items()
            if name.startswith("self_attn.")
        }
    )
    padding = ~frame_mask(lengths, 9)
    for number, state in enumerate(states[:-1]):
        _, expected = attention(state, state, state, padding, average_attn_weights=False)
        torch.testing.assert_close(maps[number], expected)


def test_attention_maps_of_what_would_be_cut_are_refused() -> None:
    encoder = Encoder(replace(SMALL, position_frames=5), 8)
    with pytest.raises(ConfigError, match=r"maps of 9 frames.* at most 5 .*shorter audio"):
        encoder.attention_maps(torch.randn(1, 9, 8), torch.tensor([9]))


@pytest.mark.parametrize("norm", ["post", "pre"])
@torch.no_grad()
def test_long_utterances_are_encoded_in_the_chunks_of_torch_chunk(
    norm: Literal["post", "pre"],
) -> None:
    config = replace(SMALL, norm=norm, position_frames=7)
    encoder = Encoder(config, 8).eval()
    padded, lengths = torch.randn(3, 24, 8), torch.tensor([24, 15, 6])
    states = encoder(padded, lengths)
    for row, (utterance, length) in enumerate(zip(padded, lengths.tolist(), strict=True)):
        chunks = utterance[:length].chunk(-(-length // 7))
        parts = [encoder(chunk.unsqueeze(0), torch.tensor([len(chunk)])) for chunk in chunks]
        for number, state in enumerate(states):
            expected = torch.cat([part[number][0] for part in parts])
            torch.testing.assert_close(state[row, :length], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_positions_continue_beyond_those_that_are_known_if_set() -> None:
    config = replace(SMALL, position_frames=4, beyond_positions="continue")
    short, unlimited = (Encoder(each, 8).eval() for each in (config, SMALL))
    unlimited.load_state_dict(short.state_dict())
    inputs, lengths = torch.randn(1, 30, 8), torch.tensor([30])
    short(inputs[:, :3], torch.tensor([3]))
    for ours, theirs in zip(short(inputs, lengths), unlimited(inputs, lengths), strict=True):
        assert torch.equal(ours, theirs)


@torch.no_grad()
def test_the_table_of_sinusoids_grows_with_the_utterances() -> None:
    encoder = Encoder(SMALL, 8).eval()
    assert encoder.positions(3, torch.device("cpu")).shape == (1024, 16)
    grown = encoder.positions(5000, torch.device("cpu"))
    assert torch.equal(grown[:5000], sinusoids(5000, 16))


def test_learned_positions_are_parameters_and_end() -> None:
    config = replace(SMALL, positions="learned", position_frames=50)
    encoder = Encoder(config, 8)
    assert encoder.state_dict()["positions.weight"].shape == (50, 16)
    encoder(torch.randn(1, 3, 8), torch.tensor([3]))[-1].square().mean().backward()
    gradient = encoder.positions.weight.grad
    assert isinstance(gradient, Tensor)
    assert gradient[:3].abs().min() > 0 and not gradient[3:].any()
    with pytest.raises(ConfigError, match=r"learned end after .*set encoder\.beyond_positions"):
        replace(config, beyond_positions="continue")
    with pytest.raises(ConfigError, match=r"learned is a table: set encoder\.position_frames"):
        Encoder(replace(SMALL, positions="learned"), 8)


def test_a_row_without_an_utterance_stays_finite() -> None:
    encoder = Encoder(SMALL, 8)
    states = encoder(torch.zeros(2, 9, 8), torch.tensor([9, 0]))
    states[-1].square().mean().backward()
    assert all(state.isfinite().all() for state in states)
    assert all(
        part.grad is not None and part.grad.isfinite().all() for part in encoder.parameters()
    )


def test_weights_may_have_16_bits() -> None:
    encoder = Encoder(SMALL, 8).eval()
    inputs, lengths = torch.randn(1, 9, 8), torch.tensor([9])
    exact = encoder(inputs, lengths)[-1]
    half = encoder.bfloat16()(inputs, lengths)[-1]
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).norm() / exact.norm() < 2e-2


def test_a_model_that_was_used_in_inference_mode_can_still_be_trained() -> None:
    encoder = Encoder(SMALL, 8)
    inputs, lengths = torch.randn(1, 9, 8), torch.tensor([9])
    with torch.inference_mode():
        encoder(inputs, lengths)
    encoder(inputs, lengths)[-1].square().mean().backward()
    assert encoder.projection.weight.grad is not None


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


def test_other_utterances_and_padding_never_change_a_state() -> None:
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


@torch.no_grad()
def test_rotary_positions_are_products_with_complex_numbers() -> None:
    torch.manual_seed(0)
    config = replace(SMALL, positions="rotary", initial_std=0.5)
    attention = Encoder(config, 8).layers[0].get_submodule("attention")
    assert isinstance(attention, SelfAttention)
    hidden = torch.randn(1, 9, 16)
    plain, turned = (
        attention.project(hidden, rotation)
        for rotation in (None, Rotation.of(sinusoids(9, attention.head_width)))
    )
    speeds = 10_000 ** (-torch.arange(0, 4, 2, dtype=torch.float64) / 4)
    angles = torch.arange(9, dtype=torch.float64)[:, None] * speeds
    for before, after in zip(plain[:2], turned[:2], strict=True):
        left, right = before.double().chunk(2, dim=-1)
        number = torch.complex(left, right) * torch.exp(1j * angles)[:, None]
        expected = torch.cat([number.real, number.imag], dim=-1)
        torch.testing.assert_close(after.double(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(plain[2], turned[2])


@torch.no_grad()
def test_with_rotary_positions_only_distances_count() -> None:
    torch.manual_seed(0)
    inputs, lengths = torch.randn(2, 9, 8), torch.tensor([9, 5])
    starts = torch.tensor([3, 40])
    rotary = replace(SMALL, positions="rotary", position_frames=60, initial_std=0.5)
    for config, moves in ((rotary, False), (replace(rotary, positions="learned"), True)):
        encoder = Encoder(config, 8).eval()
        here, there = encoder(inputs, lengths)[-1], encoder(inputs, lengths, starts)[-1]
        assert torch.allclose(here, there, atol=1e-4) is not moves


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@torch.no_grad()
def test_positions_may_begin_later(positions: Literal["sinusoidal", "learned"]) -> None:
    torch.manual_seed(0)
    encoder = Encoder(replace(SMALL, positions=positions, position_frames=60), 8).eval()
    inputs, lengths, starts = torch.randn(2, 9, 8), torch.tensor([9, 5]), torch.tensor([0, 40])
    plain = encoder(inputs, lengths)[0]
    states = encoder(inputs, lengths, starts)[0]
    assert torch.equal(states[0], plain[0])
    table = encoder.positions(60, inputs.device)
    moved = encoder.input_norm(encoder.projection(inputs[1]) + table[40:49])
    torch.testing.assert_close(states[1], moved)
    with pytest.raises(ConfigError, match=r"need their number: set encoder\.position_frames"):
        Encoder(SMALL, 8)(inputs, lengths, starts)


@torch.no_grad()
def test_inputs_may_pass_a_hidden_layer() -> None:
    config = replace(SMALL, input_width=24, positions="rotary", initial_std=0.3)
    encoder = Encoder(config, 8).eval()
    inputs, weights = torch.randn(2, 9, 8), encoder.state_dict()
    hidden = inputs @ weights["projection.0.weight"].T + weights["projection.0.bias"]
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    projected = hidden @ weights["projection.2.weight"].T + weights["projection.2.bias"]
    deviation = projected.std(dim=-1, correction=0, keepdim=True)
    normed = (projected - projected.mean(dim=-1, keepdim=True)) / deviation
    states = encoder(inputs, torch.tensor([9, 9]))
    torch.testing.assert_close(states[0], normed)
    assert encoder.bfloat16()(inputs, torch.tensor([9, 9]))[0].dtype == torch.bfloat16
    with pytest.raises(ConfigError, match=r"encoder\.input_width 0 must be above 0"):
        replace(SMALL, input_width=0)


def test_a_head_of_an_odd_width_cannot_be_turned() -> None:
    with pytest.raises(ConfigError, match=r"rotary turn pairs.*width 12 .*heads 4 .*even"):
        EncoderConfig(width=12, heads=4, positions="rotary")


def test_initial_weights_follow_the_width() -> None:
    for width, std in ((768, 0.02), (192, 0.04), (128, 0.04899)):
        config = EncoderConfig(width=width, heads=4)
        assert config.weight_std == pytest.approx(std, abs=1e-5)
        weights = Encoder(config, 240).projection.get_parameter("weight")
        assert weights.std().item() == pytest.approx(std, rel=0.05)
    assert EncoderConfig(width=128, heads=4, initial_std=0.3).weight_std == 0.3


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
