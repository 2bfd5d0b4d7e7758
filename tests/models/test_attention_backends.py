"""On a GPU, padded attention does without the kernel that prepares for every new shape."""

from collections.abc import Callable

import pytest
import torch
from torch.backends import cuda
from torch.nn.attention import SDPBackend, sdpa_kernel

from aalbert.models.attention_backends import ALLOWED, without_cudnn
from tests.fake_gpu import fake_batch, fake_gpu
from tests.models.systems import CHUNK_FRAMES, make_system

cudnn_allowed: Callable[[], bool] = cuda.cudnn_sdp_enabled
GPU, CPU = torch.device("cuda"), torch.device("cpu")


def test_cudnn_is_left_out_on_a_gpu_and_allowed_again() -> None:
    assert cudnn_allowed()
    with without_cudnn(GPU):
        assert not cudnn_allowed()
        assert sum(allowed() for allowed in ALLOWED) == 3
    assert cudnn_allowed()
    with pytest.raises(KeyError), without_cudnn(GPU):
        raise KeyError
    assert cudnn_allowed()
    with without_cudnn(CPU):
        assert cudnn_allowed()


def test_kernels_that_the_caller_chose_are_kept() -> None:
    chosen = [SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(chosen), without_cudnn(GPU):
        assert cudnn_allowed()


def test_our_encoder_never_meets_cudnn_on_a_gpu() -> None:
    model, allowed = make_system("aalbert-3l"), []

    def note(*_: object) -> None:
        allowed.append(cudnn_allowed())

    model.upstream.encoder.register_forward_pre_hook(note)  # type: ignore[union-attr]
    with fake_gpu(model):
        batch = fake_batch(model.config.front_end.feature_dims)
        model.upstream(batch.features, batch.lengths)
        model.encode(model.upstream.front_end(batch.features, batch.lengths).inputs, batch.lengths)
    assert allowed == [False, False]
    assert cudnn_allowed()


def test_nor_do_its_attention_maps() -> None:
    model, allowed = make_system("aalbert-3l"), []
    encoder = model.upstream.encoder
    assert encoder is not None

    def note(*_: object) -> None:
        allowed.append(cudnn_allowed())

    for layer in encoder.layers:
        layer.register_forward_pre_hook(note)
    with fake_gpu(model):
        batch = fake_batch(model.config.front_end.feature_dims)
        # As many as it encodes at once.
        features, lengths = batch.features[:, :CHUNK_FRAMES], batch.lengths.clamp(max=CHUNK_FRAMES)
        model.upstream.attention_maps(features, lengths)
    assert allowed and not any(allowed)


def test_an_upstream_can_be_compiled_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aalbert.models.upstream.without_cudnn", lambda _: without_cudnn(GPU))
    model = make_system("aalbert-3l").upstream
    features, lengths = (
        torch.randn(2, 90, model.config.front_end.feature_dims),
        torch.tensor([90, 50]),
    )
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    states, _ = compiled(features, lengths)
    expected, _ = model(features, lengths)
    torch.testing.assert_close(states, expected)
