import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from aalbert.errors import ConfigError
from aalbert.models import PretrainedModel
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.training_states import list_states
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.pretraining.build import make_loaders, select_utterances
from aalbert.train.pretraining.codes import Codes, cluster, nearest, read_inputs
from aalbert.train.pretraining.config import CodesConfig, ObjectiveConfig, PretrainConfig
from aalbert.train.pretraining.module import build_pretraining
from aalbert.train.pretraining.reconstruction import measure_errors, reconstruct
from aalbert.train.pretraining.run import resume_pretraining, start_pretraining
from aalbert.train.randomness import seed_of
from aalbert.train.run_folder import RunFolder

ENCODER = EncoderConfig(width=8, heads=2, feed_forward_width=16)


def with_codes(config: PretrainConfig, **settings: object) -> PretrainConfig:
    codes = CodesConfig(**{"weight": 0.5, "count": 20, **settings})  # type: ignore[arg-type]
    return replace(config, objective=ObjectiveConfig(codes=codes))


def test_the_nearest_vector_is_that_of_the_least_distance() -> None:
    generator = torch.Generator().manual_seed(1)
    frames, vectors = (
        torch.randn(200, 7, generator=generator),
        torch.randn(9, 7, generator=generator),
    )
    assert torch.equal(nearest(frames, vectors), torch.cdist(frames, vectors).argmin(dim=1))


def test_clusters_are_the_groups_that_the_frames_form() -> None:
    generator = torch.Generator().manual_seed(2)
    middles = 10 * torch.eye(4)
    frames = middles.repeat_interleave(50, dim=0) + torch.randn(200, 4, generator=generator)
    means = frames.view(4, 50, 4).mean(dim=1)
    # From some starts k-means ends with two centres in one group, but not from all of eight.
    best = min(
        (cluster(frames, 4, torch.Generator().manual_seed(seed)) for seed in range(8)),
        key=lambda centres: float(torch.cdist(frames, centres).min(dim=1).values.sum()),
    )
    torch.testing.assert_close(best[nearest(means, best)], means)


def test_more_clusters_than_frames_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="objective.codes.count 500: there are 3 frames to train on"
    ):
        cluster(torch.randn(3, 2), 500, torch.Generator())


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="objective.codes.weight -1 must not be negative"):
        CodesConfig(weight=-1)


def test_random_codes_compare_the_directions_of_projected_frames() -> None:
    generator = torch.Generator().manual_seed(3)
    projection = torch.randn(6, 4, generator=generator)
    vectors = F.normalize(torch.randn(10, 4, generator=generator), dim=1)
    frames = torch.randn(50, 6, generator=generator)
    found = Codes(ENCODER, vectors, projection).find(frames)
    similarity = F.cosine_similarity((frames @ projection)[:, None], vectors[None], dim=2)
    assert torch.equal(found, similarity.argmax(dim=1))


def test_the_loss_is_the_cross_entropy_of_hidden_frames_alone() -> None:
    codes = Codes(ENCODER, torch.randn(5, 3))
    frames, hidden = torch.randn(12, 3), torch.arange(12) % 3 == 0
    last = torch.randn(12, 8, requires_grad=True)
    expected = F.cross_entropy(codes.head(last[hidden]), codes.find(frames[hidden]))
    (expected_gradient,) = torch.autograd.grad(expected, last)

    padding = ~hidden & (torch.arange(12) > 8)
    dirty = last.detach().masked_fill(padding[:, None], torch.nan).requires_grad_()
    loss = codes.loss(dirty, frames.masked_fill(padding[:, None], torch.nan), hidden)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(dirty.grad, expected_gradient)
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in codes.parameters())


def test_codes_do_not_depend_on_the_precision_of_the_run(pretrain_config: PretrainConfig) -> None:
    torch.manual_seed(0)
    codes = Codes(pretrain_config.encoder, torch.randn(256, 80), torch.randn(80, 80))
    frames = torch.randn(5_000, 80)
    expected = codes.find(frames)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codes.find(frames), expected)
        # In bfloat16 some would be others.
        assert not torch.equal(nearest(frames @ frames[:80], codes.vectors), expected)


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_clusters_are_fitted_to_the_frames_of_the_training_utterances(
    pretrain_config: PretrainConfig, librispeech_data: Path, batching: str
) -> None:
    config = replace(
        pretrain_config,
        data=replace(pretrain_config.data, batching=batching),  # type: ignore[arg-type]
        encoder=replace(pretrain_config.encoder, attention_dropout=0.0),
    )
    selections = select_utterances(config, [Dataset(librispeech_data)])
    model = build_pretraining(config, selections).model
    inputs = read_inputs(model, make_loaders(config, selections)[0])
    dataset, rows = selections.datasets[0], selections.training[0].rows
    longest = round(config.data.crop_seconds * 100)
    stacked = config.front_end.frames_stacked
    expected = sum(min(int(dataset.frames("logmel")[row]), longest) // stacked for row in rows)
    assert inputs.shape == (expected, config.front_end.input_dims)
    assert inputs.isfinite().all()


@pytest.mark.parametrize("kind", ["clusters", "random"])
def test_the_loss_of_codes_is_added_with_its_weight(
    pretrain_config: PretrainConfig, librispeech_data: Path, kind: str
) -> None:
    config = with_codes(pretrain_config, kind=kind)
    selections = select_utterances(config, [Dataset(librispeech_data)])
    module, same = (build_pretraining(config, selections).eval() for _ in range(2))
    assert module.codes is not None and same.codes is not None
    assert torch.equal(module.codes.vectors, same.codes.vectors)
    batch = next(iter(make_loaders(config, selections)[0]))
    result = reconstruct(module.model, batch, config.masking, seed_of(config.seed, "mask", 0))
    assert result.last is not None
    reconstruction = measure_errors(result, config.objective).loss(config.objective)
    codes = module.codes.loss(result.last, result.unmasked, result.mask.frames)
    torch.testing.assert_close(module.training_step(batch, 0), reconstruction + 0.5 * codes)
    # At first all codes are about equally likely.
    assert codes.item() == pytest.approx(math.log(20), rel=0.2)


def test_a_run_with_codes_resumes_and_exports_a_plain_model(
    pretrain_config: PretrainConfig, librispeech_data: Path, tmp_path: Path
) -> None:
    config = replace(with_codes(pretrain_config), steps=6, validate_every_steps=3)
    whole = start_pretraining(config, [librispeech_data], tmp_path / "whole")
    half = RunFolder(tmp_path / "half")
    start_pretraining(config, [librispeech_data], half.path)
    last = list_states(half.checkpoints)[-1]
    last.unlink()
    resumed = resume_pretraining(half.path)
    for expected, found in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, found)
    saved = PretrainedModel.from_pretrained(half.path)
    assert not [name for name in saved.state_dict() if "codes" in name]
