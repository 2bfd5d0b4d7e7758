"""What the encoder reads in place of what is hidden."""

import torch
from torch import Tensor

from aalbert.train.frames import Frames
from aalbert.train.pretraining.masking import Mask, MaskingConfig
from aalbert.train.randomness import Draws, normal, random_bits, uniform


def corrupt(
    inputs: Tensor,
    mask: Mask,
    frames: Frames,
    config: MaskingConfig,
    draws: Draws,
    token: Tensor | None = None,
) -> Tensor:
    """Return `inputs (frames, dims)` with what the mask hides replaced.

    `token (dims,)` stands in zeroed frames. A band is hidden in every part of an input: in the
    deltas of its dimensions too, and in each of the frames that are stacked.
    """
    inputs = inputs[mask.source].where(mask.replaced.unsqueeze(1), inputs)
    absent = inputs.new_zeros(inputs.shape[1]) if token is None else token.to(inputs.dtype)
    inputs = absent.where(mask.zeroed.unsqueeze(1), inputs)
    if mask.bands is not None:
        repeats = inputs.shape[1] // mask.bands.shape[1]
        inputs = inputs.masked_fill(mask.bands.repeat(1, repeats)[frames.utterance], 0.0)
    if config.noise_share:
        inputs = inputs + noise(frames, inputs.shape[1], config, draws)
    return inputs


def noise(frames: Frames, dims: int, config: MaskingConfig, draws: Draws) -> Tensor:
    """Return the noise `(frames, dims)` of the utterances that get some, zeros for the others."""
    noisy = uniform(draws.keys("noise")) < config.noise_share
    keys = random_bits(draws.keys("noise of a frame")[frames.utterance], frames.position)
    bits = random_bits(keys.unsqueeze(1), torch.arange(dims, device=keys.device))
    scale = (noisy[frames.utterance] & frames.real) * config.noise_std
    return normal(bits) * scale.unsqueeze(1)
