"""Pictures of results, as PNG data that a page can hold."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.loading.batch import Batch
from aalbert.train.pretraining.masking import MaskingConfig
from aalbert.train.pretraining.reconstruction import reconstruct
from aalbert.train.seeds import seed_of

# Inches: 750 dots, with letters that can still be read when a phone shows half of them.
WIDTH, DOTS_PER_INCH = 5.0, 150
INK, ACCENT, QUIET = "#1f2933", "#0b7285", "#adb5bd"
SECONDS_SHOWN = 4.0


def to_data_uri(figure: Figure) -> str:
    """Return a figure as `data:image/png;base64,...`."""
    return "data:image/png;base64," + base64.b64encode(to_png(figure)).decode("ascii")


def to_png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def curve_figure(
    measurements: Sequence[dict[str, Any]], series: dict[str, str], ylabel: str
) -> Figure:
    """Draw measured values over steps; `series` maps names of measurements to labels."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, label), colour in zip(series.items(), (QUIET, ACCENT), strict=False):
        points = [(row["step"], row[name]) for row in measurements if name in row]
        # A single point is no line, and would not be seen.
        marker = "o" if len(points) == 1 else None
        axes.plot(*zip(*points, strict=True), label=label, color=colour, marker=marker)
    axes.set(xlabel="step", ylabel=ylabel)
    axes.legend(frameon=False)
    tidy(axes)
    return figure


def layer_figure(weights: Sequence[float]) -> Figure:
    """Draw how much the head listens to each hidden state."""
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    axes = figure.add_subplot()
    names = ["input", *(f"layer {number}" for number in range(1, len(weights)))]
    axes.bar(names, weights, color=ACCENT)
    axes.set(ylabel="weight in the mix", ylim=(0, 1))
    tidy(axes)
    return figure


def reconstruction_figure(
    model: PretrainedModel, features: Mapping[str, NDArray[np.float16]], masking: MaskingConfig
) -> Figure:
    """Draw an utterance, what the model was given, and what it made of it.

    `features` are the arrays `(frames, dims)` of what the model reads and of all its targets.
    """
    shift_ms = float(model.config.features["frame_shift_ms"])
    # Kaldi's features have a frame or two less than the centred ones.
    frames = min(round(SECONDS_SHOWN * 1000 / shift_ms), *map(len, features.values()))
    shown = {kind: torch.tensor(np.array(values[:frames])) for kind, values in features.items()}
    original, masked, predicted = complete(model, shown, masking)
    figure = Figure(figsize=(WIDTH, 6.0), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    low, high = np.percentile(original, [1, 99])
    for axes, picture, title in zip(
        panels,
        (original, masked, predicted),
        ("original", "given to the model: masked frames are blank", "masked frames reconstructed"),
        strict=True,
    ):
        draw_spectrogram(axes, picture, shift_ms, (low, high))
        axes.set_title(title, fontsize=10, loc="left", color=INK)
        axes.set_ylabel("mel band")
    panels[-1].set_xlabel("seconds")
    return figure


def draw_spectrogram(
    axes: Any, frames: NDArray[np.float32], frame_shift_ms: float, limits: tuple[float, float]
) -> None:
    """Draw frames `(frames, dims)` over seconds, with the colours between two values."""
    seconds = len(frames) * frame_shift_ms / 1000
    axes.imshow(
        frames.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=limits[0],
        vmax=limits[1],
        extent=(0, seconds, 0, frames.shape[1]),
    )


@torch.no_grad()
def complete(
    model: PretrainedModel, features: Mapping[str, torch.Tensor], masking: MaskingConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return original, masked (NaN where hidden) and reconstructed frames `(frames, dims)`.

    They are of the feature that the model reads if that is a target, or else of the first target.
    """
    read = model.config.features["kind"]
    shown = read if read in model.heads else next(iter(model.heads))
    frames = len(features[read])
    batch = Batch(
        features=features[read].unsqueeze(0),
        lengths=torch.tensor([frames]),
        rows=torch.tensor([0]),
        real_frames=frames,
        squared_frames=frames**2,
        longest=frames,
        targets={kind: values.unsqueeze(0) for kind, values in features.items()},
    ).to(next(model.parameters()).device)
    zeros = replace(masking, random_share=0.0, keep_share=0.0, band_share=0.0, noise_share=0.0)
    result = reconstruct(model, batch, zeros, seed_of("picture"))
    target, hidden = result.targets[shown], result.mask.frames.unsqueeze(1)
    pictures = (
        target,
        target.masked_fill(hidden, float("nan")),
        result.predicted[shown].where(hidden, target),
    )
    dims = next(some.dims for some in model.targets if some.feature == shown)
    original, masked, filled = (picture.reshape(-1, dims).cpu().numpy() for picture in pictures)
    return original, masked, filled


def tidy(axes: Any) -> None:
    """Leave only the axes that are read."""
    axes.spines[["top", "right"]].set_visible(False)
