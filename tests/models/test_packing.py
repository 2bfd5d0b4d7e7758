"""Padding, the other utterances of a batch, and packing never change the result."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from aalbert.errors import AalbertWarning, ConfigError
from aalbert.models import (
    EncoderConfig,
    FrontEndConfig,
    Packed,
    PretrainedModel,
    Statistics,
    UpstreamConfig,
)
from aalbert.models.encoder import Encoder
from aalbert.models.front_end import FrontEnd
from aalbert.models.layout import attend_one_by_one, runs_kernel
from aalbert.models.upstream import Upstream

DIMS = 4
SMALL = EncoderConfig(
    layers=2, width=16, heads=2, feed_forward_width=32, initial_std=0.2, dropout=0.0
)
ENCODERS = {
    "aalbert": SMALL,
    "mockingjay": replace(SMALL, share_layers=False),
    "pre-norm": replace(SMALL, norm="pre"),
    "restart": replace(SMALL, position_frames=7),
    "learned": replace(SMALL, positions="learned", position_frames=7),
    "rotary": replace(SMALL, positions="rotary"),
    "rotary, restart": replace(SMALL, positions="rotary", position_frames=7),
    "hidden input layer": replace(SMALL, input_width=24),
    "only query": replace(SMALL, share_query_key=True),
}
FRONT_ENDS = {
    "utterance": FrontEndConfig(feature_dims=DIMS, deltas=1),
    "stacked": FrontEndConfig(feature_dims=DIMS, deltas=2, frames_stacked=3),
    "speaker": FrontEndConfig(feature_dims=DIMS, normalisation="speaker", frames_stacked=2),
    "none": FrontEndConfig(feature_dims=DIMS, normalisation="none"),
}
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=5)


def pack(utterances: list[Tensor]) -> tuple[Tensor, Packed]:
    lengths = [len(utterance) for utterance in utterances]
    offsets = torch.tensor([0, *lengths]).cumsum(0).int()
    return torch.cat(utterances), Packed(offsets, longest=max(lengths))


def pad(utterances: list[Tensor]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(utterance) for utterance in utterances])
    padded = torch.nn.utils.rnn.pad_sequence(
        utterances, batch_first=True, padding_value=float("nan")
    )
    return padded, lengths


def upstream_of(encoder: str, front_end: str) -> Upstream:
    torch.manual_seed(0)
    config = UpstreamConfig(
        features={"kind": "logmel"}, front_end=FRONT_ENDS[front_end], encoder=ENCODERS[encoder]
    )
    return Upstream(config).eval()


def speakers_of(utterances: list[Tensor]) -> Statistics:
    means = torch.stack([torch.full((DIMS,), float(len(some) % 3)) for some in utterances])
    return Statistics(means, means + 1)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("encoder", ENCODERS)
@settings(max_examples=3, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 1000))
@torch.no_grad()
def test_an_utterance_has_the_same_states_alone_padded_and_packed(
    encoder: str, front_end: str, lengths: list[int], seed: int
) -> None:
    upstream = upstream_of(encoder, front_end)
    generator = torch.Generator().manual_seed(seed)
    utterances = [3 * torch.randn(length, DIMS, generator=generator) for length in lengths]
    padded, padded_lengths = upstream(*pad(utterances), speakers_of(utterances))
    packed, layout = upstream(*pack(utterances), speakers_of(utterances))
    assert layout.lengths.tolist() == padded_lengths.tolist()
    assert max(padded_lengths) <= layout.longest
    assert len(packed[0]) - layout.offsets[-1] <= layout.spare
    for row, utterance in enumerate(utterances):
        alone, _ = upstream(*pad([utterance]), speakers_of([utterance]))
        begin, end = layout.offsets[row : row + 2].tolist()
        for state, in_padded, in_packed in zip(alone, padded, packed, strict=True):
            torch.testing.assert_close(
                in_padded[row, : end - begin], state[0], atol=1e-5, rtol=1e-5
            )
            torch.testing.assert_close(in_packed[begin:end], state[0], atol=1e-5, rtol=1e-5)
    assert all(state.isfinite().all() for state in packed)


@pytest.mark.parametrize("encoder", ["aalbert", "learned", "rotary"])
@torch.no_grad()
def test_positions_that_begin_later_are_the_same_padded_and_packed(encoder: str) -> None:
    torch.manual_seed(0)
    model = Encoder(replace(ENCODERS[encoder], position_frames=50), DIMS).eval()
    utterances, starts = (
        [torch.randn(length, DIMS) for length in (20, 7, 13)],
        torch.tensor([30, 0, 9]),
    )
    padded = model(torch.nan_to_num(pad(utterances)[0]), pad(utterances)[1], starts)
    packed = model(*pack(utterances), starts)
    for one, other in zip(padded, packed, strict=True):
        parts = other.split([20, 7, 13])
        for row, part in enumerate(parts):
            torch.testing.assert_close(one[row, : len(part)], part, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_paths_agree_within_two_hundredths_under_bfloat16() -> None:
    upstream = upstream_of("aalbert", "stacked")
    utterances = [3 * torch.randn(length, DIMS) for length in (30, 7, 19)]
    exact, _ = upstream(*pad(utterances))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        padded, _ = upstream(*pad(utterances))
        packed, layout = upstream(*pack(utterances))
    begin, end = layout.offsets[:2].tolist()
    for reference, one, other in zip(exact, padded, packed, strict=True):
        scale = reference[0].norm()
        assert (one[0].float() - other[begin:end].float()).norm() / scale < 2e-2
        assert (reference[0] - other[begin:end].float()).norm() / scale < 2e-2


def test_gradients_are_the_same_padded_and_packed() -> None:
    gradients = []
    for lay in (pad, pack):
        torch.manual_seed(1)
        model = PretrainedModel(upstream_of("restart", "stacked").config).train()
        utterances = [torch.randn(length, DIMS) for length in (30, 7, 2)]
        features, lengths = lay(utterances)
        prepared = model.upstream.front_end(features, lengths)
        predicted = model(prepared.inputs, prepared.lengths)["logmel"]
        if lay is pad:
            total = sum(row[:n].sum() for row, n in zip(predicted, prepared.lengths, strict=True))
        else:
            total = predicted[: prepared.lengths.offsets[-1]].sum()
        torch.autograd.backward(total)
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=1e-4, rtol=1e-4)


def test_training_on_packed_batches_refuses_dropout_of_attention_probabilities() -> None:
    features, layout = pack([torch.randn(6, DIMS)])
    encoder = Encoder(replace(SMALL, dropout=0.1), DIMS)
    with pytest.raises(ConfigError, match=r"probabilities 0\.1 needs padded batches.*set enc"):
        encoder(features, layout)
    encoder.eval()(features, layout)
    Encoder(replace(SMALL, dropout=0.1, attention_dropout=0.0), DIMS)(features, layout)


def test_the_kernel_is_called_with_bounds_that_cover_every_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Outputs that the kernel does not write are undefined, so bounds must cover every frame."""
    calls = []

    def kernel(q: Tensor, k: Tensor, v: Tensor, of_q: Tensor, of_k: Tensor, *most: int) -> Tensor:
        assert of_q is of_k and of_q.dtype == torch.int32
        bounds = of_q.tolist()
        assert bounds[0] == 0 and bounds[-1] == len(q)
        assert max(end - begin for begin, end in zip(bounds, bounds[1:], strict=False)) <= most[0]
        assert most[0] == most[1]
        calls.append(most)
        return attend_one_by_one(q, k, v, bounds)

    upstream = upstream_of("restart", "stacked")
    utterances = [torch.randn(length, DIMS) for length in (30, 1, 8, 2)]
    expected, _ = upstream(*pack(utterances))
    monkeypatch.setattr("aalbert.models.layout.varlen_attn", kernel)
    monkeypatch.setattr("aalbert.models.layout.runs_kernel", lambda query: True)
    states, _ = upstream(*pack(utterances))
    assert len(calls) == 2
    for ours, theirs in zip(states, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.fixture
def weights_in_bfloat16() -> Iterator[None]:
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("front_end", ["stacked", "utterance"])
@pytest.mark.usefixtures("weights_in_bfloat16")
def test_nothing_waits_for_the_device(front_end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without data raise an error when the host would have to read a number."""
    monkeypatch.setattr("aalbert.models.layout.gpu_generation", lambda device: 8)
    # PyTorch 2.15 asks the GPU, once, which of its kernels it has.
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))
    with FakeTensorMode(), torch.device("cuda"):
        prepare = FrontEnd(FRONT_ENDS[front_end])
        encoder = Encoder(ENCODERS["restart"], prepare.config.input_dims)
        packed = Packed(torch.zeros(5, dtype=torch.int32), longest=300)
        lengths = torch.ones(4, dtype=torch.int64)
        for shape, lay in (((900, DIMS), packed), ((4, 300, DIMS), lengths)):
            prepared = prepare(torch.randn(shape), lay)
            states = encoder(prepared.inputs, prepared.lengths)
            assert states[-1].shape == (*prepared.inputs.shape[:-1], SMALL.width)


@pytest.mark.parametrize(
    ("dtype", "width", "generation", "expected"),
    [
        (torch.bfloat16, 64, 8, True),
        (torch.float16, 256, 9, True),
        (torch.float32, 64, 9, False),
        (torch.bfloat16, 60, 9, False),
        (torch.bfloat16, 264, 9, False),  # "at most 256", says PyTorch's kernel
        (torch.float16, 64, 7, False),  # "only supports Ampere GPUs or newer"
    ],
)
def test_the_kernel_gets_only_supported_inputs(
    dtype: torch.dtype,
    width: int,
    generation: int,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aalbert.models.layout.gpu_generation", lambda device: generation)
    with FakeTensorMode():
        assert runs_kernel(torch.empty(5, 4, width, dtype=dtype, device="cuda")) is expected


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_kernel_agrees_with_padded_batches_and_never_synchronises(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(dropout=0.0, position_frames=150)
    front_end = FrontEndConfig(frames_stacked=3, deltas=1)
    upstream = Upstream(
        UpstreamConfig(features={"kind": "logmel"}, front_end=front_end, encoder=config)
    ).cuda()
    utterances = [torch.randn(length, 80, device="cuda") for length in (900, 2, 333, 801)]
    (padded, lengths), (packed, layout) = pad(utterances), pack(utterances)
    lengths = lengths.cuda()
    layout = Packed(layout.offsets.cuda(), layout.longest)
    upstream(packed, layout)  # makes the table of positions
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", dtype=dtype):
            states, made = upstream(packed, layout)
            expected, expected_lengths = upstream(padded, lengths)
            gradients = gradients_of(upstream, states[-1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made.lengths.tolist() == expected_lengths.tolist()
    assert all(gradient.isfinite().all() for gradient in gradients)
    for state, reference in zip(states, expected, strict=True):
        for row, (begin, end) in enumerate(zip(made.offsets[:-1], made.offsets[1:], strict=True)):
            real = reference[row, : end - begin].float()
            assert (state[begin:end].float() - real).norm() / real.norm() < 2e-2


def gradients_of(module: torch.nn.Module, state: Tensor) -> list[Any]:
    torch.autograd.backward(state.float().square().mean())
    return [value.grad for value in module.parameters() if value.grad is not None]


@torch.no_grad()
def test_positions_beyond_those_of_training_are_warned_of() -> None:
    encoder = replace(SMALL, position_frames=10, beyond_positions="continue")
    front_end = FrontEndConfig(feature_dims=DIMS, normalisation="none")
    config = UpstreamConfig(features={"kind": "logmel"}, front_end=front_end, encoder=encoder)
    upstream, cut = Upstream(config).eval(), replace(encoder, beyond_positions="restart")
    short, long = [torch.randn(10, DIMS)], [torch.randn(11, DIMS), torch.randn(4, DIMS)]
    upstream(*pad(short))
    warned = r"an utterance of 11 encoder frames goes beyond the 10 positions .* in chunks"
    for lay in (pad, pack):
        with pytest.warns(AalbertWarning, match=warned):
            upstream(*lay(long))
    with pytest.warns(AalbertWarning, match=warned):
        upstream.attention_maps(*pad(long))
    Upstream(replace(config, encoder=cut)).eval()(*pad(long))
    Upstream(replace(config, encoder=replace(encoder, position_frames=None))).eval()(*pad(long))
