"""The model that a run continues from: its weights, the settings that belong to them, its origin.

Optimiser, schedule, number of steps and random draws are those of a new run.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from aalbert.common.redaction import redact_all, redact_url
from aalbert.common.settings_text import Document
from aalbert.common.text import flat
from aalbert.conversion.saved_model import as_saved
from aalbert.errors import require
from aalbert.models.any_upstream import require_own
from aalbert.models.checkpoint import find_checkpoint, read_config
from aalbert.models.downstream import DownstreamModel
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.pretrained import PretrainedModel, input_target
from aalbert.models.saved_model import load_model
from aalbert.models.training_facts import Origin, read_facts
from aalbert.models.upstream import Upstream
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.run_record import CONTINUED_FROM
from aalbert.train.upstreams import lasting_upstream

# How an encoder is trained, not what it is; pretraining sets the last one to what it trains.
CHANGEABLE = ("dropout", "attention_dropout", "initial_std", "position_frames")


@dataclass(frozen=True, eq=False)
class Start:
    """A model that pretraining continues from, and what is recorded of it."""

    model: PretrainedModel
    origin: Origin

    @property
    def encoder(self) -> EncoderConfig:
        """The settings of its encoder."""
        assert self.model.config.encoder is not None
        return self.model.config.encoder

    @property
    def position_frames(self) -> int:
        """How many positions it is known to be trained on; 0 if nobody recorded that."""
        return self.encoder.position_frames or 0

    def settings(self) -> Document:
        """Return the settings of pretraining that the model decides, as those of a recipe."""
        config = self.model.config
        encoder = asdict(self.encoder)
        for name in CHANGEABLE:
            del encoder[name]
        return {
            "encoder": encoder,
            "front_end": asdict(config.front_end),
            "data": {"feature": config.features["kind"]},
        }

    def recipe(self) -> Document:
        """Return its settings with those that it was trained with, as far as it tells.

        They stand in place of a preset: the model is then trained to predict what it predicts.
        """
        document = self.settings()
        document["encoder"] = asdict(replace(self.encoder, position_frames=None))
        document["masking"] = {"learned_token": self.model.mask_token is not None}
        if self.model.targets not in ((), (input_target(self.model.config),)):
            targets = {target.feature: 1.0 for target in self.model.targets}
            document["objective"] = {"targets": targets}
        return document

    def require_settings(self, config: PretrainConfig) -> None:
        """Raise `ConfigError` with every setting of a run that contradicts the model."""
        given = dict(flat(asdict(config)))
        different = [
            f"{name} is {given[name]}, the model has {value}"
            for name, value in flat(self.settings())
            if given[name] != value
        ]
        require(
            not different,
            f"{'; '.join(different)}: {self.origin.model} can be continued only as it is; leave "
            "these out of flags, environment, file and preset, or set the model's values",
        )

    def require_table_for(self, config: PretrainConfig, crop_frames: int) -> None:
        """Raise `ConfigError` unless its learned positions reach to the end of a crop."""
        known, given = self.position_frames, config.encoder.position_frames
        require(
            given in (None, known),
            f"encoder.position_frames {given}: the learned table of {self.origin.model} has "
            f"{known} positions, leave it out",
        )
        require(
            crop_frames <= known,
            f"data.crop_seconds {config.data.crop_seconds:g}: a crop has {crop_frames} encoder "
            f"frames, the learned table of {self.origin.model} {known} positions: lower it",
        )

    @torch.no_grad()
    def hand_over(self, model: PretrainedModel) -> None:
        """Give a fresh model the weights and the statistics of this one.

        What this one does not have stays as it was drawn.
        """
        model.upstream.load_state_dict(self.model.upstream.state_dict())
        for target in model.targets:
            name = target.feature
            statistics = model.target_front_ends[name]
            if target in self.model.targets:
                model.heads[name].load_state_dict(self.model.heads[name].state_dict())
                statistics.load_state_dict(self.model.target_front_ends[name].state_dict())
            elif name == model.config.features["kind"]:
                statistics.load_state_dict(self.model.upstream.front_end.state_dict())
        if model.mask_token is not None and self.model.mask_token is not None:
            model.mask_token.copy_(self.model.mask_token)

    def describe(self, model: PretrainedModel) -> str:
        """Return in words what a model takes over, what it draws anew, and what is left out."""
        new, old = parts_of(model), parts_of(self.model)
        taken = ["the encoder", *(name for part, name in new.items() if part in old)]
        sentences = [f"continues from {self.origin.model}: {', '.join(taken)}"]
        if fresh := [name for part, name in new.items() if part not in old]:
            sentences.append(f"drawn anew: {', '.join(fresh)}")
        if unused := [name for part, name in old.items() if part not in new]:
            sentences.append(f"left out: {', '.join(unused)}")
        return "; ".join(sentences)


def parts_of(model: PretrainedModel) -> dict[Any, str]:
    """Return the parts of a model beside its upstream, by what makes them the same, in words."""
    parts: dict[Any, str] = {target: f"the head of {target.feature}" for target in model.targets}
    return parts if model.mask_token is None else {**parts, "mask token": "the mask token"}


def open_start(place: Path | str) -> Start:
    """Open a model to continue from: a run, its state `RUN@STEP`, a saved model, or a URL.

    A checkpoint file of another system is converted first.

    Of a downstream run it is the encoder, without heads. Raises `InputError` when there is none,
    `IntegrityError` when it is damaged, `ConfigError` when it has no encoder.
    """
    location = lasting_upstream(str(place))
    saved = as_saved(location)
    document = read_config(find_checkpoint(saved))
    model, head_training = load_model(saved, document["kind"]), dict[str, Any]()
    if isinstance(model, DownstreamModel):
        head_training = {} if model.frozen else model.training_facts
        model = encoder_of(require_own(model.upstream, location), location)
    before = read_facts(model.config.training).continued_from
    training = dict(model.config.training)
    training.pop(CONTINUED_FROM, None)
    origin = Origin(
        model=redact_url(location),
        kind=document["kind"],
        weights_xxh3=document["weights_xxh3"],
        training=redact_all(training),
        models_before=models_before(before),
        head_training=redact_all(head_training or (before.head_training if before else {})),
    )
    return Start(model, origin)


def models_before(origin: Origin | None) -> dict[str, str]:
    """Return the models that led to one, by its recorded origin: its own start, and those before.

    See `Origin`.
    """
    return {} if origin is None else {origin.weights_xxh3: origin.model, **origin.models_before}


def encoder_of(upstream: Upstream, location: str) -> PretrainedModel:
    """Return the upstream of a downstream model as a model that predicts nothing yet."""
    require(
        upstream.config.encoder is not None,
        f"{redact_url(location)} was trained on plain {upstream.config.features['kind']}, without "
        "an encoder: name a pretrained model",
    )
    model = PretrainedModel(upstream.config, ())
    model.upstream.load_state_dict(upstream.state_dict())
    return model
