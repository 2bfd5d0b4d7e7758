"""Recurrent layers as operators of ONNX, which PyTorch's exporter does not make of them."""

from typing import Any

import torch
from torch import Tensor, nn

# The places, in PyTorch's weights, of the gates in the order of ONNX: update, reset and hidden of
# a GRU; input, output, forget and cell of an LSTM.
GATES: dict[type[nn.RNNBase], tuple[int, ...]] = {nn.GRU: (1, 0, 2), nn.LSTM: (0, 3, 1, 2)}


class RecurrentOperator(nn.Module):
    """What replaces a layer `nn.GRU` or `nn.LSTM` of one direction, batch first, to be exported.

    It gives no numbers itself: a runtime of ONNX computes them.
    """

    weights: Tensor
    recurrent_weights: Tensor
    biases: Tensor

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        gates = GATES[type(layer)]

        def ordered(name: str) -> Tensor:
            blocks = getattr(layer, name).detach().chunk(len(gates))
            return torch.cat([blocks[gate] for gate in gates]).unsqueeze(0)

        self.operator = layer.mode
        self.width = layer.hidden_size
        self.attributes: dict[str, Any] = {"hidden_size": self.width}
        if layer.mode == "GRU":
            # The reset gate multiplies what the hidden weights gave, as in PyTorch.
            self.attributes["linear_before_reset"] = 1
        self.register_buffer("weights", ordered("weight_ih_l0"))
        self.register_buffer("recurrent_weights", ordered("weight_hh_l0"))
        self.register_buffer("biases", torch.cat([ordered("bias_ih_l0"), ordered("bias_hh_l0")], 1))

    def forward(self, frames: Tensor) -> tuple[Tensor, None]:
        """Map frames `(batch, frames, dims)` to outputs `(batch, frames, width)`, as the layer."""
        outputs = torch.onnx.ops.symbolic(
            self.operator,
            (frames.transpose(0, 1), self.weights, self.recurrent_weights, self.biases),
            self.attributes,
            dtype=torch.float32,
            shape=(frames.shape[1], 1, frames.shape[0], self.width),
        )
        return outputs.squeeze(1).transpose(0, 1), None


def replace_recurrent_layers(module: nn.Module) -> None:
    """Put operators in the place of all recurrent layers in a module."""
    for name, child in module.named_children():
        if type(child) in GATES:
            assert isinstance(child, nn.RNNBase)
            setattr(module, name, RecurrentOperator(child))
        else:
            replace_recurrent_layers(child)
