"""The picture of a reconstruction: the original, masked and reconstructed spectrogram."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aalbert.common.palette import INK
from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.loading.batch import Batch
from aalbert.train.pretraining.config import MaskingConfig
from aalbert.train.pretraining.reconstruction import reconstruct
from aalbert.train.randomness import seed_of
from aalbert.train.report.figures import WIDTH, draw_spectrogram

# More would make a frame narrower than a pixel.
SECONDS_SHOWN = 10.0


def reconstruction_figure(
    model: PretrainedModel, features: Mapping[str, NDArray[np.float16]], masking: MaskingConfig
) -> Figure:
    """Draw an utterance, the masked input of the model, and the reconstruction.

    `features` are the arrays `(frames, dims)` of the feature that the model reads and of all its
    targets.
    """
    shift_ms = float(model.config.features["frame_shift_ms"])
    # Kaldi's features have one or two frames fewer than the centred ones.
    frames = min(round(SECONDS_SHOWN * 1000 / shift_ms), *map(len, features.values()))
    shown = {kind: torch.tensor(np.array(values[:frames])) for kind, values in features.items()}
    original, masked, predicted = spectrograms(model, shown, masking)
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


@torch.no_grad()
def spectrograms(
    model: PretrainedModel, features: Mapping[str, torch.Tensor], masking: MaskingConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return original, masked (NaN where hidden) and reconstructed frames `(frames, dims)`.

    They show the feature that the model reads if that is a target, otherwise the first target.
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
    dims = next(part.dims for part in model.targets if part.feature == shown)
    original, masked, filled = (picture.reshape(-1, dims).cpu().numpy() for picture in pictures)
    return original, masked, filled
