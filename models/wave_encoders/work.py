"""The work of an encoder of another library, counted as it computes."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aalbert.models.wave_encoders.wave_upstream import WaveUpstream


@torch.no_grad()
def counted_macs_per_second(upstream: WaveUpstream, seconds: float) -> int:
    """Return the multiply-accumulates for a second of an utterance that lasts so many seconds.

    PyTorch counts them in products and convolutions, a multiplication and an addition as two.
    """
    device = next(upstream.buffers()).device
    wave = torch.zeros(round(seconds * upstream.config.sample_rate), device=device)
    # Of the other ways to compute attention, it counts not all.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        upstream.states_of(wave)
    operations: int = counter.get_total_flops()
    return round(operations / 2 / seconds)
