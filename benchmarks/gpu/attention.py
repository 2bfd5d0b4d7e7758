"""The stage `attention`: the kernels that could compute it, and what a new shape costs each.

Forward and backward of one layer, at the batch, the heads and the length of `aalbert-3l`: padded
utterances by the kernels that take their mask, and the same utterances packed. Padded batches have
new shapes again and again, so the first call of several lengths is timed beside repeated ones.
The encoder leaves cuDNN out (`models/attention_backends.py`); these figures tell whether it should.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from aalbert.models.layout import Packed
from benchmarks.gpu.attempts import Attempts
from benchmarks.gpu.context import Context
from benchmarks.gpu.machine import timed_s

KERNELS = {
    "cuda": {"efficient": SDPBackend.EFFICIENT_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION},
    "cpu": {"math": SDPBackend.MATH},
}
# Utterances, heads, and the frames of the longest utterance.
SIZES = {"cuda": (32, 12, 1_500), "cpu": (2, 2, 60)}
HEAD_WIDTH = 64
NEW_SHAPES, REPEATS = 4, 10


def run(context: Context) -> None:
    """Time every kernel."""
    attempts = Attempts(context)
    for name, backend in KERNELS[context.device].items():
        with attempts.attempt(kernel=name):
            write(context, name, partial(attend_padded, backend))
    with attempts.attempt(kernel="packed"):
        write(context, "packed", attend_packed)
    attempts.end()


def write(
    context: Context, name: str, attend: Callable[[Context, int], Callable[[], None]]
) -> None:
    """Write the time of a call with a new length, and of a repeated one."""
    device, (_, _, longest) = torch.device(context.device), SIZES[context.device]
    # The first one of all also loads the kernel.
    first, *new = [timed_s(attend(context, longest - 8 * n), device) for n in range(NEW_SHAPES)]
    step = attend(context, longest)
    repeated = [timed_s(step, device) for _ in range(REPEATS)]
    context.write(
        kind="attention",
        kernel=name,
        first_ms=round(1000 * first, 3),
        new_length_ms=round(1000 * statistics.median(new), 3),
        repeated_ms=round(1000 * statistics.median(repeated), 3),
    )


def attend_padded(backend: SDPBackend, context: Context, longest: int) -> Callable[[], None]:
    """Return a forward and backward pass of padded utterances, `longest` frames with padding."""
    utterances, heads, _ = SIZES[context.device]
    query, key, value = inputs((utterances, heads, longest, HEAD_WIDTH), context)
    lengths = lengths_of(context, longest)
    mask = (torch.arange(longest, device=lengths.device) < lengths[:, None])[:, None, None]

    def step() -> None:
        with sdpa_kernel(backend):
            states = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        torch.autograd.grad(states.sum(), (query, key, value))

    return step


def attend_packed(context: Context, longest: int) -> Callable[[], None]:
    """Return a forward and backward pass of the same utterances, packed."""
    _, heads, _ = SIZES[context.device]
    lengths = lengths_of(context, longest)
    ends = lengths.cumsum(0, dtype=torch.int32)
    layout = Packed(torch.cat([ends.new_zeros(1), ends]), longest)
    query, key, value = inputs((int(ends[-1]), heads, HEAD_WIDTH), context)

    def step() -> None:
        states = layout.attend(query, key, value, dropout=0.0)
        torch.autograd.grad(states.sum(), (query, key, value))

    return step


def inputs(shape: tuple[int, ...], context: Context) -> list[Tensor]:
    """Return queries, keys and values in the type of training."""
    dtype = torch.float32 if context.rehearsal else torch.bfloat16
    return [
        torch.randn(shape, dtype=dtype, device=context.device, requires_grad=True) for _ in range(3)
    ]


def lengths_of(context: Context, longest: int) -> Tensor:
    """Return lengths of utterances, of which the longest is not padded: `(utterances,)`."""
    utterances, _, _ = SIZES[context.device]
    return torch.linspace(longest * 0.7, longest, utterances, device=context.device).round().long()
