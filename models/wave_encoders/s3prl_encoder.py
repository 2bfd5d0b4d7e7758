"""Upstreams of an installed s3prl, as s3prl itself opens them."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from aalbert.common.text import shortened
from aalbert.errors import InputError, require
from aalbert.models.encoder_names import S3PRL
from aalbert.models.upstream import count_parameters
from aalbert.models.wave_encoders.tensor_digest import digest_of_tensors
from aalbert.models.wave_encoders.wave_upstream import (
    WaveFrames,
    WaveUpstream,
    WaveUpstreamConfig,
    measure_states,
    require_frames,
)

# The rate of the waves that all its upstreams read.
SAMPLE_RATE = 16_000
# Its own features fail on waves of less than half of this, 0.1 s.
LEAST_SAMPLES = 1_600


class S3prlEncoder(nn.Module):
    """An upstream of s3prl, an `S3PRLUpstream`, that gives its hidden states.

    Its hooks gather the states of one call in the upstream, so calls follow one another. What it
    cannot compute is an `InputError`.
    """

    def __init__(self, name: str, upstream: nn.Module, stride_samples: int) -> None:
        super().__init__()
        self.name = name
        self.upstream = upstream
        self.stride_samples = stride_samples
        self.lock = Lock()

    def forward(self, wave: Tensor) -> list[Tensor]:
        """Return the hidden states `(frames, width)` of a wave `(samples,)`.

        Those of a short one are the first of it and the silence that follows on it.
        """
        padded = nn.functional.pad(wave, (0, max(0, LEAST_SAMPLES - len(wave))))
        lengths = torch.tensor([len(padded)], device=wave.device)
        with self.lock, explaining_faults(self.name, f"compute {len(wave):,} samples"):
            states, _ = self.upstream(padded.unsqueeze(0), lengths)
        frames = -(-len(wave) // self.stride_samples) if len(padded) > len(wave) else None
        return [state[0, :frames] for state in states]


def open_s3prl_encoder(name: str, untrained_seed: int | None) -> WaveUpstream:
    """Open the upstream that `s3prl:NAME` names, with the weights that s3prl has for it.

    Raises `ConfigError` when s3prl is not installed, or for random weights, `InputError` when it
    has no such upstream.
    """
    require(
        untrained_seed is None,
        f"--untrained needs a model whose weights can be drawn anew, and {name} is one of s3prl, "
        "which scales random weights by the trained ones: name the model with hf:",
    )
    require(
        find_spec("s3prl") is not None,
        f"{name} needs a package that is not installed: pip install 'aalbert[s3prl]'",
    )
    upstream = find_upstream(name)
    rates = sorted(set(upstream.downsample_rates))
    if len(rates) > 1:
        raise InputError(
            f"{name} has hidden states of {len(rates)} frame rates, from one every {rates[0]} to "
            f"one every {rates[-1]} samples: a head reads states of one rate"
        )
    encoder = S3prlEncoder(name, upstream, rates[0])
    states, width = measure_states(name, encoder, SAMPLE_RATE)
    opened = WaveUpstream(
        WaveUpstreamConfig(
            name=name,
            weights_xxh3=digest_of_tensors(name, upstream),
            software=f"s3prl {installed_version()}",
            architecture=name.removeprefix(S3PRL),
            parameters=count_parameters(upstream),
            states=states,
            width=width,
            sample_rate=SAMPLE_RATE,
            # s3prl gives a frame for every stride that has begun, and does not say of which samples
            # it is: its centre is taken to be the middle of the stride.
            frames=WaveFrames(least_samples=1, stride_samples=rates[0], first_centre=rates[0] / 2),
        ),
        encoder,
    )
    require_frames(opened)
    return opened


def find_upstream(name: str) -> Any:
    """Return an upstream of s3prl; `InputError` when it has none of this name."""
    from aalbert.common.s3prl_stubs import add_stubs

    add_stubs()
    with explaining_faults(name, "be imported"):
        from s3prl.nn import S3PRLUpstream

        known = S3PRLUpstream.available_names(only_registered_ckpt=True)
    chosen = name.removeprefix(S3PRL)
    if chosen not in known:
        raise InputError(
            f"s3prl has no upstream '{chosen}' that it opens by its name alone: its names are "
            "listed by s3prl.nn.S3PRLUpstream.available_names(only_registered_ckpt=True)"
        )
    with explaining_faults(name, "open it"):
        return S3PRLUpstream(chosen).eval()


@contextmanager
def explaining_faults(name: str, work: str) -> Iterator[None]:
    """Raise what s3prl raises in the block, at some work, as an `InputError` on one line.

    Its upstreams are programs of many authors, which raise errors of every kind.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__} {shortened(str(error))}".strip()
        raise InputError(
            f"{name}: s3prl cannot {work} ({reason}): put right what it names, or choose another"
        ) from error


def installed_version() -> str:
    """Return the version of s3prl."""
    try:
        return version("s3prl")
    except PackageNotFoundError:
        return "of a folder"
