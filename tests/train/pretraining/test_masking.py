import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from aalbert.errors import ConfigError
from aalbert.models.layout import Packed
from aalbert.train.pretraining.config import MaskingConfig
from aalbert.train.pretraining.masking import Frames, Mask, corrupt, draw_mask, frames_of
from aalbert.train.randomness import Draws

LENGTHS = st.lists(st.integers(1, 120), min_size=1, max_size=8)
POLICIES = [
    MaskingConfig(),
    MaskingConfig(consecutive=1),
    MaskingConfig(consecutive=(3, 9)),
    MaskingConfig(consecutive=7, bucket_ratio=1.5),
    MaskingConfig(consecutive=1, bucket_ratio=3.0),
    MaskingConfig(consecutive=4, decide_per="span", random_share=0.3, keep_share=0.3),
    MaskingConfig(band_share=0.2, noise_share=0.15),
]


def drawn(
    lengths: Tensor, config: MaskingConfig, *, seed: int = 1, dims: int = 4, longest: int = 0
) -> tuple[Frames, Mask, Draws]:
    """Return the mask of a padded batch of these lengths, whose rows are 0, 1, 2 and so on."""
    batch = torch.zeros(len(lengths), longest or int(lengths.max()), dims)
    frames, draws = frames_of(batch, lengths), Draws(seed, torch.arange(len(lengths)))
    return frames, draw_mask(frames, dims, config, draws), draws


def rows_of(mask: Tensor, lengths: Tensor) -> Tensor:
    """Return a mask on one axis as `(batch, frames)`."""
    return mask.view(len(lengths), -1)


def runs(mask: Tensor) -> list[int]:
    """Return the lengths of the runs of true values."""
    text = "".join("x" if value else " " for value in mask.tolist())
    return [len(run) for run in text.split()]


