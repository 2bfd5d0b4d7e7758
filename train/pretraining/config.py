"""The settings of pretraining. The defaults are here, the recipes in `presets/`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from aalbert.errors import require, require_positive
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.front_end_config import FrontEndConfig
from aalbert.shards.loading.config import WhenToVerify
from aalbert.train.loop.config import LoggerName, OptimiserConfig, Precision


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """The frames that are hidden, and their replacement; the defaults are s3prl's.

    Of each utterance's encoder frames, `proportion` are chosen in spans of `consecutive` frames, or
    with a range such as [3, 9] in spans of a length that is drawn for each utterance. Spans may
    overlap, so a little less is hidden; with a `bucket_ratio` they do not: they start on a grid of
    so many span lengths, at a random phase. A span is zeroed, or with probability `random_share`
    replaced by other frames of the utterance, or with probability `keep_share` left as it is; one
    draw decides for all spans of an `utterance`, or for each `span` (`decide_per`). `learned_token`
    adds a learned vector to the zeros. The others are TERA's: in each utterance a band of up to
    `band_share` of its dimensions is zeroed and predicted too, and a share `noise_share` of the
    utterances gets normal noise with standard deviation `noise_std`.
    """

    proportion: float = 0.15
    consecutive: int | tuple[int, int] = 7
    bucket_ratio: float | None = None
    random_share: float = 0.1
    keep_share: float = 0.1
    decide_per: Literal["utterance", "span"] = "utterance"
    learned_token: bool = False
    band_share: float = 0.0
    noise_share: float = 0.0
    noise_std: float = 0.2

    def __post_init__(self) -> None:
        require(
            0 < self.proportion < 1,
            f"masking.proportion {self.proportion} must be between 0 and 1",
        )
        low, high = self.span_range
        require(
            1 <= low <= high,
            f"masking.consecutive {self.consecutive} must be at least 1, or a rising range",
        )
        for name in ("random_share", "keep_share", "band_share", "noise_share"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"masking.{name} {value} must be between 0 and 1")
        require(
            self.random_share + self.keep_share <= 1,
            f"masking.random_share {self.random_share} and masking.keep_share "
            f"{self.keep_share} must together be at most 1",
        )
        require(self.noise_std > 0, f"masking.noise_std {self.noise_std} must be above 0")
        ratio = self.bucket_ratio
        require(
            ratio is None or (ratio >= 1 and self.proportion * ratio <= 1),
            f"masking.bucket_ratio {ratio} must be at least 1, and at most {1 / self.proportion:g} "
            f"to leave room for masking.proportion {self.proportion}",
        )

    @property
    def span_range(self) -> tuple[int, int]:
        """The shortest and the longest span."""
        spans = self.consecutive
        return spans if isinstance(spans, tuple) else (spans, spans)


@dataclass(frozen=True, kw_only=True)
class CodesConfig:
    """The codes of hidden frames, whose cross-entropy is added to the loss with this `weight`.

    There are `count` codes. A frame's code is the nearest of their vectors: of k-means `clusters`
    of training frames, as in the first round of HuBERT (Hsu et al. 2021), or of `random` ones to
    a random projection of the frame, both of length 1 (BEST-RQ, Chiu et al. 2022). With a weight
    of 0 there are no codes.
    """

    weight: float = 0.0
    kind: Literal["clusters", "random"] = "clusters"
    count: int = 500

    def __post_init__(self) -> None:
        require(self.weight >= 0, f"objective.codes.weight {self.weight} must not be negative")
        require_positive("objective.codes.", self, "count")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The loss, the frames that it is taken over, and its targets.

    `targets` maps stored features to their weights in the loss; by default the feature that the
    encoder reads is the only target. A target is normalised as the input is, and has no deltas.
    `loss` is the absolute error (l1), the squared error (l2), or Huber's, quadratic below 1, as a
    mean over the `masked` elements or over `all` that are not padding. The `codes` of hidden frames
    may be predicted too.
    """

    loss: Literal["l1", "l2", "huber"] = "l1"
    over: Literal["masked", "all"] = "masked"
    targets: Mapping[str, float] = field(default_factory=dict)
    codes: CodesConfig = field(default_factory=CodesConfig)

    def __post_init__(self) -> None:
        for feature, weight in self.targets.items():
            require(weight > 0, f"objective.targets.{feature} {weight} must be above 0")


