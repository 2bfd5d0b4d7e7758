from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aalbert.models.pretrained import PretrainedModel
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.loop.ranks import Ranks
from aalbert.train.loop.stop_signals import SignalListener
from aalbert.train.pretraining import reconstruction
from aalbert.train.pretraining.build import (
    PretrainSelections,
    build_model,
    make_loaders,
    select_utterances,
)
from aalbert.train.pretraining.config import MaskingConfig, ObjectiveConfig, PretrainConfig
from aalbert.train.pretraining.linear_predictor import LinearPredictor
from aalbert.train.pretraining.loss import chosen_elements
from aalbert.train.pretraining.module import Pretraining, held_out_loss
from aalbert.train.pretraining.reconstruction import Reconstruction
from aalbert.train.pretraining.trivial_predictors import (
    DESCRIPTIONS,
    HeldOutMeasurement,
    compare_in_words,
    measure_trivial_predictors,
    predict_trivially,
)
from aalbert.train.run_folder import RunFolder


@pytest.fixture
def config(pretrain_config: PretrainConfig) -> PretrainConfig:
    data = replace(pretrain_config.data, validation_proportion=0.4)
    encoder = replace(pretrain_config.encoder, dropout=0.0)
    return replace(pretrain_config, data=data, encoder=encoder)


def selections_of(config: PretrainConfig, data: Path) -> PretrainSelections:
    return select_utterances(config, [Dataset(data)])


def measure(config: PretrainConfig, data: Path) -> dict[str, float]:
    selections = selections_of(config, data)
    measured = measure_trivial_predictors(
        build_model(config, selections),
        config,
        make_loaders(config, selections),
        Ranks(),
        SignalListener(),
    )
    assert measured is not None
    return measured


def no_linear(model: PretrainedModel) -> LinearPredictor:
    """Return a linear predictor of zeros."""
    front_end = model.config.front_end
    inputs = (8 + front_end.frames_stacked) * 20 * (1 + front_end.deltas) + 1
    outputs = sum(target.dims for target in model.targets) * front_end.frames_stacked
    return LinearPredictor(front_end.frames_stacked, torch.zeros(inputs, outputs).double())


SETTINGS: dict[str, dict[str, Any]] = {
    "l1": {},
    "l2 over all": {"objective": ObjectiveConfig(loss="l2", over="all")},
    "huber of two targets": {
        "objective": ObjectiveConfig(loss="huber", targets={"linear": 0.5, "logmel": 2.0})
    },
    "a target that is not read": {"objective": ObjectiveConfig(targets={"linear": 1.0})},
    "bands": {"masking": MaskingConfig(band_share=0.5, consecutive=2, noise_share=0.5)},
}


