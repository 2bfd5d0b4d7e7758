"""The settings of a downstream run, the same for every task; recipes are in `presets/`."""

from dataclasses import dataclass, field
from typing import Literal

from aalbert.errors import require, require_positive
from aalbert.models.cohort_settings import ScoreNormalisation
from aalbert.models.front_end_config import FrontEndConfig, Normalisation, require_context
from aalbert.models.head_config import HeadConfig, LayerChoice
from aalbert.train.downstream.tasks import VOXCELEB1, find_task, names_with
from aalbert.train.loop.config import LoggerName, Precision

# In place of a split: drawn at random from the split to train on.
DRAWN = "drawn"
Mode = Literal["frozen", "fine-tuned", "from-scratch"]


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """The utterances to train on, to select on and to test on; the three never overlap.

    `train`, `dev` and `test` are splits of the dataset, or patterns. A `dev` or `test` that is
    `drawn` is about `drawn_proportion` of `train`, by `draw_seed`: utterances, the same share
    of every class, or whole speakers. `train_list`, `dev_list` and `test_list` are files that
    name the utterances of `train` for a part, one key a line, as CPC's split files do; without
    a `train_list`, the rest is trained on. `proportion` trains on that share of the training
    part only.
    """

    train: str = "train"
    dev: str = "dev"
    test: str = "test"
    train_list: str = ""
    dev_list: str = ""
    test_list: str = ""
    draw: Literal["utterances", "speakers"] = "utterances"
    drawn_proportion: float = 0.1
    draw_seed: int = 0
    proportion: float = 1.0

    def __post_init__(self) -> None:
        require(
            0 < self.drawn_proportion < 1,
            f"splits.drawn_proportion {self.drawn_proportion} must be between 0 and 1",
        )
        require(0 < self.proportion <= 1, f"splits.proportion {self.proportion} must be in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """What to predict: the values of a `column` of the index, or phones.

    Classes with fewer than `least_utterances` in the split to train on are left out.
    `alignments` is a folder of TextGrid files or a file of `KEY number number ...` lines with a
    number per `label_shift_ms`, whose phones a `phones.json` beside it may name. `lexicon` is a
    file of `WORD PHONE PHONE ...` lines, by which the texts of the column are sequences of phones,
    or several, of which the first that has a word counts. The stress of vowels (the 1 of AH1) can
    be dropped from either.
    """

    column: str = "speaker"
    least_utterances: int = 1
    alignments: str = ""
    lexicon: str | tuple[str, ...] = ""
    label_shift_ms: float = 10.0
    drop_stress: bool = False

    def __post_init__(self) -> None:
        require_positive("labels.", self, "least_utterances", "label_shift_ms")

    @property
    def lexicons(self) -> tuple[str, ...]:
        """The files of the lexicon, in the order in which words are looked up."""
        names = (self.lexicon,) if isinstance(self.lexicon, str) else self.lexicon
        return tuple(filter(None, names))


@dataclass(frozen=True, kw_only=True)
class RegressionConfig:
    """The settings of a task that predicts a number.

    The `loss` is the absolute or the squared error of numbers that are standardised on the training
    part. `sentiment` is for numbers from -3 to 3 as those of CMU-MOSI and CMU-MOSEI, which are then
    counted by two and by seven classes too.
    """

    loss: Literal["l1", "mse"] = "l1"
    sentiment: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """The trials of verification, to test on and to select on, and how their scores are made.

    `test` is a file of `1 FILE FILE` (the same speaker) and `0 FILE FILE` lines, or the name of
    such a list that is stored with the dataset; without it, the only one stored. Models are
    selected on `dev_count` trials made of the dev part. The speakers of the test trials are left
    out of training, unless `known_speakers` allows them. Where nothing is trained, embeddings are
    `centred` on the mean of the training part.

    Scores are the cosines of embeddings. A `normalisation` makes them standard scores against a
    `cohort` from the training part, less the speakers of the test trials: the mean of every
    speaker's embeddings, or utterances, at most `cohort_size`; `as-norm` takes the `cohort_top`
    that are the closest to each utterance. A `calibration` makes log-likelihood ratios of them, by
    a logistic regression on the dev trials: of the `score` alone, or with the `quality` of both
    utterances; it minds errors as if the share `target_prior` of trials were of one speaker.
    """

    test: str = ""
    dev_count: int = 4000
    known_speakers: bool = False
    centred: bool = True
    normalisation: Literal["none"] | ScoreNormalisation = "none"
    cohort: Literal["speakers", "utterances"] = "speakers"
    cohort_size: int = 20_000
    cohort_top: int = 300
    calibration: Literal["none", "score", "quality"] = "none"
    target_prior: float = 0.05

    @property
    def read_training_part(self) -> bool:
        """Whether scores depend on the training part even where nothing is trained."""
        return self.centred or self.normalisation != "none"

    def __post_init__(self) -> None:
        require(self.dev_count >= 2, f"trials.dev_count {self.dev_count} must be at least 2")
        for name in ("cohort_size", "cohort_top"):
            value = getattr(self, name)
            require(value >= 2, f"trials.{name} {value} must be at least 2")
        require(
            0 < self.target_prior < 1,
            f"trials.target_prior {self.target_prior} must be between 0 and 1",
        )


@dataclass(frozen=True, kw_only=True)
class FineTuningConfig:
    """The settings of an encoder that is trained together with its head.

    Its learning rate rises over `warmup_proportion` of the steps. In the first
    `frozen_epochs` the head is trained alone; then one more layer, from the top, is trained
    every `epochs_per_layer` epochs, or all at once when that is 0.
    """

    encoder_learning_rate: float = 1e-4
    warmup_proportion: float = 0.1
    frozen_epochs: int = 1
    epochs_per_layer: int = 0

    def __post_init__(self) -> None:
        require_positive("fine_tuning.", self, "encoder_learning_rate")
        require(
            0 <= self.warmup_proportion < 1,
            f"fine_tuning.warmup_proportion {self.warmup_proportion} must be in [0, 1)",
        )
        for name in ("frozen_epochs", "epochs_per_layer"):
            value = getattr(self, name)
            require(value >= 0, f"fine_tuning.{name} {value} must not be negative")


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """The front end of plain features, the baseline without an encoder.

    With `context` every frame is given with its neighbours, that many in all, at the frame rate
    of the features; with `frames_stacked` at that of an encoder that stacks as many.
    """

    deltas: int = 0
    normalisation: Normalisation = "global"
    context: int = 1
    frames_stacked: int = 1

    def __post_init__(self) -> None:
        require_positive("baseline.", self, "frames_stacked")
        require_context("baseline", self.context)

    def front_end(self, feature_dims: int) -> FrontEndConfig:
        """Return the front end for a stored feature."""
        return FrontEndConfig(
            feature_dims=feature_dims,
            deltas=self.deltas,
            normalisation=self.normalisation,
            context=self.context,
            frames_stacked=self.frames_stacked,
        )


@dataclass(frozen=True, kw_only=True)
class DownstreamConfig:
    """The settings of a task on an upstream: the input of its head, its training, its data.

    After every epoch the model is measured on the dev part; the best one is kept, and only
    `evaluate` reads the test part. AdamW's learning rate rises over
    `warmup_proportion` of the steps and stays, or falls to 0 with `decay`. A batch has
    `batch_seconds`, or less where the training part is so small that an epoch would have fewer
    than `least_epoch_steps` of such batches (0: never less). Utterances longer
    than `crop_seconds` are cropped at random (0: never). With `cache_embeddings` the hidden
    states of whole utterances are computed once by a frozen upstream, and cached for all epochs.
    A step takes `batches_per_step` batches, divided among all ranks; with fewer ranks, gradients
    are accumulated. A rank that does not answer for `timeout_s` ends the run. `precision` is that
    of training steps; what is measured on the dev part is in float32. `pretraining_hours` says how
    much speech the upstream was pretrained on where nobody recorded it; nothing is trained by it.
    """

    task: str = VOXCELEB1.name
    layers: LayerChoice = "weighted"
    mode: Mode = "frozen"
    untrained: bool = False
    splits: SplitConfig = field(default_factory=SplitConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    trials: TrialConfig = field(default_factory=TrialConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    fine_tuning: FineTuningConfig = field(default_factory=FineTuningConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    epochs: int = 60
    learning_rate: float = 3e-2
    weight_decay: float = 0.0
    warmup_proportion: float = 0.0
    decay: bool = False
    gradient_clip: float = 0.0
    batch_seconds: float = 60.0
    least_epoch_steps: int = 0
    crop_seconds: float = 8.0
    cache_embeddings: bool = False
    batches_per_step: int = 1
    precision: Precision = "32-true"
    loggers: tuple[LoggerName, ...] = ()
    timeout_s: float = 60.0
    prefetch: int = 12
    pretraining_hours: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            self.pretraining_hours is None or self.pretraining_hours >= 0,
            f"pretraining_hours {self.pretraining_hours} must not be negative",
        )
        require_positive("", self, "epochs", "learning_rate", "batch_seconds", "batches_per_step")
        require_positive("", self, "timeout_s")
        unsigned = ("prefetch", "weight_decay", "gradient_clip", "crop_seconds")
        for name in (*unsigned, "least_epoch_steps"):
            value = getattr(self, name)
            require(value >= 0, f"{name} {value} must not be negative")
        require(
            0 <= self.warmup_proportion < 1,
            f"warmup_proportion {self.warmup_proportion} must be in [0, 1)",
        )
        check_modes(self)
        check_head(self)
        check_labels(self)


def check_modes(config: DownstreamConfig) -> None:
    """Raise `ConfigError` for combinations of modes that are meaningless or ambiguous."""
    require(
        config.mode == "frozen" or not config.untrained,
        f"untrained is the control of a frozen encoder, mode is {config.mode}: "
        "use --mode from-scratch to train one with fresh weights",
    )
    require(
        config.mode == "frozen" or not config.cache_embeddings,
        f"cache_embeddings needs a frozen encoder, mode is {config.mode}: its hidden states "
        "change with every step",
    )
    require(
        config.mode != "fine-tuned" or config.fine_tuning.frozen_epochs < config.epochs,
        f"fine_tuning.frozen_epochs {config.fine_tuning.frozen_epochs} leave none of "
        f"{config.epochs} epochs to train the encoder in: use fewer, or more epochs",
    )
    require(
        config.head.classifier != "none" or config.mode == "frozen",
        f"head.classifier none trains nothing, mode is {config.mode}: choose a classifier",
    )
    require(
        config.head.classifier != "none" or config.layers != "weighted",
        "head.classifier none trains nothing, so there is no mix to learn: use --layers mean",
    )


def check_head(config: DownstreamConfig) -> None:
    """Raise `ConfigError` for a head that does not fit the task."""
    labels = find_task(config.task).labels
    trials, of_phones = labels == "trials", labels in ("alignments", "lexicon")
    require(
        config.head.frames or not of_phones,
        f"head.pooling is {config.head.pooling}, phones are of frames: use none",
    )
    require(
        trials or (config.head.classifier != "none" and config.trials == TrialConfig()),
        f"trials and head.classifier none are for {names_with('trials')}, the task is "
        f"{config.task}",
    )
    require(
        config.trials.centred or config.head.classifier == "none",
        f"trials.centred is for head.classifier none, which is {config.head.classifier}: a head "
        "that is trained subtracts no mean",
    )
    require(
        labels not in ("number", "lexicon") or config.head.classifier == "linear",
        f"head.classifier {config.head.classifier} is for classes: {config.task} takes linear",
    )
    require(
        not (labels in ("trials", "number") and config.head.frames),
        f"head.pooling is none: {config.task} is of whole utterances, use mean, statistics, "
        "attentive, or last",
    )
    require(
        not of_phones or not config.crop_seconds,
        f"crop_seconds is {config.crop_seconds}: phones are of whole utterances, use 0",
    )


def check_labels(config: DownstreamConfig) -> None:
    """Raise `ConfigError` for labels that do not fit the task."""
    labels, column = find_task(config.task).labels, config.labels.column
    require(
        labels == "alignments" or not config.labels.alignments,
        f"labels.alignments is for {names_with('alignments')}, the task is {config.task}",
    )
    require(
        labels == "lexicon" or not config.labels.lexicons,
        f"labels.lexicon is for {names_with('lexicon')}, the task is {config.task}",
    )
    require(
        labels == "number" or config.regression == RegressionConfig(),
        f"regression is for {names_with('number')}, the task is {config.task}",
    )
    require(
        labels != "number" or column != "speaker",
        "labels.column is speaker, which is no number: name a column of numbers, such as "
        "--set labels.column=sentiment",
    )
    require(
        labels != "number" or config.labels == LabelConfig(column=column),
        "labels.least_utterances, labels.drop_stress and labels.label_shift_ms are for classes "
        f"and phones: {config.task} takes labels.column alone",
    )
    require(
        labels != "column"
        or column != "speaker"
        or config.splits.draw != "speakers"
        or DRAWN not in (config.splits.dev, config.splits.test),
        "labels.column is speaker, which cannot be predicted for speakers that are not in the "
        "training part: name another column, such as --set labels.column=gender",
    )
