"""A pretrained model: an upstream, and heads that reconstruct its masked frames."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aalbert.errors import ConfigError, require
from aalbert.models.attention_backends import without_cudnn
from aalbert.models.cards.pretrained import pretrained_card
from aalbert.models.checkpoint import load_checkpoint, save_checkpoint
from aalbert.models.encoder import LAYER_NORM_EPSILON, make_activation
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.front_end import FrontEnd, Statistics
from aalbert.models.front_end_config import FrontEndConfig, Normalisation
from aalbert.models.initialisation import initialise
from aalbert.models.layout import Packed
from aalbert.models.rebuild import rebuild
from aalbert.models.training_facts import read_facts
from aalbert.models.upstream import Upstream, UpstreamConfig, count_parameters

KIND = "pretrained"


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """A stored feature to reconstruct, with its own deltas and normalisation.

    `dims` are its stored dimensions.
    """

    feature: str
    dims: int
    deltas: int = 0
    normalisation: Normalisation = "utterance"

    def __post_init__(self) -> None:
        require(self.dims > 0, f"target.dims {self.dims} must be above 0")

    def front_end(self, frames_stacked: int) -> FrontEndConfig:
        """Return the settings that turn the stored feature into the target of encoder frames."""
        return FrontEndConfig(
            feature_dims=self.dims,
            deltas=self.deltas,
            normalisation=self.normalisation,
            frames_stacked=frames_stacked,
        )


@dataclass(frozen=True, kw_only=True)
class SavedPretrained:
    """The description of a saved model."""

    upstream: UpstreamConfig
    targets: tuple[TargetConfig, ...]
    mask_token: bool

    def __post_init__(self) -> None:
        require(self.upstream.encoder is not None, "a pretrained model has an encoder")
        read_facts(self.upstream.training)


class ReconstructionHead(nn.Module):
    """A head that predicts frames from the last state: dense, activation, layer norm, linear."""

    def __init__(self, config: EncoderConfig, target_dims: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.activation = make_activation(config)
        self.norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPSILON)
        self.output = nn.Linear(config.width, target_dims)
        initialise(self, config.weight_std)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `(..., frames, width)` to `(..., frames, target_dims)`."""
        predicted: Tensor = self.output(self.norm(self.activation(self.dense(hidden))))
        return predicted


class PretrainedModel(nn.Module):
    """An upstream with an encoder, and one reconstruction head per target.

    Without `targets` the model reconstructs its input feature, with the same normalisation. With
    `mask_token` it has a learned vector `(input_dims,)`, to be added to masked inputs after they
    are set to zero. `target_front_ends` hold the corpus's statistics of targets with global
    normalisation; those of the input feature are taken from the upstream.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        targets: tuple[TargetConfig, ...] | None = None,
        *,
        mask_token: bool = False,
        front_end: FrontEnd | None = None,
        target_front_ends: Mapping[str, FrontEnd] | None = None,
    ) -> None:
        super().__init__()
        if config.encoder is None:
            raise ConfigError("a pretrained model has an encoder, this one has none")
        self.upstream = Upstream(config, front_end)
        assert self.upstream.encoder is not None
        self.upstream.encoder.train_for([config.encoder.layers])
        self.targets = (input_target(config),) if targets is None else targets
        self.target_front_ends = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for target in self.targets:
            require(
                target.feature not in self.heads,
                f"target {target.feature} is given twice: keep one",
            )
            prepare = (target_front_ends or {}).get(target.feature) or self.target_front_end(target)
            self.target_front_ends[target.feature] = prepare
            self.heads[target.feature] = ReconstructionHead(
                config.encoder, prepare.config.input_dims
            )
        self.mask_token = (
            nn.Parameter(torch.empty(config.front_end.input_dims)) if mask_token else None
        )
        if self.mask_token is not None and not self.mask_token.is_meta:
            nn.init.normal_(self.mask_token)

    def __repr__(self) -> str:
        targets = ", ".join(target.feature for target in self.targets) or "nothing"
        return f"PretrainedModel({self.upstream.in_words()}; reconstructs {targets})"

    @property
    def config(self) -> UpstreamConfig:
        """The configuration of the upstream."""
        return self.upstream.config

    def target_front_end(self, target: TargetConfig) -> FrontEnd:
        """Return the front end of a target; the input feature keeps the upstream's statistics."""
        config = target.front_end(self.config.front_end.frames_stacked)
        if target.feature == self.config.features.get("kind"):
            upstream = self.upstream.front_end
            return FrontEnd(config, upstream.mean.clone(), upstream.std.clone())
        return FrontEnd(config)

    def forward(
        self, inputs: Tensor, lengths: Tensor | Packed, first_positions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return predictions of all targets from (masked) encoder inputs, by feature kind.

        A prediction has the shape of the inputs, padded or packed, with the target's dims. For
        `first_positions` see `Encoder.forward`.
        """
        return self.predict(self.encode(inputs, lengths, first_positions))

    def encode(
        self, inputs: Tensor, lengths: Tensor | Packed, first_positions: Tensor | None = None
    ) -> Tensor:
        """Return the last state of (masked) encoder inputs, which the heads read."""
        assert self.upstream.encoder is not None
        with without_cudnn(inputs.device):
            last: Tensor = self.upstream.encoder(inputs, lengths, first_positions)[-1]
        return last

    def predict(self, last: Tensor) -> dict[str, Tensor]:
        """Return predictions of all targets from the last state, by feature kind."""
        return {feature: head(last) for feature, head in self.heads.items()}

    def prepare_targets(
        self,
        features: Mapping[str, Tensor],
        lengths: Tensor | Packed,
        speakers: Mapping[str, Statistics] | None = None,
    ) -> dict[str, Tensor]:
        """Return the targets of `forward`, from the stored features of each kind.

        `speakers` are the statistics for targets that are normalised by speaker.
        """
        return {
            kind: prepare(features[kind], lengths, (speakers or {}).get(kind)).inputs
            for kind, prepare in self.target_front_ends.items()
        }

    def save_pretrained(self, place: Path | str) -> None:
        """Write `model.safetensors`, `config.json` and a model card to a folder or a URL."""
        save_checkpoint(place, self, self.document(), self.card(self.document()))

    def card(self, document: Mapping[str, Any]) -> str:
        """Return the model card for a configuration, in Markdown."""
        assert self.upstream.encoder is not None
        return pretrained_card(
            document,
            parameters=count_parameters(self),
            encoder_parameters=count_parameters(self.upstream.encoder),
        )

    def document(self) -> dict[str, Any]:
        """Return the configuration that the model is rebuilt from, as a JSON document."""
        return {
            "kind": KIND,
            "upstream": self.config.to_dict(),
            "targets": [asdict(target) for target in self.targets],
            "mask_token": self.mask_token is not None,
        }

    @classmethod
    def from_pretrained(cls, place: Path | str) -> "PretrainedModel":
        """Load a saved model or the result of a pretraining run, in evaluation mode.

        `place` is a folder or a URL. Raises `InputError` when there is none, `IntegrityError`
        when it is damaged, `StorageError` when the store does not answer.
        """
        tensors, saved = load_checkpoint(place, KIND, SavedPretrained)
        return rebuild(
            lambda: cls(saved.upstream, saved.targets, mask_token=saved.mask_token), tensors, place
        )


def input_target(config: UpstreamConfig) -> TargetConfig:
    """Return the input feature of an upstream as a target, without deltas."""
    front_end = config.front_end
    return TargetConfig(
        feature=config.features["kind"],
        dims=front_end.feature_dims,
        normalisation=front_end.normalisation,
    )