@pytest.mark.parametrize("config", POLICIES, ids=range(len(POLICIES)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_every_utterance_is_masked_somewhere_and_never_in_its_padding(
    config: MaskingConfig, lengths: list[int], seed: int
) -> None:
    counts = torch.tensor(lengths)
    _, mask, _ = drawn(counts, config, seed=seed, longest=130)
    for length, row in zip(lengths, rows_of(mask.frames, counts), strict=True):
        assert row[:length].any()
        assert not row[length:].any()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(20, 120), st.integers(1, 9), st.integers(0, 99))
def test_masked_frames_come_in_spans_of_at_least_the_given_length(
    length: int, consecutive: int, seed: int
) -> None:
    config = MaskingConfig(consecutive=consecutive)
    _, mask, _ = drawn(torch.tensor([length]), config, seed=seed)
    assert min(runs(mask.frames)) >= consecutive


def test_spans_on_a_grid_do_not_overlap_and_have_the_distance_of_buckets() -> None:
    lengths = torch.full((300,), 500)
    config = MaskingConfig(consecutive=4, bucket_ratio=1.5)
    _, mask, _ = drawn(lengths, config)
    # round(500 x 0.15 / 4) spans of 4 frames.
    assert rows_of(mask.frames, lengths).sum(dim=1).eq(19 * 4).all()
    phases = set()
    for row in rows_of(mask.frames, lengths):
        assert set(runs(row)) == {4}
        starts = torch.nonzero(row[1:] & ~row[:-1]).flatten() + 1
        assert len({int(start) % 6 for start in starts}) == 1
        phases.add(int(starts[0]) % 6)
    assert phases == set(range(6))


def test_a_range_of_lengths_is_drawn_for_each_utterance() -> None:
    lengths = torch.full((800,), 200)
    config = MaskingConfig(consecutive=(3, 6), proportion=0.05, bucket_ratio=3.0)
    _, mask, _ = drawn(lengths, config)
    spans = [set(runs(row)) for row in rows_of(mask.frames, lengths)]
    assert all(len(found) == 1 for found in spans)
    shares = torch.bincount(torch.tensor([found.pop() for found in spans]), minlength=7) / 800
    assert shares[3:].tolist() == pytest.approx([0.25] * 4, abs=0.06)


def test_single_frame_spans_mask_exactly_the_proportion() -> None:
    lengths = torch.tensor([200, 100])
    _, mask, _ = drawn(lengths, MaskingConfig(consecutive=1))
    assert rows_of(mask.frames, lengths).sum(dim=1).tolist() == [30, 15]


def test_overlapping_spans_mask_the_expected_share() -> None:
    """Of 494 starts 11 are drawn; an inner frame is hidden unless none of its 7 starts is."""
    lengths = torch.full((1000,), 500)
    _, mask, _ = drawn(lengths, MaskingConfig())
    inner = rows_of(mask.frames, lengths)[:, 6:494].float().mean()
    expected = 1 - math.comb(494 - 7, 11) / math.comb(494, 11)
    assert float(inner) == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize("ratio", [None, 3.0])
def test_starts_are_spread_evenly_over_the_utterance(ratio: float | None) -> None:
    lengths = torch.full((4000,), 50)
    _, mask, _ = drawn(lengths, MaskingConfig(consecutive=1, bucket_ratio=ratio))
    counts = rows_of(mask.frames, lengths).sum(dim=0).float()
    # 8 of 50 frames in each: binomial with deviation 23.2.
    assert float((counts - 640).abs().max()) < 4.5 * 23.2


def test_equal_seeds_give_equal_masks_and_other_seeds_others() -> None:
    lengths = torch.tensor([90, 60])
    first, again, other = (drawn(lengths, MaskingConfig(), seed=seed)[1] for seed in (1, 1, 2))
    assert torch.equal(first.frames, again.frames)
    assert torch.equal(first.source, again.source)
    assert not torch.equal(first.frames, other.frames)


@pytest.mark.parametrize("config", POLICIES, ids=range(len(POLICIES)))
def test_a_mask_depends_on_the_utterance_and_not_on_its_batch(config: MaskingConfig) -> None:
    lengths, rows = torch.tensor([50, 80, 20]), torch.tensor([7, 3, 11])
    values = torch.randn(3, 80, 4)
    together = frames_of(values, lengths)
    draws = Draws(5, rows)
    mask = draw_mask(together, 4, config, draws)
    read = corrupt(values.view(-1, 4), mask, together, config, draws).view(3, 80, 4)
    for place, (length, row) in enumerate(zip(lengths.tolist(), rows.tolist(), strict=True)):
        alone = values[place : place + 1, :length]
        frames = frames_of(alone, torch.tensor([length]))
        own = Draws(5, torch.tensor([row]))
        mine = draw_mask(frames, 4, config, own)
        assert torch.equal(mine.frames, rows_of(mask.frames, lengths)[place, :length])
        found = corrupt(alone[0], mine, frames, config, own)
        torch.testing.assert_close(found, read[place, :length])


@pytest.mark.parametrize("config", POLICIES, ids=range(len(POLICIES)))
def test_packed_batches_are_masked_as_padded_ones(config: MaskingConfig) -> None:
    lengths, draws = torch.tensor([50, 1, 20]), Draws(5, torch.arange(3))
    values = torch.randn(3, 50, 4)
    real = torch.arange(50) < lengths.unsqueeze(1)
    padded = frames_of(values, lengths)
    mask = draw_mask(padded, 4, config, draws)
    expected = corrupt(values.view(-1, 4), mask, padded, config, draws).view(3, 50, 4)[real]
    offsets = torch.tensor([0, 50, 51, 71], dtype=torch.int32)
    # Two spare rows at the end belong to no utterance.
    flat = torch.cat((values[real], torch.full((2, 4), 9.0)))
    frames = frames_of(flat, Packed(offsets, 50))
    packed = draw_mask(frames, 4, config, draws)
    assert torch.equal(packed.frames[:71], rows_of(mask.frames, lengths)[real])
    assert not packed.frames[71:].any()
    torch.testing.assert_close(corrupt(flat, packed, frames, config, draws)[:71], expected)


@pytest.mark.parametrize("decide_per", ["utterance", "span"])
def test_the_three_branches_are_drawn_as_often_as_configured(decide_per: str) -> None:
    lengths = torch.full((3000,), 60)
    config = MaskingConfig(
        consecutive=3,
        bucket_ratio=2.0,
        random_share=0.2,
        keep_share=0.1,
        decide_per=decide_per,  # type: ignore[arg-type]
    )
    _, mask, _ = drawn(lengths, config)
    hidden = rows_of(mask.frames, lengths)
    zeroed, replaced = (rows_of(part, lengths) for part in (mask.zeroed, mask.replaced))
    masked = hidden.sum()
    assert not (zeroed & replaced).any() and not ((zeroed | replaced) & ~hidden).any()
    assert float(zeroed.sum() / masked) == pytest.approx(0.7, abs=0.03)
    assert float(replaced.sum() / masked) == pytest.approx(0.2, abs=0.03)
    whole = (zeroed == hidden).all(dim=1)
    # Three spans each: all of them are zeroed in 0.7 of the utterances, or in 0.7 cubed.
    expected = 0.7 if decide_per == "utterance" else 0.7**3
    assert float(whole.float().mean()) == pytest.approx(expected, abs=0.035)
    for row, part in zip(hidden[:50], zeroed[:50], strict=True):
        assert set(runs(part)) <= set(runs(row))


def test_a_replacement_is_a_span_of_the_real_frames_of_the_same_utterance() -> None:
    inputs = torch.arange(40.0).view(2, 20, 1)
    lengths = torch.tensor([20, 7])
    config = MaskingConfig(proportion=0.4, consecutive=2, random_share=1.0, keep_share=0.0)
    for seed in range(20):
        frames, mask, draws = drawn(lengths, config, seed=seed, dims=1)
        read = corrupt(inputs.view(-1, 1), mask, frames, config, draws).view(2, 20)
        assert set(read[0].tolist()) <= set(range(20))
        assert set(read[1, :7].tolist()) <= set(range(20, 27))
        for row, found in zip(rows_of(mask.frames, lengths), read, strict=True):
            if set(runs(row)) == {2}:
                first = torch.nonzero(row[1:] & ~row[:-1]).flatten() + 1
                assert torch.equal(found[first + 1], found[first] + 1)


def test_frames_that_are_not_hidden_or_are_kept_do_not_change() -> None:
    lengths = torch.tensor([90, 40])
    values = torch.randn(180, 4)
    config = MaskingConfig(random_share=0.0, keep_share=0.0)
    frames, mask, draws = drawn(lengths, config)
    token = torch.tensor([1.0, 2.0, 3.0, 4.0])
    read = corrupt(values, mask, frames, config, draws, token)
    assert torch.equal(read[~mask.frames], values[~mask.frames])
    assert torch.equal(read[mask.frames], token.expand(int(mask.frames.sum()), 4))
    config = MaskingConfig(random_share=0.0, keep_share=1.0)
    frames, mask, draws = drawn(lengths, config)
    assert torch.equal(corrupt(values, mask, frames, config, draws), values)


def test_bands_have_widths_from_none_to_the_share_and_lie_anywhere() -> None:
    lengths = torch.full((6000,), 2)
    config = MaskingConfig(band_share=0.2)
    _, mask, _ = drawn(lengths, config, dims=20)
    assert mask.bands is not None
    widths = mask.bands.sum(dim=1)
    assert (torch.bincount(widths) / 6000).tolist() == pytest.approx([0.2] * 5, abs=0.025)
    assert all(len(runs(band)) <= 1 for band in mask.bands[:300])
    edges = mask.bands[widths == 4].float().mean(dim=0)
    # 17 places of a band of 4: the outer dims are in one of them, the inner ones in four.
    assert edges[[0, 19]].tolist() == pytest.approx([1 / 17] * 2, abs=0.03)
    assert float(edges[3:17].mean()) == pytest.approx(4 / 17, abs=0.01)


def test_a_band_is_hidden_in_deltas_and_stacked_frames_too() -> None:
    lengths = torch.full((50,), 8)
    config = MaskingConfig(band_share=0.5, keep_share=1.0, random_share=0.0)
    frames, mask, draws = drawn(lengths, config, dims=6)
    assert mask.bands is not None
    read = corrupt(torch.ones(400, 24), mask, frames, config, draws).view(50, 8, 4, 6)
    assert torch.equal(read == 0, mask.bands.view(50, 1, 1, 6).expand_as(read))


def test_a_share_of_the_utterances_gets_noise_of_the_given_deviation() -> None:
    lengths = torch.full((3000,), 10)
    config = MaskingConfig(noise_share=0.15, noise_std=0.2, keep_share=1.0, random_share=0.0)
    frames, mask, draws = drawn(lengths, config, dims=8)
    noise = corrupt(torch.zeros(30_000, 8), mask, frames, config, draws).view(3000, -1)
    noisy = noise.abs().sum(dim=1) > 0
    assert float(noisy.float().mean()) == pytest.approx(0.15, abs=0.02)
    assert float(noise[noisy].std()) == pytest.approx(0.2, abs=0.005)
    assert float(noise[noisy].mean()) == pytest.approx(0, abs=0.005)


@pytest.mark.gpu
@pytest.mark.parametrize("config", POLICIES, ids=range(len(POLICIES)))
def test_a_gpu_draws_the_same_masks(config: MaskingConfig) -> None:
    lengths = torch.randint(1, 300, (32,))
    frames = frames_of(torch.zeros(32, 300, 4), lengths)
    there = frames_of(torch.zeros(32, 300, 4, device="cuda"), lengths.cuda())
    mask = draw_mask(frames, 4, config, Draws(1, torch.arange(32)))
    other = draw_mask(there, 4, config, Draws(1, torch.arange(32).cuda()))
    for name in ("frames", "zeroed", "replaced", "source"):
        assert torch.equal(getattr(mask, name), getattr(other, name).cpu())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"proportion": 0.0}, r"masking\.proportion 0\.0 must be between 0 and 1"),
        ({"consecutive": 0}, r"masking\.consecutive 0 must be at least 1, or a rising range"),
        ({"consecutive": (5, 3)}, r"masking\.consecutive \(5, 3\) must be .* a rising range"),
        ({"random_share": 0.6, "keep_share": 0.6}, "together be at most 1"),
        ({"band_share": 2.0}, r"masking\.band_share 2\.0 must be between 0 and 1"),
        ({"noise_std": 0.0}, r"masking\.noise_std 0\.0 must be above 0"),
        ({"bucket_ratio": 8.0}, r"bucket_ratio 8\.0 must be at least 1, and at most 6\.66667"),
    ],
)
def test_impossible_masking_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MaskingConfig(**wrong)  # type: ignore[arg-type]
