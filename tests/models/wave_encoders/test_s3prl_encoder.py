import sys
import threading
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.models.wave_encoders import s3prl_encoder
from aalbert.models.wave_encoders.open import (
    open_wave_encoder,
    reopen_wave_encoder,
    weights_of_encoder,
)

LENGTHS = torch.tensor([8_000, 700, 1])


def waves() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 8_000, 1) * 0.1


class StandIn(nn.Module):
    """The interface of s3prl's `S3PRLUpstream`: a state every 160 samples, and twice that."""

    rates, widths, seed = (160, 160), (4, 4), 3
    failing: tuple[int, ...] = ()

    def __init__(self, name: str) -> None:
        super().__init__()
        if name == "broken":
            raise RuntimeError("its file is\nnot there")
        torch.manual_seed(self.seed)
        self.weights = nn.ParameterList([torch.randn(width) for width in self.widths])
        self.calls = 0

    @classmethod
    def available_names(cls, only_registered_ckpt: bool) -> list[str]:
        assert only_registered_ckpt
        return ["speech", "broken"]

    @property
    def downsample_rates(self) -> list[int]:
        return list(self.rates)

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        self.calls += 1
        assert self.calls == 1, "hooks gather the states of one call"
        assert wavs.shape == (1, int(lengths))
        if int(lengths) in self.failing:
            raise ZeroDivisionError
        assert int(lengths) >= 1_600
        states = [
            wavs[:, ::rate].unsqueeze(-1) * weight
            for rate, weight in zip(self.rates, self.weights, strict=True)
        ]
        threading.Event().wait(0.01)
        self.calls -= 1
        return states, [(lengths - 1) // rate + 1 for rate in self.rates]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    package, interface = ModuleType("s3prl"), ModuleType("s3prl.nn")
    package.__spec__ = ModuleSpec("s3prl", None)
    interface.S3PRLUpstream = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "s3prl", package)
    monkeypatch.setitem(sys.modules, "s3prl.nn", interface)
    return StandIn


@pytest.mark.usefixtures("stand_in")
def test_an_upstream_gives_its_states_whatever_else_is_in_the_batch() -> None:
    upstream = open_wave_encoder("s3prl:speech")
    states, lengths = upstream(waves(), LENGTHS)
    assert lengths.tolist() == [50, 5, 1] and upstream.states == 2 and upstream.width == 4
    weight = upstream.encoders[0].get_parameter("upstream.weights.1")
    expected = waves()[1, :700:160] * weight
    assert torch.equal(states[1][1, :5], expected) and (states[1][1, 5:] == 0).all()
    times = upstream.config.frame_times()
    assert (times.first_ms, times.shift_ms) == (5.0, 10.0)
    assert not upstream.config.normalised and upstream.config.parameters == 8


@pytest.mark.usefixtures("stand_in")
def test_calls_follow_one_another_in_several_threads() -> None:
    upstream = open_wave_encoder("s3prl:speech")
    failed: list[BaseException] = []

    def call() -> None:
        try:
            upstream(waves(), LENGTHS)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_other_weights_are_not_taken_for_those_of_the_head(
    stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = open_wave_encoder("s3prl:speech").config
    assert config.weights_xxh3 == weights_of_encoder("s3prl:speech")
    assert reopen_wave_encoder(config).config == config
    monkeypatch.setattr(stand_in, "seed", 4)
    with pytest.raises(IntegrityError, match="s3prl:speech is not the encoder that the head was"):
        reopen_wave_encoder(config)


def test_what_cannot_be_used_is_an_error_of_one_line(
    stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str, text: str, seed: int | None = None) -> None:
        with pytest.raises((InputError, ConfigError), match=text) as caught:
            open_wave_encoder(name, seed)
        assert "\n" not in str(caught.value)

    refused("s3prl:nothing", "s3prl has no upstream 'nothing' that it opens by its name alone")
    refused("s3prl:__class__", "s3prl has no upstream '__class__' that it opens by its name alone")
    refused("s3prl:broken", r"s3prl:broken: s3prl cannot open it \(RuntimeError its file is")
    refused("s3prl:speech", "--untrained needs a model whose weights can be drawn anew", 1)
    monkeypatch.setattr(stand_in, "failing", (16_000,))
    refused("s3prl:speech", r"s3prl:speech: s3prl cannot compute 16,000 samples \(ZeroDivisionErr")
    monkeypatch.setattr(stand_in, "failing", ())
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "s3prl.nn", ModuleType("s3prl.nn"))
        refused("s3prl:speech", r"s3prl:speech: s3prl cannot be imported \(ImportError cannot imp")
    monkeypatch.setattr(stand_in, "rates", (160, 320))
    refused("s3prl:speech", "hidden states of 2 frame rates, from one every 160 to one every 320")
    monkeypatch.setattr(stand_in, "rates", (160, 160))
    monkeypatch.setattr(stand_in, "widths", (4, 6))
    refused("s3prl:speech", "has hidden states of 2 widths, from 4 to 6: a head reads states of")
    monkeypatch.setattr(s3prl_encoder, "find_spec", lambda name: None)
    refused(
        "s3prl:speech", r"needs a package that is not installed: pip install 'aalbert\[s3prl\]'"
    )


@pytest.mark.slow
def test_waves_that_are_too_short_for_s3prl_have_states_or_are_an_error_of_one_line() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("s3prl", reason="`make test-s3prl` installs s3prl")
        states, lengths = open_wave_encoder("s3prl:fbank")(waves()[:2], torch.tensor([801, 1]))
        assert lengths.tolist() == [6, 1] and bool(states[0].isfinite().all())
        # It leaves silence out, and a sample with silence behind it is nearly that.
        with pytest.raises(InputError, match="s3prl:mel: s3prl cannot compute 1 samples") as caught:
            open_wave_encoder("s3prl:mel")(waves()[:1], torch.tensor([1]))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_upstream_of_s3prl_itself_gives_what_s3prl_gives() -> None:
    with warnings.catch_warnings():
        # s3prl and what it imports use much that is deprecated.
        warnings.simplefilter("ignore")
        pytest.importorskip("s3prl", reason="`make test-s3prl` installs s3prl")
        upstream = open_wave_encoder("s3prl:fbank")
        from s3prl.nn import S3PRLUpstream

        states, lengths = upstream(waves()[:2], LENGTHS[:2])
        itself: Any = S3PRLUpstream("fbank").eval()
        # It fails on some waves of less than 0.1 s, to which they are padded.
        padded = nn.functional.pad(waves()[1:2, :700, 0], (0, 900))
        expected, _ = itself(padded, torch.tensor([1_600]))
    assert lengths.tolist()[1] == 5
    assert len(states) == len(expected) == 1
    torch.testing.assert_close(states[0][1, : lengths[1]], expected[0][0, :5], rtol=0, atol=1e-6)
    assert upstream.config.software == "s3prl 0.4.18"
    assert upstream.config.frames.stride_samples == itself.downsample_rates[0]
