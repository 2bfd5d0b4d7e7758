"""`downstream`: from shards and an upstream to a speaker classifier, chosen on the dev split."""

import copy
import shlex
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule
from torch import Tensor

from aalbert.configuration import load_config, to_yaml
from aalbert.errors import ConfigError
from aalbert.models.checkpoint import find_checkpoint
from aalbert.models.classifier import SpeakerClassifier
from aalbert.shards.assembly import LoaderConfig
from aalbert.shards.batch import Batch
from aalbert.shards.dataset import Dataset, Selection
from aalbert.shards.loader import Loader
from aalbert.shards.order import OrderConfig
from aalbert.shards.settings import SETTINGS_BY_KIND
from aalbert.shards.stream import Stream
from aalbert.train.checkpoints import SaveStates, latest_state, step_of
from aalbert.train.configs import DownstreamConfig
from aalbert.train.guard import NonFiniteGuard
from aalbert.train.identification import Speakers, evaluation_loader, find_speakers, score
from aalbert.train.metrics import MetricsWriter
from aalbert.train.ranks import Ranks
from aalbert.train.run_folder import RunFolder, lasting_place, open_data
from aalbert.train.seeds import seed_of
from aalbert.train.speed import Clock
from aalbert.train.step_log import STEP_COLUMNS, LogSettings, StepLog
from aalbert.train.stopping import StopOnSignal
from aalbert.train.trainer import fit, make_trainer
from aalbert.train.upstreams import open_upstream
from aalbert.train.validation import Measurement, Validation

TASK = "voxceleb1"
COLUMNS = (*STEP_COLUMNS, "dev_loss", "dev_accuracy")
KEEP_STATES = 2


class HeadTraining(LightningModule):
    """Glues a classifier with a frozen upstream to the optimiser of its head."""

    def __init__(self, model: SpeakerClassifier, speakers: Speakers, learning_rate: float) -> None:
        super().__init__()
        self.model = model
        self.learning_rate = learning_rate
        self.register_buffer("class_of_row", speakers.class_of_row, persistent=False)

    class_of_row: Tensor

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy of one batch."""
        scores = self.model(batch.features, batch.lengths)
        return F.cross_entropy(scores, self.class_of_row[batch.rows])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam over the head alone."""
        return torch.optim.Adam(self.model.head.parameters(), lr=self.learning_rate)


