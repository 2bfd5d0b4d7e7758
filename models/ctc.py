"""Connectionist temporal classification (Graves et al. 2006): frames beside shorter sequences.

The scores of a frame are those of the classes, and of the blank, which is the last.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def frames_needed(targets: Tensor, counts: Tensor) -> Tensor:
    """Return the frames `(batch,)` without which no path gives a sequence.

    `targets (batch, most)` are its classes, of which the first `counts (batch,)` are real. Every
    class needs a frame, and two equal ones in turn a blank between them.
    """
    places = torch.arange(1, targets.shape[1], device=targets.device)
    repeats = (targets[:, 1:] == targets[:, :-1]) & (places < counts.unsqueeze(1))
    return counts + repeats.sum(dim=1)


def ctc_losses(scores: Tensor, lengths: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Return `-log P(sequence)` of every utterance `(batch,)`, in nats.

    `scores` are `(batch, frames, classes + 1)`, of which `lengths (batch,)` frames are real; for
    the others see `frames_needed`. A sequence for which there are too few frames has the loss 0
    and no gradient: leave it out of means.
    """
    logs = scores.float().log_softmax(dim=-1).transpose(0, 1)
    blank = scores.shape[-1] - 1
    return F.ctc_loss(
        logs, targets, lengths, counts, blank=blank, reduction="none", zero_infinity=True
    )


def decode_greedily(scores: Tensor) -> list[int]:
    """Return the classes of the best path through frames `(frames, classes + 1)`.

    Of every frame the best class is taken, equal ones in turn are one, and blanks are left out.
    """
    best = scores.argmax(dim=-1)
    first = torch.ones_like(best, dtype=torch.bool)
    first[1:] = best[1:] != best[:-1]
    return best[first & (best != scores.shape[-1] - 1)].tolist()
