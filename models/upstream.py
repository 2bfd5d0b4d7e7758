"""The upstream: a front end and, optionally, an encoder that turn features into hidden states."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aalbert.errors import AalbertWarning, ConfigError, require
from aalbert.models.attention_backends import without_cudnn
from aalbert.models.encoder import Encoder
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.front_end import FrontEnd, FrontEndOutput, Statistics
from aalbert.models.front_end_config import FrontEndConfig
from aalbert.models.layout import Packed
from aalbert.models.static_batches import StaticShapes

MOST_LAYERS = 1000


@dataclass(frozen=True, kw_only=True)
class UpstreamConfig:
    """The settings of an upstream: the features it reads, its front end, its encoder if any.

    `features` are the feature settings in the form in which the shards record them.
    """

    features: Mapping[str, Any]
    front_end: FrontEndConfig
    encoder: EncoderConfig | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            isinstance(self.features.get("kind"), str),
            f"features {dict(self.features)!r:.60} have no kind",
        )
        require(
            self.encoder is None or self.encoder.layers <= MOST_LAYERS,
            f"encoder.layers are above {MOST_LAYERS:,}",
        )
        require(
            self.encoder is None or self.front_end.context == 1,
            f"front_end.context {self.front_end.context} is for plain features: neighbours would "
            "show an encoder the frames that a mask hides, use front_end.frames_stacked",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as a JSON document."""
        return asdict(self)

    def require_dims(self, dims: int) -> None:
        """Raise `ConfigError` when its features have other dims than the front end reads."""
        require(
            dims == self.front_end.feature_dims,
            f"front_end.feature_dims {self.front_end.feature_dims}: its features have {dims} dims",
        )


class Upstream(nn.Module):
    """A module that turns stored features into hidden states.

    Without an encoder the only state is the front end's output, the baseline for encoders.
    """

    def __init__(self, config: UpstreamConfig, front_end: FrontEnd | None = None) -> None:
        super().__init__()
        self.config = config
        self.front_end = front_end or FrontEnd(config.front_end)
        self.encoder = (
            None if config.encoder is None else Encoder(config.encoder, config.front_end.input_dims)
        )

    @property
    def states(self) -> int:
        """Number of hidden states that `forward` returns."""
        return 1 if self.config.encoder is None else self.config.encoder.layers + 1

    @property
    def width(self) -> int:
        """Numbers per frame of a hidden state."""
        encoder = self.config.encoder
        return self.config.front_end.input_dims if encoder is None else encoder.width

    def in_words(self) -> str:
        """Return what it is in one line: its encoder, and what it reads."""
        encoder, front_end = self.config.encoder, self.config.front_end
        stacked = f", {front_end.frames_stacked} frames stacked" * (front_end.frames_stacked > 1)
        reads = f"{self.config.features['kind']} of {front_end.feature_dims} dims{stacked}"
        if encoder is None:
            return f"no encoder, {reads}"
        shared = " (one shared)" if encoder.share_layers else ""
        return (
            f"{encoder.layers} layers{shared}, width {encoder.width}, {encoder.heads} heads, "
            f"{count_parameters(self):,} parameters, on {reads}"
        )

    def batch_shapes(self, device: torch.device) -> StaticShapes:
        """Return the shapes of batches whose numbers depend on nothing but the utterance."""
        return StaticShapes.on(device, self.config.front_end.frames_stacked)

    def forward(
        self, features: Tensor, lengths: Tensor | Packed, speakers: Statistics | None = None
    ) -> tuple[list[Tensor], Tensor | Packed]:
        """Return hidden states `(batch, encoder frames, width)` and their lengths `(batch,)`.

        For packed features, states are `(encoder frames, width)`, and the layout is returned
        instead of lengths. `speakers` are the statistics for normalisation by speaker.
        """
        prepared = self.front_end(features, lengths, speakers)
        if self.encoder is None:
            return [prepared.inputs], prepared.lengths
        self.warn_of_unknown_positions(prepared)
        with without_cudnn(prepared.inputs.device):
            return self.encoder(prepared.inputs, prepared.lengths), prepared.lengths

    def attention_maps(
        self, features: Tensor, lengths: Tensor, speakers: Statistics | None = None
    ) -> Tensor:
        """Return attention probabilities `(layers, batch, heads, frames, frames)`, in float32.

        Raises `ConfigError` without an encoder, and when the encoder would cut the utterances.
        """
        if self.encoder is None:
            raise ConfigError("plain features have no attention maps: name a pretrained model")
        prepared = self.front_end(features, lengths, speakers)
        self.warn_of_unknown_positions(prepared)
        with without_cudnn(prepared.inputs.device):
            return self.encoder.attention_maps(prepared.inputs, prepared.lengths)

    def warn_of_unknown_positions(self, prepared: FrontEndOutput) -> None:
        """Warn of utterances that reach beyond the positions that the weights know."""
        encoder, layout = self.config.encoder, prepared.lengths
        frames = layout.longest if isinstance(layout, Packed) else prepared.inputs.shape[1]
        if isinstance(layout, Tensor) and layout.device.type == "cpu":
            # Padding is no utterance; elsewhere a look at the lengths would wait for the device.
            frames = int(layout.max())
        known = encoder.position_frames if encoder is not None else None
        if encoder is None or encoder.chunk_frames or known is None or frames <= known:
            return
        warnings.warn(
            f"an utterance of {frames} encoder frames goes beyond the {known} positions that this "
            "encoder was trained on, and its states there are unreliable: use shorter audio, or a "
            "model with encoder.beyond_positions restart, which encodes it in chunks",
            AalbertWarning,
            stacklevel=3,
        )


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters; a shared layer counts once."""
    return sum(parameter.numel() for parameter in module.parameters())
