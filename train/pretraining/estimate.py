"""An estimate of a pretraining run, from its settings, its data and ten timed steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aalbert.common.text import duration
from aalbert.models.upstream import count_parameters
from aalbert.shards.reading.dataset import Dataset, Selection
from aalbert.train.loop.loggers import require_installed
from aalbert.train.loop.throughput import FORWARD_AND_BACKWARD
from aalbert.train.loop.timing import (
    STATE_BYTES_PER_PARAMETER,
    TIMED_STEPS,
    device_name,
    peak_memory,
    time_steps,
)
from aalbert.train.pretraining.build import (
    frame_shift_ms,
    make_loaders,
    select_utterances,
)
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import build_pretraining
from aalbert.train.pretraining.start import Start


@dataclass(frozen=True, kw_only=True)
class PretrainEstimate:
    """Exact sizes of a run; seconds and memory are of a few steps on one device of this machine."""

    parameters: int
    encoder_parameters: int
    steps: int
    epochs: float
    hours_in_an_epoch: float
    hours_seen: float
    seconds_per_step: float
    seconds: float
    device: str
    state_bytes: int
    peak_bytes: int

    def describe(self) -> str:
        """Return the estimate in words."""
        gib = 2**30
        return (
            f"{self.parameters:,} parameters, {self.encoder_parameters:,} of them in the encoder\n"
            f"{self.steps:,} steps are {self.epochs:,.2f} epochs of {self.hours_in_an_epoch:,.2f} "
            f"hours, {self.hours_seen:,.1f} hours of audio in all\n"
            f"about {duration(self.seconds)} on {self.device}, from {TIMED_STEPS} steps of "
            f"{self.seconds_per_step:.3f} s, validation included\n"
            f"{self.state_bytes / gib:.2f} GiB of weights, gradients and optimiser, "
            f"{self.peak_bytes / gib:.2f} GiB of memory at most; nothing was written"
        )


def estimate_pretraining(
    config: PretrainConfig, data: Sequence[Path | str], start: Start | None = None
) -> PretrainEstimate:
    """Estimate a run by one process without writing anything.

    Raises the errors that the run itself would raise at its start.
    """
    require_installed(config.loggers)
    selections = select_utterances(config, [Dataset(place) for place in data], start)
    module = build_pretraining(config, selections, start=start)
    training, _ = make_loaders(config, selections)
    timed = time_steps(module, training, config.precision)
    seconds, device = timed.seconds, timed.device
    shift_ms = frame_shift_ms(config, selections)
    crop_frames = config.data.crop_seconds * 1000 / shift_ms
    hours, held_out_hours = (
        count_frames(part, config, crop_frames) * shift_ms / 3_600_000
        for part in (selections.training, selections.validation)
    )
    epoch_steps = training.epoch_ends(1)[0]
    epochs = config.steps / epoch_steps
    # A step is a forward and a backward pass over its audio; validation is a forward pass only.
    audio = hours / epoch_steps
    validation = held_out_hours / audio * seconds / FORWARD_AND_BACKWARD
    rounds = -(-config.steps // config.validate_every_steps)
    parameters = count_parameters(module.model)
    return PretrainEstimate(
        parameters=parameters,
        encoder_parameters=count_parameters(module.model.upstream),
        steps=config.steps,
        epochs=round(epochs, 6),
        hours_in_an_epoch=round(hours, 6),
        hours_seen=round(hours * epochs, 6),
        seconds_per_step=round(seconds, 5),
        seconds=round(config.steps * seconds + rounds * validation, 1),
        device=device_name(device),
        state_bytes=STATE_BYTES_PER_PARAMETER * parameters,
        peak_bytes=peak_memory(device),
    )


def count_frames(
    selections: Sequence[Selection], config: PretrainConfig, crop_frames: float
) -> float:
    """Return the frames of an epoch after cropping."""
    feature = config.data.feature
    return sum(
        part.weight * float(part.dataset.frames(feature)[part.rows].clip(max=crop_frames).sum())
        for part in selections
    )
