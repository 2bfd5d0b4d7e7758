import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aalbert.errors import ConfigError
from aalbert.train.masking import MaskingConfig, corrupt, draw_mask, masked_l1
from aalbert.train.seeds import generator_of

LENGTHS = st.lists(st.integers(1, 120), min_size=1, max_size=8)


def spans(mask: torch.Tensor) -> list[int]:
    """Return the lengths of the runs of true values."""
    text = "".join("x" if value else " " for value in mask.tolist())
    return [len(run) for run in text.split()]


@given(LENGTHS, st.integers(1, 12), st.floats(0.05, 0.5), st.integers(0, 99))
def test_every_utterance_is_masked_somewhere_and_never_in_its_padding(
    lengths: list[int], consecutive: int, proportion: float, seed: int
) -> None:
    config = MaskingConfig(proportion=proportion, consecutive=consecutive)
    mask = draw_mask(torch.tensor(lengths), 120, config, generator_of(seed))
    for length, row in zip(lengths, mask, strict=True):
        assert row[:length].any()
        assert not row[length:].any()


@given(st.integers(20, 120), st.integers(1, 9), st.integers(0, 99))
def test_masked_frames_come_in_spans_of_at_least_the_given_length(
    length: int, consecutive: int, seed: int
) -> None:
    config = MaskingConfig(consecutive=consecutive)
    mask = draw_mask(torch.tensor([length]), 120, config, generator_of(seed))
    assert min(spans(mask[0])) >= consecutive


def test_single_frame_spans_mask_exactly_the_proportion() -> None:
    mask = draw_mask(
        torch.tensor([200, 100]),
        200,
        MaskingConfig(proportion=0.15, consecutive=1),
        generator_of(1),
    )
    assert mask.sum(dim=1).tolist() == [30, 15]


def test_overlapping_spans_mask_a_little_less_than_the_proportion() -> None:
    mask = draw_mask(torch.full((200,), 500), 500, MaskingConfig(), generator_of(1))
    assert 0.12 < mask.float().mean() < 0.15


def test_starts_are_spread_evenly_over_the_utterance() -> None:
    mask = draw_mask(torch.full((3000,), 50), 50, MaskingConfig(consecutive=1), generator_of(1))
    counts = mask.sum(dim=0).float()
    assert counts.std() / counts.mean() < 0.1


def test_equal_seeds_give_equal_masks_and_other_seeds_others() -> None:
    lengths = torch.tensor([90, 60])
    first, again, other = (
        draw_mask(lengths, 90, MaskingConfig(), generator_of("mask", seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_three_policies_are_drawn_as_often_as_configured() -> None:
    utterances, frames = 4000, 12
    inputs = torch.randn(utterances, frames, 2)
    lengths = torch.full((utterances,), frames)
    config = MaskingConfig(consecutive=3, random_share=0.2, keep_share=0.1)
    mask = draw_mask(lengths, frames, config, generator_of(1))
    corrupted = corrupt(inputs, mask, lengths, config, generator_of(2))
    assert torch.equal(corrupted[~mask], inputs[~mask])
    hidden = mask.unsqueeze(-1)
    zeroed = (corrupted.masked_fill(~hidden, 0) == 0).all(dim=(1, 2))
    kept = (corrupted == inputs).all(dim=(1, 2))
    assert zeroed.float().mean() == pytest.approx(0.7, abs=0.03)
    assert kept.float().mean() == pytest.approx(0.1, abs=0.02)


def test_replacement_frames_come_from_the_real_frames_of_the_same_utterance() -> None:
    inputs = torch.arange(40.0).view(2, 20, 1)
    lengths = torch.tensor([20, 7])
    config = MaskingConfig(proportion=0.5, consecutive=2, random_share=1.0, keep_share=0.0)
    mask = draw_mask(lengths, 20, config, generator_of(1))
    corrupted = corrupt(inputs, mask, lengths, config, generator_of(3))
    assert set(corrupted[0, :, 0].tolist()) <= set(range(20))
    assert set(corrupted[1, :7, 0].tolist()) <= set(range(20, 27))


def test_the_loss_is_the_mean_over_masked_elements_alone() -> None:
    predicted, targets = torch.randn(2, 6, 3), torch.randn(2, 6, 3)
    mask = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0]]).bool()
    expected = (predicted[mask] - targets[mask]).abs().mean()
    torch.testing.assert_close(masked_l1(predicted, targets, mask), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"proportion": 0.0}, r"masking\.proportion 0\.0 must be between 0 and 1"),
        ({"consecutive": 0}, r"masking\.consecutive 0 must be at least 1"),
        ({"random_share": 0.6, "keep_share": 0.6}, "together at most 1"),
    ],
)
def test_impossible_masking_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MaskingConfig(**settings)  # type: ignore[arg-type]
