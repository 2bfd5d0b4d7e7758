"""The upstream: features in, hidden states out, through a front end and (mostly) an encoder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from aalbert.models.checkpoint import load_checkpoint, restore, save_checkpoint
from aalbert.models.encoder import Encoder, EncoderConfig
from aalbert.models.front_end import FrontEnd, FrontEndConfig
from aalbert.models.heads import ReconstructionHead

KIND = "pretrained"


@dataclass(frozen=True, kw_only=True)
class UpstreamConfig:
    """What rebuilds an upstream: the features it reads, its front end, its encoder or none.

    `features` are the feature settings as the shards record them.
    """

    features: Mapping[str, Any]
    front_end: FrontEndConfig
    encoder: EncoderConfig | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as a JSON document."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "UpstreamConfig":
        """Read the configuration from its JSON document."""
        encoder = document["encoder"]
        return cls(
            features=document["features"],
            front_end=FrontEndConfig(**document["front_end"]),
            encoder=None if encoder is None else EncoderConfig(**encoder),
            training=document["training"],
        )


class Upstream(nn.Module):
    """Turns stored features into hidden states.

    Without an encoder the only state is the front end's output: the baseline against
    which an encoder has to show its worth.
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
        """Hidden states that `forward` returns."""
        return 1 if self.config.encoder is None else self.config.encoder.layers + 1

    @property
    def width(self) -> int:
        """Numbers per frame of a hidden state."""
        encoder = self.config.encoder
        return self.config.front_end.input_dims if encoder is None else encoder.width

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return hidden states `(batch, encoder frames, width)` and their lengths `(batch,)`."""
        prepared = self.front_end(features, lengths)
        if self.encoder is None:
            return [prepared.inputs], prepared.lengths
        return self.encoder(prepared.inputs, prepared.lengths), prepared.lengths


class PretrainedModel(nn.Module):
    """An upstream with an encoder, and the head that reconstructs its masked frames."""

    def __init__(self, config: UpstreamConfig, front_end: FrontEnd | None = None) -> None:
        super().__init__()
        assert config.encoder is not None, "a pretrained model has an encoder"
        self.upstream = Upstream(config, front_end)
        self.reconstruction = ReconstructionHead(config.encoder, config.front_end.target_dims)

    @property
    def config(self) -> UpstreamConfig:
        """The configuration of the upstream, which is that of the model."""
        return self.upstream.config

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Predict targets `(batch, frames, target_dims)` from (masked) encoder inputs."""
        assert self.upstream.encoder is not None
        states = self.upstream.encoder(inputs, lengths)
        predicted: Tensor = self.reconstruction(states[-1])
        return predicted

    def save_pretrained(self, folder: Path | str) -> None:
        """Write `model.safetensors`, `config.json` and a model card into `folder`."""
        document = {"kind": KIND, "upstream": self.config.to_dict()}
        save_checkpoint(Path(folder), self, document, model_card(self))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "PretrainedModel":
        """Load a saved model or the result of a pretraining run, in evaluation mode.

        Raises `InputError` when there is none, `IntegrityError` when it is damaged.
        """
        tensors, document = load_checkpoint(Path(folder), KIND)
        model = cls(UpstreamConfig.from_dict(document["upstream"]))
        restore(model, tensors, Path(folder))
        return model.eval()


def count_parameters(module: nn.Module) -> int:
    """Count parameters, each once: a shared layer counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


MODEL_CARD = """\
# {system}, {layers} layers, width {width}

{parameters:,} parameters, {encoder_parameters:,} of them in the encoder. Reads `{feature}`
features of {dims} dims ({normalisation} normalisation, {stacked} frames stacked).

```python
from aalbert.models import PretrainedModel
model = PretrainedModel.from_pretrained("FOLDER")
states, lengths = model.upstream(features, lengths)  # (batch, frames, {dims}) in
```

Training: {training}.
"""


def model_card(model: PretrainedModel) -> str:
    """Describe a pretrained model in Markdown."""
    config, encoder = model.config, model.config.encoder
    assert encoder is not None and model.upstream.encoder is not None
    return MODEL_CARD.format(
        system="AALBERT" if encoder.share_layers else "Mockingjay",
        layers=encoder.layers,
        width=encoder.width,
        parameters=count_parameters(model),
        encoder_parameters=count_parameters(model.upstream.encoder),
        feature=config.features.get("kind"),
        dims=config.front_end.feature_dims,
        normalisation=config.front_end.normalisation,
        stacked=config.front_end.frames_stacked,
        training=", ".join(f"{key} {value}" for key, value in config.training.items()) or "none",
    )
