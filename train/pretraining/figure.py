"""The picture of a reconstruction: the original, masked and reconstructed spectrogram."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aalbert.common.palette import INK
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.format.feature_settings import settings_from_dict
from aalbert.shards.loading.batch import Batch
from aalbert.train.pretraining.config import MaskingConfig
from aalbert.train.pretraining.reconstruction import reconstruct
from aalbert.train.randomness import seed_of
from aalbert.train.report.charts import Axis, Gauge, Panel, linear_axis
from aalbert.train.report.figures import LETTERS, WIDTH, draw_spectrogram
from aalbert.train.report.spectrograms import (
    frequency_axis,
    gauge_of,
    limits_of,
    spectrogram_chart,
)

# More would make a frame narrower than a pixel.
SECONDS_SHOWN = 10.0
TITLES = ("original", "given to the model, masked in part", "masked frames reconstructed")
VALUE_NAME = "value, as the loss compares it"


def reconstruction_figure(
    model: PretrainedModel, features: Mapping[str, NDArray[np.float16]], masking: MaskingConfig
) -> Figure:
    """Draw an utterance, the masked input of the model, and the reconstruction.

    `features` are the arrays `(frames, dims)` of the feature that the model reads and of all its
    targets.
    """
    pictures = spectrograms(model, features, masking)
    original = pictures[0]
    shift_ms = float(model.config.features["frame_shift_ms"])
    figure = Figure(figsize=(WIDTH, 6.2), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    low, high = np.percentile(original, [1, 99])
    label, ticks = frequency_ticks(model, original.shape[1])
    for axes, picture, title in zip(panels, pictures, TITLES, strict=True):
        image = draw_spectrogram(axes, picture, shift_ms, (low, high))
        axes.set_title(title, fontsize=LETTERS, loc="left", color=INK)
        if ticks:
            axes.set_yticks(list(ticks), list(ticks.values()))
        axes.tick_params(labelsize=LETTERS)
    panels[1].set_ylabel(label, fontsize=LETTERS)
    panels[-1].set_xlabel("time (s)", fontsize=LETTERS)
    bar = figure.colorbar(image, ax=list(panels), location="bottom", extend="both", aspect=30)
    bar.set_label(VALUE_NAME, fontsize=LETTERS)
    bar.ax.tick_params(labelsize=LETTERS)
    return figure


def frequency_ticks(model: PretrainedModel, dims: int) -> tuple[str, dict[float, str]]:
    """Return the name of the axis of a frame's numbers, and the ticks of these numbers."""
    axis = shown_axis(model, dims)
    return axis.label, {tick.place * dims / 100: tick.text for tick in axis.ticks}


def shown_axis(model: PretrainedModel, dims: int) -> Axis:
    """Return the axis of a frame's numbers, in Hz where these are known.

    Of a feature that is predicted alone, the model knows only how many numbers a frame has.
    """
    settings = settings_from_dict(model.config.features)
    if settings.kind in model.heads and settings.dims == dims:
        return frequency_axis(settings)
    return linear_axis("number of the frame", 0.0, float(dims), upright=True)


def reconstruction_panels(
    model: PretrainedModel, features: Mapping[str, NDArray[np.float16]], masking: MaskingConfig
) -> tuple[list[Panel], Gauge]:
    """Draw the same for a page, and what the colours stand for."""
    pictures = spectrograms(model, features, masking)
    limits = limits_of(pictures[0])
    axis = shown_axis(model, pictures[0].shape[1])
    shift_ms = float(model.config.features["frame_shift_ms"])
    panels = [
        Panel(title=title, chart=spectrogram_chart(picture, shift_ms, axis, limits, title))
        for picture, title in zip(pictures, TITLES, strict=True)
    ]
    return panels, gauge_of(VALUE_NAME, limits)


@torch.no_grad()
def spectrograms(
    model: PretrainedModel, features: Mapping[str, NDArray[np.float16]], masking: MaskingConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return original, masked (NaN where hidden) and reconstructed frames `(frames, dims)`.

    They show the feature that the model reads if that is a target, otherwise the first target.
    """
    read, shift_ms = model.config.features["kind"], float(model.config.features["frame_shift_ms"])
    # Kaldi's features have one or two frames fewer than the centred ones.
    frames = min(round(SECONDS_SHOWN * 1000 / shift_ms), *map(len, features.values()))
    taken = {kind: torch.tensor(np.array(values[:frames])) for kind, values in features.items()}
    shown = read if read in model.heads else next(iter(model.heads))
    batch = Batch(
        features=taken[read].unsqueeze(0),
        lengths=torch.tensor([frames]),
        rows=torch.tensor([0]),
        real_frames=frames,
        squared_frames=frames**2,
        longest=frames,
        targets={kind: values.unsqueeze(0) for kind, values in taken.items()},
    ).to(next(model.parameters()).device)
    zeros = replace(masking, random_share=0.0, keep_share=0.0, band_share=0.0, noise_share=0.0)
    result = reconstruct(model, batch, zeros, seed_of("picture"))
    target, hidden = result.targets[shown], result.mask.frames.unsqueeze(1)
    pictures = (
        target,
        target.masked_fill(hidden, float("nan")),
        result.predicted[shown].where(hidden, target),
    )
    dims = next(part.dims for part in model.targets if part.feature == shown)
    original, masked, filled = (picture.reshape(-1, dims).cpu().numpy() for picture in pictures)
    return original, masked, filled
