"""Recurrent layers over frames, for heads."""

import torch
from torch import Tensor, nn

from aalbert.models.head_config import RecurrentConfig

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentLayers(nn.Module):
    """Recurrent layers, `(batch, frames, width)` to `(batch, frames, output_width)`.

    A layer that reads backwards begins at the last frame of each utterance: its frames are
    reversed before and after. So all utterances of a batch go through products of one shape, and
    a result depends on no other utterance, in every bit. (Packed sequences get shorter batches
    towards the end, which round differently.)
    """

    def __init__(self, width: int, config: RecurrentConfig) -> None:
        super().__init__()
        directions = 2 if config.bidirectional else 1
        self.output_width = config.width * directions
        widths = [width, *(self.output_width for _ in range(config.layers - 1))]
        cell = CELLS[config.cell]

        def layers() -> nn.ModuleList:
            return nn.ModuleList(cell(inputs, config.width, batch_first=True) for inputs in widths)

        self.forwards = layers()
        self.backwards = layers() if config.bidirectional else None

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Apply every layer; frames past the end of an utterance have no influence on others."""
        frames = frames.float()
        if self.backwards is None:
            for layer in self.forwards:
                frames = layer(frames)[0]
            return frames
        order = reversed_order(lengths, frames.shape[1])
        for onward, backward in zip(self.forwards, self.backwards, strict=True):
            returned = reordered(backward(reordered(frames, order))[0], order)
            frames = torch.cat([onward(frames)[0], returned], dim=-1)
        return frames

    def last(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the last state of each direction from the frames of `forward`: `(batch, width)`.

        That of the direction that reads backwards is at the first frame.
        """
        ends = (lengths.clamp(min=1) - 1).view(-1, 1, 1).expand(-1, 1, frames.shape[2])
        last = frames.gather(1, ends).squeeze(1)
        if self.backwards is None:
            return last
        width = self.output_width // 2
        return torch.cat([last[:, :width], frames[:, 0, width:]], dim=-1)


def reversed_order(lengths: Tensor, frames: int) -> Tensor:
    """Return the places `(batch, frames)` of an utterance's frames from the last to the first.

    Frames past its end stay where they are.
    """
    places = torch.arange(frames, device=lengths.device).expand(lengths.shape[0], frames)
    ends = lengths.view(-1, 1)
    return torch.where(places < ends, ends - 1 - places, places)


def reordered(frames: Tensor, order: Tensor) -> Tensor:
    """Return the frames `(batch, frames, width)` at the places `(batch, frames)`."""
    return frames.gather(1, order.unsqueeze(-1).expand(-1, -1, frames.shape[2]))
