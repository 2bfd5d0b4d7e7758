from typing import Any

import pytest
import torch

from aalbert.errors import ConfigError
from aalbert.train.pretraining.config import MaskingConfig, ObjectiveConfig
from aalbert.train.pretraining.loss import ErrorSums, chosen_elements, measure_target
from aalbert.train.pretraining.masking import Frames, Mask, draw_mask, frames_of
from aalbert.train.randomness import Draws

LENGTHS = torch.tensor([12, 7])


def masked(band_share: float = 0.0) -> tuple[Frames, Mask]:
    frames = frames_of(torch.zeros(2, 12, 5), LENGTHS)
    config = MaskingConfig(consecutive=2, band_share=band_share)
    return frames, draw_mask(frames, 5, config, Draws(2, torch.tensor([3, 4])))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("l1", lambda gap: gap.abs()),
        ("l2", lambda gap: gap**2),
        ("huber", lambda gap: torch.where(gap.abs() < 1, gap**2 / 2, gap.abs() - 0.5)),
    ],
)
def test_a_loss_is_the_mean_over_the_masked_elements_alone(loss: str, expected: Any) -> None:
    frames, mask = masked()
    predicted, target = torch.randn(24, 6), 2 * torch.randn(24, 6)
    chosen = chosen_elements(mask, frames, 6, ObjectiveConfig(), has_bands=True)
    total, count = measure_target(predicted, target, chosen, loss)
    gap = predicted[mask.frames] - target[mask.frames]
    torch.testing.assert_close(total / count, expected(gap).mean())


def test_all_real_frames_can_be_compared_and_padding_never_is() -> None:
    frames, mask = masked()
    predicted = torch.zeros(24, 6)
    target = torch.ones(24, 6).masked_fill(~frames.real.unsqueeze(1), float("nan"))
    chosen = chosen_elements(mask, frames, 6, ObjectiveConfig(over="all"), has_bands=True)
    total, count = measure_target(predicted, target, chosen, "l1")
    assert (float(total), float(count)) == (19 * 6, 19 * 6)


def test_a_band_is_compared_in_every_real_frame_of_the_feature_that_is_read() -> None:
    frames, mask = masked(band_share=0.6)
    assert mask.bands is not None and mask.bands.any()
    chosen = chosen_elements(mask, frames, 10, ObjectiveConfig(), has_bands=True)
    for place in range(24):
        utterance, frame = divmod(place, 12)
        for dim in range(10):
            inside = mask.frames[place] or mask.bands[utterance, dim % 5]
            assert bool(chosen[place, dim]) == bool(inside and frame < LENGTHS[utterance])
    other = chosen_elements(mask, frames, 10, ObjectiveConfig(), has_bands=False)
    assert torch.equal(other.squeeze(1), mask.frames)


def test_errors_of_batches_are_added_and_targets_are_weighted() -> None:
    first = ErrorSums(torch.tensor([6.0, 1.0]), torch.tensor([2.0, 1.0]))
    second = ErrorSums(torch.tensor([2.0, 3.0]), torch.tensor([2.0, 3.0]))
    config = ObjectiveConfig(targets={"logmel": 1.0, "linear": 0.5})
    assert float((first + second).loss(config)) == 8 / 4 + 0.5 * 4 / 4


def test_errors_are_summed_in_float32_under_half_precision() -> None:
    predicted = torch.zeros(4096, 64, dtype=torch.bfloat16)
    target = torch.full((4096, 64), 1.0)
    total, count = measure_target(predicted, target, torch.ones(4096, 1).bool(), "l1")
    assert total.dtype == torch.float32
    assert (float(total), float(count)) == (4096 * 64, 4096 * 64)


def test_a_weight_that_is_not_above_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"objective\.targets\.linear 0\.0 must be above 0"):
        ObjectiveConfig(targets={"linear": 0.0})
