"""Position tables: sinusoids, or a learned vector per frame."""

import torch
from torch import Tensor, nn

from aalbert.models.layout import chunk_count


class SinusoidalPositions(nn.Module):
    """Sinusoids for any number of frames, which are not saved with the model.

    The table is kept between calls and grows for longer utterances. It is not a buffer, because
    buffers must have the same size on all ranks.
    """

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.frames = frames
        self.width = width
        self.table = torch.empty(0, width)

    def forward(self, frames: int, device: torch.device) -> Tensor:
        """Return the positions of at least `frames` frames, `(frames or more, width)`."""
        if frames > len(self.table) or self.table.device != device:
            self.frames = self.frames * chunk_count(frames, self.frames)
            self.table = sinusoids(self.frames, self.width).to(device)
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