@pytest.mark.parametrize("predictor", ["interpolation", "utterance_mean"])
@pytest.mark.parametrize("batching", ["padded", "static", "packed"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_model_that_predicts_like_a_trivial_predictor_has_its_loss(
    librispeech_data: Path,
    config: PretrainConfig,
    settings: dict[str, Any],
    batching: Any,
    predictor: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = replace(config, **settings, data=replace(config.data, batching=batching))
    expected = measure(config, librispeech_data)[predictor]
    selections = selections_of(config, librispeech_data)
    module = Pretraining(build_model(config, selections), config).eval()
    batches: list[Reconstruction] = []
    original = reconstruction.mask_batch

    def remember(*arguments: Any) -> Reconstruction:
        batches.append(original(*arguments))
        return batches[-1]

    def predict(last: Tensor) -> dict[str, Tensor]:
        """Predict in the layout of the last states, as the heads do."""
        model = module.model
        predicted = dict(predict_trivially(batches[-1], model, no_linear(model)))[predictor]
        return {name: part.view(*last.shape[:-1], -1) for name, part in predicted.items()}

    monkeypatch.setattr(reconstruction, "mask_batch", remember)
    monkeypatch.setattr(module.model, "predict", predict)
    loader = make_loaders(config, selections)[1]
    measured = held_out_loss(module, loader, Ranks(), SignalListener())
    assert measured is not None
    assert measured["validation_loss"] == pytest.approx(expected, rel=1e-6)
    assert len(batches) > 1


@pytest.mark.parametrize("normalisation", ["global", "none", "utterance"])
def test_the_corpus_mean_is_that_of_the_normalised_training_frames(
    librispeech_data: Path, config: PretrainConfig, normalisation: Any
) -> None:
    front_end = replace(config.front_end, normalisation=normalisation, frames_stacked=1)
    # One batch of all utterances, none of them cropped.
    data = replace(config.data, batch_seconds=100.0, crop_seconds=3.0)
    config = replace(config, front_end=front_end, data=data)
    selections = selections_of(config, librispeech_data)
    model = build_model(config, selections)
    batch = next(iter(make_loaders(config, selections)[0]))
    masked = reconstruction.mask_batch(model, batch, config.masking, seed=1)
    predicted = dict(predict_trivially(masked, model, no_linear(model)))["corpus_mean"]["logmel"]
    expected = masked.targets["logmel"][masked.frames.real].mean(dim=0)
    torch.testing.assert_close(predicted[0], expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(predicted, predicted[:1].expand_as(predicted))


def test_batching_changes_no_figure_but_that_of_the_fit(
    librispeech_data: Path, config: PretrainConfig
) -> None:
    """The order of the training utterances, and so what is fitted, depends on the batches."""
    layouts = [replace(config, data=replace(config.data, batching="packed"))]
    layouts += [replace(config, data=replace(config.data, batch_seconds=3.0))]
    expected = measure(config, librispeech_data)
    assert list(expected) == list(DESCRIPTIONS)
    for layout in layouts:
        measured = measure(layout, librispeech_data)
        for name in DESCRIPTIONS.keys() - {"linear"}:
            assert measured[name] == pytest.approx(expected[name], rel=1e-5)
        assert measured["linear"] == pytest.approx(expected["linear"], rel=0.05)


def test_the_positions_of_the_loaders_and_global_randomness_stay(
    librispeech_data: Path, config: PretrainConfig
) -> None:
    selections = selections_of(config, librispeech_data)
    model, loaders = build_model(config, selections), make_loaders(config, selections)
    next(iter(loaders[0]))
    position, state = loaders[0].position, torch.get_rng_state()
    listener = SignalListener()
    measure = (model, config, loaders, Ranks(), listener)
    first = measure_trivial_predictors(*measure)
    assert loaders[0].position == position > 0
    assert torch.equal(torch.get_rng_state(), state)
    # The figures depend neither on the position nor on the seed of a run.
    assert measure_trivial_predictors(*measure) == first
    assert measure_trivial_predictors(model, replace(config, seed=5), *measure[2:]) == first
    listener.received = 15
    assert measure_trivial_predictors(*measure) is None


def test_what_a_signal_interrupts_is_measured_again_and_noted_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    made_with = {"task": "pretrain", "data": [], "data_fingerprint": [], "files": {}}
    with run.begin(PretrainConfig(), {**made_with, "seed": 0, "threads": 1}):
        pass
    answers = iter([None, {"interpolation": 0.5}])
    losses = iter([{"validation_loss": 1.0}, {"validation_loss": 0.9}])
    measure = HeldOutMeasurement(run, Ranks(), lambda: next(answers), lambda: next(losses))
    assert measure() is None
    assert "trivial_predictors" not in run.read_record()
    assert measure() == {"validation_loss": 1.0}
    assert run.read_record()["trivial_predictors"] == {"interpolation": 0.5}
    assert measure() == {"validation_loss": 0.9}
    resumed = HeldOutMeasurement(run, Ranks(), lambda: next(answers), lambda: {"again": 1.0})
    assert resumed() == {"again": 1.0}


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (
            0.423,
            "the held-out loss 0.4230 is not below that of interpolating between the nearest "
            "visible frames (0.2854): the model predicts hidden frames no better than a line "
            "between their neighbours; train longer, or see docs/pretrain.md",
        ),
        (
            0.28,
            "the held-out loss 0.2800 is below that of interpolating between the nearest visible "
            "frames (0.2854), and not below that of the best linear predictor (0.2773)",
        ),
        (
            0.259,
            "the held-out loss 0.2590 is below that of interpolating between the nearest visible "
            "frames (0.2854), and below that of the best linear predictor (0.2773)",
        ),
    ],
)
def test_a_loss_is_compared_in_words(loss: float, expected: str) -> None:
    assert compare_in_words(loss, {"interpolation": 0.2854, "linear": 0.2773}) == expected


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_no_predictor_knows_what_is_hidden(
    librispeech_data: Path, config: PretrainConfig, batching: Any
) -> None:
    """Neither hidden frames nor hidden bands: if they are NaN, no prediction changes."""
    masking = MaskingConfig(band_share=0.5, consecutive=2, keep_share=0.4)
    config = replace(config, masking=masking, data=replace(config.data, batching=batching))
    selections = selections_of(config, librispeech_data)
    model = build_model(config, selections)
    batch = next(iter(make_loaders(config, selections)[0]))
    masked = reconstruction.mask_batch(model, batch, masking, seed=1)
    target, linear = masked.targets["logmel"], no_linear(model)
    linear = replace(linear, coefficients=torch.ones_like(linear.coefficients))
    hidden = chosen_elements(
        masked.mask, masked.frames, target.shape[1], config.objective, has_bands=True
    )
    assert hidden.shape == target.shape and (hidden.any(dim=1) & ~masked.mask.frames).any()
    unknown = torch.where(hidden, torch.nan, target)
    inputs = torch.where(hidden, torch.nan, masked.inputs)
    blind = replace(masked, targets={"logmel": unknown}, inputs=inputs)
    known = dict(predict_trivially(masked, model, linear))
    real = masked.frames.real
    for name, predicted in predict_trivially(blind, model, linear):
        assert torch.equal(predicted["logmel"][real], known[name]["logmel"][real]), name
