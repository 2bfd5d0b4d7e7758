"""The work of an encoder of another library, counted as it computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import PackedSequence
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from aalbert.models.wave_encoders.wave_upstream import WaveUpstream

# Of the parameters of a recurrent layer, the matrices have two dimensions, biases one.
MATRIX_DIMS = 2


@torch.no_grad()
def counted_macs_per_second(upstream: WaveUpstream, seconds: float) -> int:
    """Return the multiply-accumulates for a second of an utterance that lasts so many seconds.

    PyTorch counts them in products and convolutions, a multiplication and an addition as two; those
    of recurrent layers are the numbers in their matrices, at every frame.
    """
    device = next(upstream.buffers()).device
    wave = torch.zeros(round(seconds * upstream.config.sample_rate), device=device)
    # Of the other ways to compute attention, it counts not all.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        recurrent = RecurrentWork(counter)
        with recurrent.counting(upstream.encoders[0]):
            upstream.states_of(wave)
    counted: int = counter.get_total_flops()
    return round(((counted - recurrent.counted_flops) / 2 + recurrent.macs) / seconds)


class RecurrentWork:
    """The multiply-accumulates `macs` of recurrent layers, as they compute.

    Of these a `counter` counts some or none, by how they are computed here: `counted_flops`.
    """

    def __init__(self, counter: FlopCounterMode) -> None:
        self.counter = counter
        self.macs = 0
        self.counted_flops = 0

    @contextmanager
    def counting(self, module: nn.Module) -> Iterator[None]:
        """Count what the recurrent layers of a module compute in the block."""
        layers = [each for each in module.modules() if isinstance(each, nn.RNNBase)]
        hooks = [hook for each in layers for hook in self.hooks_of(each)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def hooks_of(self, layer: nn.RNNBase) -> tuple[RemovableHandle, RemovableHandle]:
        """Return the hooks, set, that count what a layer computes."""
        numbers = sum(each.numel() for each in layer.parameters() if each.dim() == MATRIX_DIMS)

        def before(_: nn.Module, inputs: tuple[Tensor | PackedSequence, ...]) -> None:
            frames = inputs[0].data
            self.macs += frames.numel() // frames.shape[-1] * numbers
            self.counted_flops -= self.counter.get_total_flops()

        def after(*_: object) -> None:
            self.counted_flops += self.counter.get_total_flops()

        return layer.register_forward_pre_hook(before), layer.register_forward_hook(after)
