"""What pretraining puts on an encoder: the head that reconstructs frames."""

from torch import Tensor, nn

from aalbert.models.encoder import LAYER_NORM_EPSILON, EncoderConfig, initialise, make_activation


class ReconstructionHead(nn.Module):
    """Predicts frames from the last hidden state: dense, activation, layer norm, linear."""

    def __init__(self, config: EncoderConfig, target_dims: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.activation = make_activation(config)
        self.norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)
        self.output = nn.Linear(config.width, target_dims)
        initialise(self, config.initial_std)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `(..., frames, width)` to `(..., frames, target_dims)`."""
        predicted: Tensor = self.output(self.norm(self.activation(self.dense(hidden))))
        return predicted