class BestHead(Callback):
    """Measures on the dev split and keeps the head that did best there.

    Better is a higher accuracy, or the same with a lower loss. The best one travels
    with saved states.
    """

    def __init__(self, model: SpeakerClassifier, loader: Loader, speakers: Speakers) -> None:
        self.model = model
        self.loader = loader
        self.speakers = speakers
        self.best: dict[str, Any] = {"key": (-1.0, 0.0), "head": {}}

    def measure(self) -> Measurement:
        """Return loss and accuracy on dev, and keep the head if it is the best so far."""
        scores = score(self.model, self.loader, self.speakers)
        key = (scores.accuracy(), -scores.loss)
        if key > self.best["key"]:
            self.best = {"key": key, "head": copy.deepcopy(self.model.head.state_dict())}
        return {"dev_accuracy": key[0], "dev_loss": -key[1]}

    def restore(self) -> None:
        """Put the best head into the model."""
        self.model.head.load_state_dict(self.best["head"])

    def state_dict(self) -> dict[str, Any]:
        """Return the best head so far."""
        return self.best

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best head of a saved state."""
        self.best = state_dict


def start_downstream(
    config: DownstreamConfig, data: Path | str, upstream: str, out: Path
) -> SpeakerClassifier:
    """Train a speaker classifier on a dataset and export it to `out/export`.

    `upstream` is a run, a saved model, or a feature kind. Raises `ConfigError` or
    `InputError` when they do not fit, `OutputInUseError` when `out` holds something.
    """
    dataset = Dataset(data)
    location = (
        upstream if upstream in SETTINGS_BY_KIND else str(find_checkpoint(Path(upstream)).resolve())
    )
    model, speakers = build_model(config, dataset, location)
    run = RunFolder(out)
    record = {
        "task": TASK,
        "data": lasting_place(data),
        "data_fingerprint": dataset.manifest.fingerprint,
        "upstream": location,
        "seed": config.seed,
    }
    run.create(to_yaml(config), record)
    return run_downstream(config, dataset, model, speakers, run, state=None)


def resume_downstream(out: Path) -> SpeakerClassifier:
    """Continue the run in `out` from its latest intact checkpoint, with its own settings."""
    run = RunFolder(out)
    record = run.read_record()
    if record["task"] != TASK:
        raise ConfigError(f"{out} is a run of '{record['task']}', not of '{TASK}'")
    dataset = open_data(record)
    config = load_config(DownstreamConfig, file=run.config, environment={})
    model, speakers = build_model(config, dataset, record["upstream"])
    return run_downstream(
        config, dataset, model, speakers, run, state=latest_state(run.checkpoints)
    )


def build_model(
    config: DownstreamConfig, dataset: Dataset, upstream: str
) -> tuple[SpeakerClassifier, Speakers]:
    """Return a classifier with a fresh head, and the speakers it is to tell apart."""
    speakers = find_speakers(dataset, config.train_split)
    rows = speakers.rows(dataset, config.train_split)
    opened = open_upstream(upstream, dataset, rows, untrained=config.untrained, seed=config.seed)
    torch.manual_seed(seed_of(config.seed, "head"))
    # Plain features are one state, with nothing to mix.
    layers = config.layers if opened.states > 1 else "last"
    return SpeakerClassifier(opened, speakers.names, layers), speakers


def run_downstream(
    config: DownstreamConfig,
    dataset: Dataset,
    model: SpeakerClassifier,
    speakers: Speakers,
    run: RunFolder,
    state: Path | None,
) -> SpeakerClassifier:
    """Train the head for all epochs, put the best one back, and export the model."""
    feature = str(model.upstream.config.features["kind"])
    training = training_loader(config, dataset, speakers, feature)
    dev_rows = speakers.rows(dataset, config.dev_split)
    dev = evaluation_loader(dataset, dev_rows, feature, config.batch_seconds, config.prefetch)
    ends = training.epoch_ends(config.epochs)
    metrics = MetricsWriter(run.metrics, COLUMNS, first_step=step_of(state) if state else 0)
    best = BestHead(model, dev, speakers)
    shift_ms = dataset.manifest.features[feature].frame_shift_ms
    due, clock, ranks = frozenset(ends).__contains__, Clock(), Ranks()
    guard = NonFiniteGuard(run.path, "stop", dataset.keys, due, ranks)
    saver = SaveStates(run.checkpoints, due, KEEP_STATES, guard=guard, ranks=ranks, clock=clock)
    stop = StopOnSignal(saver.save, ranks)
    callbacks = [
        guard,
        StepLog(LogSettings(TASK, ends[-1], ends[0], shift_ms), metrics, training, clock, ranks),
        best,
        Validation(metrics, best.measure, due, clock=clock),
        saver,
        stop,
    ]
    trainer = make_trainer(run.path, callbacks, ranks, max_steps=ends[-1])
    module = HeadTraining(model, speakers, config.learning_rate)
    fit(trainer, module, Stream(training, ends[-1]), state)
    command = f"aalbert downstream {TASK} --resume --out {shlex.quote(str(run.path))}"
    stop.raise_if_stopped(trainer, command)
    best.restore()
    model.eval().save_pretrained(run.export)
    return model


def training_loader(
    config: DownstreamConfig, dataset: Dataset, speakers: Speakers, feature: str
) -> Loader:
    """Return the loader of the training split: shuffled, with random crops."""
    shift_ms = dataset.manifest.features[feature].frame_shift_ms
    settings = LoaderConfig(
        order=OrderConfig(frames_per_batch=round(config.batch_seconds * 1000 / shift_ms)),
        feature=feature,
        crop_frames=round(config.crop_seconds * 1000 / shift_ms),
        prefetch=config.prefetch,
        seed=config.seed,
    )
    return Loader(Selection(dataset, speakers.rows(dataset, config.train_split)), settings)
