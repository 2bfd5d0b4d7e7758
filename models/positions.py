"""Positions: sinusoids, a learned vector per frame, or rotations of queries and keys."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# The first size of a table of sinusoids; it is doubled until it suffices.
FIRST_FRAMES = 1024


class SinusoidalPositions(nn.Module):
    """Sinusoids for any number of frames, which are not saved with the model.

    The table is kept between calls and grows for longer utterances. It is not a buffer, because
    buffers must have the same size on all ranks.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.table = torch.empty(0, width)

    def forward(self, frames: int, device: torch.device) -> Tensor:
        """Return the positions of at least `frames` frames, `(frames or more, width)`."""
        if frames > len(self.table) or self.table.device != device:
            size = max(FIRST_FRAMES, 2 ** (frames - 1).bit_length())
            self.table = sinusoids(size, self.width).to(device)
        return self.table


class LearnedPositions(nn.Module):
    """A learned vector for each of a fixed number of frames."""

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(frames, width))

    def forward(self, frames: int, device: torch.device) -> Tensor:
        """Return the whole table, which must have at least `frames` rows: `(rows, width)`."""
        assert frames <= len(self.weight), "longer utterances must have been cut"
        return self.weight


def sinusoids(frames: int, width: int) -> Tensor:
    """Return `(frames, width)`: sine in even, cosine in odd dimensions (Vaswani et al. 2017).

    The angle at frame `p` in dimensions `2i` and `2i + 1` is `p / 10000^(2i / width)`. Angles are
    in float64: at frame 24,000 the error of float32 is 1e-3.
    """
    time = torch.arange(frames, dtype=torch.float64).unsqueeze(1)
    even = torch.arange(0, width, 2, dtype=torch.float64)
    angles = time / 10_000 ** (even / width)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).float()


@dataclass(frozen=True)
class Rotation:
    """Rotations of the pairs of numbers of queries and keys by their positions (Su et al. 2021).

    `cosine` and `sine` are `(..., frames, 1, head width)`. Number `i` of the first half of a head
    makes a pair with number `i` of the second half, which share an angle; the sine is negative in
    the first half. The product of a query and a key then depends on their distance alone.
    """

    cosine: Tensor
    sine: Tensor

    @classmethod
    def of(cls, positions: Tensor) -> "Rotation":
        """Return the rotations by the angles of sinusoids `(..., frames, head width)`."""
        sine, cosine = positions[..., 0::2], positions[..., 1::2]
        return cls(
            cosine=torch.cat([cosine, cosine], dim=-1).unsqueeze(-2),
            sine=torch.cat([-sine, sine], dim=-1).unsqueeze(-2),
        )

    def turn(self, values: Tensor) -> Tensor:
        """Turn `(..., frames, heads, head width)`, keeping shape and type."""
        exact = values.float()
        partners = exact.roll(values.shape[-1] // 2, dims=-1)
        return torch.addcmul(exact * self.cosine, partners, self.sine).to(values.dtype)
