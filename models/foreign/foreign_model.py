"""A model read from a foreign checkpoint, and its conversion to a model of this package."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aalbert.errors import IntegrityError, require
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.front_end_config import FrontEndConfig, Normalisation
from aalbert.models.pretrained import PretrainedModel, TargetConfig
from aalbert.models.tensor_difference import difference
from aalbert.models.upstream import UpstreamConfig


@dataclass(frozen=True, kw_only=True)
class ForeignHead:
    """A prediction head with the names of `ReconstructionHead`, and the feature it predicts.

    Without `feature` it predicts the input feature; without `deltas` the size of the head decides
    whether it predicts the deltas of the input too.
    """

    tensors: Mapping[str, Tensor]
    feature: str | None = None
    deltas: int | None = None
    normalisation: Normalisation = "utterance"

    def target(self, kind: str, front_end: FrontEndConfig) -> TargetConfig:
        """Return the target of the head in a model that reads feature `kind`."""
        stacked = front_end.frames_stacked
        rows = len(self.tensors["output.bias"])
        feature, deltas = self.feature or kind, self.deltas
        if deltas is None:
            predicts_input = feature == kind and rows == front_end.input_dims
            deltas = front_end.deltas if predicts_input else 0
        if rows % (stacked * (1 + deltas)):
            raise IntegrityError(
                f"a head predicts {rows} numbers, not a multiple of {stacked} stacked frames with "
                f"{deltas} orders of deltas"
            )
        return TargetConfig(
            feature=feature,
            dims=rows // (stacked * (1 + deltas)),
            deltas=deltas,
            normalisation=self.normalisation,
        )


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """The contents of a foreign checkpoint; `encoder_tensors` have the names of `Encoder`.

    `features` are the known settings of the features that the model reads, or None; `front_end`
    are fields of `FrontEndConfig`. `notes` are messages about differences from the original, and
    about assumptions.
    """

    layout: str
    encoder: EncoderConfig
    encoder_tensors: Mapping[str, Tensor]
    heads: tuple[ForeignHead, ...]
    front_end: Mapping[str, Any]
    features: Mapping[str, Any] | None = None
    mask_token: Tensor | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def build(self, features: Mapping[str, Any], front_end: FrontEndConfig) -> PretrainedModel:
        """Return the model that reads these features (complete settings) through this front end.

        Raises `ConfigError` when these settings give other dims than the model reads,
        `IntegrityError` when tensors and settings differ in size.
        """
        self.check_sizes(front_end)
        targets = [head.target(features["kind"], front_end) for head in self.heads]

        def make() -> PretrainedModel:
            return PretrainedModel(
                UpstreamConfig(
                    features=dict(features),
                    front_end=front_end,
                    encoder=self.encoder,
                    training=dict(self.training),
                ),
                tuple(targets),
                mask_token=self.mask_token is not None,
            )

        tensors = {
            f"upstream.encoder.{name}": tensor for name, tensor in self.encoder_tensors.items()
        }
        for target, head in zip(targets, self.heads, strict=True):
            for name, tensor in head.tensors.items():
                tensors[f"heads.{target.feature}.{name}"] = tensor
        if self.mask_token is not None:
            tensors["mask_token"] = self.mask_token
        check_shapes(make, tensors)
        model = make()
        for name, parameter in model.named_parameters():
            parameter.data.copy_(tensors[name])
        return model.eval()

    def check_sizes(self, front_end: FrontEndConfig) -> None:
        """Raise an error when the first sizes differ, the ones that settings are about."""
        projection = self.encoder_tensors["projection.weight"]
        width, dims = len(projection), projection[0].numel()
        hidden = len(self.encoder_tensors["layers.0.expand.weight"])
        sizes = (self.encoder.width, self.encoder.feed_forward_width)
        if (width, hidden) != sizes:
            raise IntegrityError(
                f"its layers have width {width} and {hidden}, its settings say "
                f"{sizes[0]} and {sizes[1]}"
            )
        require(
            front_end.input_dims == dims,
            f"the model reads {dims} numbers per encoder frame, these settings give "
            f"{front_end.input_dims}: {front_end.feature_dims} dims x {1 + front_end.deltas} with "
            f"deltas x {front_end.frames_stacked} stacked; set what differs with --set, such as "
            "--set front_end.deltas=1",
        )


def check_shapes(make: Callable[[], PretrainedModel], tensors: Mapping[str, Tensor]) -> None:
    """Raise `IntegrityError` when names or shapes of tensors differ from a model's parameters.

    The model is made without memory: its sizes are only claimed until these are known to agree.
    """
    try:
        with torch.device("meta"):
            claimed = dict(make().named_parameters())
    except RuntimeError as error:
        raise IntegrityError(f"its settings say sizes that no model has: {error}") from error
    if different := difference(claimed, tensors):
        raise IntegrityError(f"its tensors and its settings differ about {different}")
