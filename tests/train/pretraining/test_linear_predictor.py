from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aalbert.shards.loading.loader import Loader
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.loop.stop_signals import SignalListener
from aalbert.train.pretraining.build import build_model, make_loaders, select_utterances
from aalbert.train.pretraining.config import MaskingConfig, ObjectiveConfig, PretrainConfig
from aalbert.train.pretraining.linear_predictor import (
    FIT_EPOCHS,
    NEIGHBOURS,
    RIDGE,
    fit_linear_predictor,
)
from aalbert.train.pretraining.reconstruction import VALIDATION_SEED, Reconstruction, mask_batch
from aalbert.train.pretraining.visible_frames import find_visible
from aalbert.train.randomness import seed_of

Matrix = NDArray[np.float64]


def gathered(masked: Reconstruction, stacked: int) -> tuple[Matrix, Matrix, list[int]]:
    """Return inputs and outputs of the hidden frames of a batch, by loops over frames."""
    frames, hidden = masked.frames, masked.mask.frames
    inputs = masked.inputs.view(len(hidden) * stacked, -1).double().numpy()
    outputs = torch.cat(list(masked.targets.values()), dim=1).double().numpy()
    rows, wanted, places = [], [], []
    for first, length in zip(frames.first.tolist(), frames.lengths.tolist(), strict=True):
        stored = np.arange(first * stacked, (first + length) * stacked)
        seen = np.array([not hidden[place // stacked] for place in stored], dtype=bool)
        filled = np.zeros((len(stored), inputs.shape[1]))
        if seen.any():
            for dim in range(inputs.shape[1]):
                filled[:, dim] = np.interp(stored, stored[seen], inputs[stored[seen], dim])
        for number in range(length):
            if hidden[first + number]:
                around = np.arange(
                    number * stacked - NEIGHBOURS, (number + 1) * stacked + NEIGHBOURS
                )
                window = filled[around.clip(0, len(stored) - 1)]
                rows.append([*window.flatten(), 1.0])
                wanted.append(outputs[first + number])
                places.append(first + number)
    return np.array(rows), np.array(wanted), places


@pytest.mark.parametrize("stacked", [1, 3])
@pytest.mark.parametrize("batching", ["padded", "static", "packed"])
def test_the_fit_is_that_of_least_squares_on_the_gathered_rows(
    librispeech_data: Path, pretrain_config: PretrainConfig, batching: Any, stacked: int
) -> None:
    config = replace(
        pretrain_config,
        encoder=replace(pretrain_config.encoder, dropout=0.0),
        front_end=replace(pretrain_config.front_end, frames_stacked=stacked, deltas=1),
        masking=MaskingConfig(consecutive=(1, 4), noise_share=0.5),
        objective=ObjectiveConfig(targets={"logmel": 1.0, "linear": 0.5}),
        data=replace(pretrain_config.data, batching=batching, batch_seconds=12.0),
    )
    selections = select_utterances(config, [Dataset(librispeech_data)])
    model = build_model(config, selections)
    loader = make_loaders(config, selections)[0]
    fitted = fit_linear_predictor(
        model, config.masking, loader, torch.device("cpu"), SignalListener()
    )
    again = Loader(loader.selections, loader.config)
    batches = [batch for _ in range(FIT_EPOCHS) for batch in again]
    rows, outputs = [], []
    for number, batch in enumerate(batches):
        seed = seed_of(VALIDATION_SEED, "linear predictor", number)
        masked = mask_batch(model, batch, config.masking, seed)
        inputs, wanted, places = gathered(masked, stacked)
        rows.append(inputs)
        outputs.append(wanted)
    x, y = np.concatenate(rows), np.concatenate(outputs)
    # A ridge penalty is a row for every coefficient.
    penalty = np.sqrt(RIDGE * (x**2).sum(axis=0).mean()) * np.eye(x.shape[1])
    expected = np.linalg.lstsq(
        np.concatenate([x, penalty]), np.concatenate([y, np.zeros((len(penalty), y.shape[1]))])
    )[0]
    np.testing.assert_allclose(fitted.coefficients.numpy(), expected, rtol=1e-4, atol=1e-5)
    predicted = fitted.predict(masked, find_visible(masked.frames, masked.mask, stacked))
    found = torch.cat(list(predicted.values()), dim=1).numpy()
    np.testing.assert_allclose(found[places], inputs @ expected, rtol=1e-3, atol=1e-4)
    others = ~masked.mask.frames
    for name, target in masked.targets.items():
        assert torch.equal(predicted[name][others], target[others])


def test_a_fit_ends_early_after_a_signal_and_never_moves_global_randomness(
    librispeech_data: Path, pretrain_config: PretrainConfig
) -> None:
    selections = select_utterances(pretrain_config, [Dataset(librispeech_data)])
    model = build_model(pretrain_config, selections)
    loader = make_loaders(pretrain_config, selections)[0]
    listener = SignalListener()
    listener.received = 15
    state = torch.get_rng_state()
    masking, device = pretrain_config.masking, torch.device("cpu")
    assert fit_linear_predictor(model, masking, loader, device, listener)
    assert 0 < loader.position < loader.utterances
    assert torch.equal(torch.get_rng_state(), state)