@dataclass(frozen=True, kw_only=True)
class PretrainDataConfig:
    """The utterances that are read, and the way they are batched.

    `splits` are names or patterns; `feature` is the one that the encoder reads. `features` are the
    settings that a preset expects of its features: data of other settings are refused; null takes
    any. Utterances below `shortest_seconds` are left out, and those whose keys the file `exclude`
    lists, one a line, such as those that a task is tested on. Utterances longer than
    `crop_seconds` are cropped at random. Positions begin at `zero` in each crop, so that only the
    first are trained, or at a `random` one of the encoder's, so that all are (`positions_start`).

    A batch holds at most `batch_seconds` of audio with its padding: its utterances are `padded` to
    the longest; or `static`, padded to the next of `static_seconds` (by default all to the crop),
    so that there are few shapes; or `packed` without padding. About `validation_proportion` of the
    utterances are held out to measure the loss on. With several datasets, an epoch has the
    utterances of each as many times as its number in `weights`, by default once. Up to `prefetch`
    batches are read ahead of the training loop; `verify` is when checksums are compared.
    """

    splits: tuple[str, ...] = ("train*",)
    feature: str = "logmel"
    features: Mapping[str, Mapping[str, Any]] | None = None
    batch_seconds: float = 480.0
    crop_seconds: float = 15.0
    shortest_seconds: float = 0.0
    exclude: str = ""
    positions_start: Literal["zero", "random"] = "zero"
    batching: Literal["padded", "static", "packed"] = "padded"
    static_seconds: tuple[float, ...] = ()
    validation_proportion: float = 0.02
    weights: tuple[float, ...] = ()
    prefetch: int = 12
    verify: WhenToVerify = "first-epoch"

    def __post_init__(self) -> None:
        require_positive("data.", self, "batch_seconds", "crop_seconds")
        require(
            self.crop_seconds <= self.batch_seconds,
            f"data.crop_seconds {self.crop_seconds} must be at most data.batch_seconds "
            f"{self.batch_seconds}",
        )
        require(
            0 <= self.shortest_seconds <= self.crop_seconds,
            f"data.shortest_seconds {self.shortest_seconds} must be at most data.crop_seconds "
            f"{self.crop_seconds}",
        )
        lengths = self.static_seconds
        require(
            not lengths or self.batching == "static",
            f"data.static_seconds {lengths} are for data.batching static",
        )
        require(
            all(0 < left < right for left, right in pairwise(lengths))
            and lengths[-1:] in ((), (self.crop_seconds,)),
            f"data.static_seconds {lengths} must rise and end at data.crop_seconds "
            f"{self.crop_seconds}",
        )
        require(
            0 < self.validation_proportion < 1,
            f"data.validation_proportion {self.validation_proportion} must be between 0 and 1",
        )
        require(
            all(0 < weight < math.inf for weight in self.weights),
            f"data.weights {self.weights} must be above 0",
        )
        require(self.prefetch >= 0, f"data.prefetch {self.prefetch} must not be negative")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A pretraining run: masked reconstruction for a number of optimiser steps.

    A step takes `batches_per_step` batches, divided among all ranks; with fewer ranks, gradients
    are accumulated. A step whose gradient is not finite changes no weights; with `on_nan` the run
    stops then or skips it. The latest `keep_checkpoints` states are kept, and the one with the
    lowest validation loss; `export` is the one that becomes the model. A rank that does not answer
    for `timeout_s` ends the run. With `compile` PyTorch compiles the encoder: faster on a GPU,
    after about a minute at the start.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    data: PretrainDataConfig = field(default_factory=PretrainDataConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    steps: int = 1_000_000
    batches_per_step: int = 1
    validate_every_steps: int = 5_000
    log_every_steps: int = 50
    picture_every_steps: int = 50_000
    keep_checkpoints: int = 2
    export: Literal["last", "best"] = "last"
    on_nan: Literal["stop", "skip"] = "stop"
    loggers: tuple[LoggerName, ...] = ()
    timeout_s: float = 60.0
    precision: Precision = "32-true"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        every = ("validate_every_steps", "log_every_steps", "picture_every_steps")
        require_positive("", self, "steps", "batches_per_step", *every, "keep_checkpoints")
        require_positive("", self, "timeout_s")
        self.optimiser.count_warmup_steps(self.steps)
        require(
            self.front_end.normalisation != "speaker",
            "front_end.normalisation 'speaker' is for downstream tasks: pretraining knows no "
            "speakers, use utterance, global or none",
        )
        require(
            self.data.positions_start == "zero" or self.encoder.positions != "rotary",
            "data.positions_start random trains all positions of a table, encoder.positions rotary "
            "have none: use zero",
        )
        require(
            self.data.batching != "packed" or self.encoder.probability_dropout == 0,
            "data.batching packed has no dropout of attention: use --set "
            "encoder.attention_dropout=0",
        )
