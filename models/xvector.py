"""The frame-level layers of an x-vector network: convolutions over time with growing context."""

import torch.nn.functional as F
from torch import Tensor, nn

from aalbert.models.layout import frame_mask

# Kernel size and dilation of each layer, from Snyder et al. 2018, table 1: t-2..t+2, then
# t-2, t, t+2, then t-3, t, t+3, then t alone twice. SUPERB uses the same.
CONTEXTS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))


class TimeDelayLayers(nn.Module):
    """Five time-delay layers, `(batch, frames, width)` to `(batch, frames, output_width)`.

    Frames beyond the ends of an utterance are taken as zero, whatever the batch holds there.
    """

    def __init__(self, width: int, hidden_width: int = 512, output_width: int = 1500) -> None:
        super().__init__()
        widths = [width, *(hidden_width for _ in CONTEXTS[:-1]), output_width]
        self.layers = nn.ModuleList(
            nn.Conv1d(inputs, outputs, size, dilation=dilation, padding=(size - 1) * dilation // 2)
            for inputs, outputs, (size, dilation) in zip(
                widths[:-1], widths[1:], CONTEXTS, strict=True
            )
        )
        self.output_width = output_width

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Apply every layer, each with a ReLU."""
        real = frame_mask(lengths, hidden.shape[1]).unsqueeze(1)
        frames = hidden.transpose(1, 2) * real
        for layer in self.layers:
            frames = F.relu(layer(frames)) * real
        return frames.transpose(1, 2)
