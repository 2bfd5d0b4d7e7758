"""A pretrained model: an upstream, and the heads that reconstruct its masked frames."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from aalbert.errors import require
from aalbert.models.checkpoint import load_checkpoint, restore, save_checkpoint
from aalbert.models.front_end import FrontEnd, Statistics
from aalbert.models.heads import ReconstructionHead
from aalbert.models.layout import Packed
from aalbert.models.targets import TargetConfig
from aalbert.models.upstream import Upstream, UpstreamConfig, count_parameters

KIND = "pretrained"


class PretrainedModel(nn.Module):
    """An upstream with an encoder, and one reconstruction head per target.

    Without `targets` the model reconstructs the feature that it reads, normalised as it is
    read. With `mask_token` there is a learned vector `(input_dims,)` to be added to masked
    inputs once they are zero. `target_front_ends` hold the corpus's statistics of targets whose
    normalisation is global; that of the upstream's own feature is at hand.
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
        assert config.encoder is not None, "a pretrained model has an encoder"
        self.upstream = Upstream(config, front_end)
        self.targets = (own_feature(config),) if targets is None else targets
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
            nn.Parameter(torch.randn(config.front_end.input_dims)) if mask_token else None
        )

    @property
    def config(self) -> UpstreamConfig:
        """The configuration of the upstream."""
        return self.upstream.config

    def target_front_end(self, target: TargetConfig) -> FrontEnd:
        """Return the front end of a target; of the own feature, with the upstream's statistics."""
        config = target.front_end(self.config.front_end.frames_stacked)
        own = self.upstream.front_end
        if target.feature == self.config.features.get("kind"):
            return FrontEnd(config, own.mean.clone(), own.std.clone())
        return FrontEnd(config)

    def forward(self, inputs: Tensor, lengths: Tensor | Packed) -> dict[str, Tensor]:
        """Predict every target from (masked) encoder inputs, by feature kind.

        A prediction has the shape of the inputs, padded or packed, with the target's dims.
        """
        assert self.upstream.encoder is not None
        last = self.upstream.encoder(inputs, lengths)[-1]
        return {feature: head(last) for feature, head in self.heads.items()}

    def prepare_targets(
        self,
        features: Mapping[str, Tensor],
        lengths: Tensor | Packed,
        speakers: Mapping[str, Statistics] | None = None,
    ) -> dict[str, Tensor]:
        """Return what `forward` is to predict, from the stored features of every kind.

        `speakers` are for targets that are normalised by speaker.
        """
        return {
            kind: prepare(features[kind], lengths, (speakers or {}).get(kind)).inputs
            for kind, prepare in self.target_front_ends.items()
        }

    def save_pretrained(self, folder: Path | str) -> None:
        """Write `model.safetensors`, `config.json` and a model card into `folder`."""
        document = {
            "kind": KIND,
            "upstream": self.config.to_dict(),
            "targets": [asdict(target) for target in self.targets],
            "mask_token": self.mask_token is not None,
        }
        save_checkpoint(Path(folder), self, document, model_card(self))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "PretrainedModel":
        """Load a saved model or the result of a pretraining run, in evaluation mode.

        Raises `InputError` when there is none, `IntegrityError` when it is damaged.
        """
        tensors, document = load_checkpoint(Path(folder), KIND)
        model = cls(
            UpstreamConfig.from_dict(document["upstream"]),
            tuple(TargetConfig(**target) for target in document["targets"]),
            mask_token=document["mask_token"],
        )
        restore(model, tensors, Path(folder))
        return model.eval()


def own_feature(config: UpstreamConfig) -> TargetConfig:
    """Return the feature that an upstream reads as a target, without deltas."""
    front_end = config.front_end
    return TargetConfig(
        feature=config.features["kind"],
        dims=front_end.feature_dims,
        normalisation=front_end.normalisation,
    )


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
