import pytest
import torch
from torch import Tensor

from aalbert.models.layout import Packed
from aalbert.train.pretraining.config import MaskingConfig
from aalbert.train.pretraining.masking import Frames, Mask, draw_mask, frames_of
from aalbert.train.pretraining.visible_frames import (
    VisibleFrames,
    average,
    find_visible,
    interpolate,
    interpolate_bands,
    take_nearest,
)
from aalbert.train.randomness import Draws

# Encoder frames: an utterance that is hidden as a whole, and an empty element of a static batch.
LENGTHS = torch.tensor([12, 7, 1, 0])
ROWS = torch.tensor([3, 4, 5, -1])
DIMS = 4
DEFAULT = torch.tensor([9.0, 8.0, 7.0, 6.0])


def batch(layout: str, stacked: int) -> tuple[Frames, Mask, Tensor]:
    """Return a masked batch and random values of its stored frames, NaN where there are none."""
    generator = torch.Generator().manual_seed(1)
    padded = torch.randn(4, 12, stacked * DIMS, generator=generator)
    real = torch.arange(12) < LENGTHS.unsqueeze(1)
    offsets = torch.tensor([0, *LENGTHS.cumsum(0)], dtype=torch.int32)
    if layout == "packed":
        spare = torch.full((2, stacked * DIMS), float("nan"))
        values = torch.cat([padded[real], spare])
        frames = frames_of(values, Packed(offsets, 12, spare=2))
    else:
        values = padded.masked_fill(~real.unsqueeze(-1), float("nan"))
        frames = frames_of(values, LENGTHS)
    masking = MaskingConfig(
        proportion=0.4,
        consecutive=(1, 3),
        random_share=0.3,
        keep_share=0.4,
        decide_per="span",
    )
    mask = draw_mask(frames, DIMS, masking, Draws(2, ROWS))
    return frames, mask, values.reshape(-1, DIMS)


def utterances(
    frames: Frames, mask: Mask, stacked: int
) -> list[tuple[list[int], list[int], list[int]]]:
    """Return for every utterance the places of its stored frames: all, visible, hidden."""
    found = []
    for first, length in zip(frames.first.tolist(), frames.lengths.tolist(), strict=True):
        places = range(first, first + length)
        stored = {
            chosen: [
                place * stacked + part
                for place in places
                if bool(mask.frames[place]) in chosen
                for part in range(stacked)
            ]
            for chosen in ((True, False), (False,), (True,))
        }
        found.append((*stored.values(),))
    return found  # type: ignore[return-value]


def expected_line(values: Tensor, place: int, visible: list[int]) -> Tensor:
    before = [other for other in visible if other <= place]
    after = [other for other in visible if other >= place]
    if not visible:
        return DEFAULT
    if not before or not after:
        return values[after[0] if after else before[-1]]
    left, right = before[-1], after[0]
    share = (place - left) / max(1, right - left)
    return (1 - share) * values[left] + share * values[right]


def expected_nearest(values: Tensor, place: int, visible: list[int]) -> Tensor:
    # Of equally near frames `min` takes the first.
    return values[min(visible, key=lambda other: abs(other - place))] if visible else DEFAULT


def expected_average(values: Tensor, place: int, visible: list[int]) -> Tensor:
    return values[visible].mean(dim=0) if visible else DEFAULT


@pytest.mark.parametrize("stacked", [1, 3])
@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize(
    ("predict", "expected"),
    [
        (interpolate, expected_line),
        (take_nearest, expected_nearest),
        (average, expected_average),
    ],
)
def test_frames_are_predicted_from_the_visible_ones_of_their_utterance_alone(
    predict: object, expected: object, layout: str, stacked: int
) -> None:
    """Padding and frames of no utterance are NaN, and would show."""
    frames, mask, values = batch(layout, stacked)
    predicted = predict(values, find_visible(frames, mask, stacked), DEFAULT)  # type: ignore[operator]
    compared = 0
    for every, visible, hidden in utterances(frames, mask, stacked):
        for place in every:
            wanted = expected(values, place, visible)  # type: ignore[operator]
            torch.testing.assert_close(predicted[place], wanted, rtol=1e-5, atol=1e-6)
        compared += len(hidden)
    assert compared > 5 * stacked


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_no_hidden_frame_is_used_whether_it_was_zeroed_replaced_or_kept(layout: str) -> None:
    frames, mask, values = batch(layout, 3)
    assert (mask.frames & ~mask.zeroed & ~mask.replaced).any() and mask.replaced.any()
    visible = find_visible(frames, mask, 3)
    changed = values.masked_fill(mask.frames.repeat_interleave(3).unsqueeze(1), float("nan"))
    for predict in (interpolate, take_nearest, average):
        predicted = [predict(each, visible, DEFAULT) for each in (values, changed)]
        real = frames.real.repeat_interleave(3)
        assert torch.equal(predicted[0][real], predicted[1][real])


def test_bands_are_interpolated_over_the_dimensions_beside_them() -> None:
    bands = torch.tensor(
        [
            [False, True, True, False],
            [True, True, False, False],
            [False, False, False, True],
            [True, True, True, True],
            [False, False, False, False],
        ]
    )
    values = torch.tensor([1.0, 50.0, 60.0, 4.0]).repeat(5, 1)
    found = interpolate_bands(values, bands, torch.arange(5), DEFAULT)
    expected = [
        [1.0, 2.0, 3.0, 4.0],
        [60.0, 60.0, 60.0, 4.0],
        [1.0, 50.0, 60.0, 60.0],
        DEFAULT.tolist(),
        [1.0, 50.0, 60.0, 4.0],
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_an_utterance_has_the_same_neighbours_in_every_layout() -> None:
    found: list[VisibleFrames] = []
    for layout in ("padded", "packed"):
        frames, mask, _ = batch(layout, 3)
        found.append(find_visible(frames, mask, 3))
        assert int(found[-1].visible.sum()) == 3 * int((frames.real & ~mask.frames).sum())
    one, other = ((each.nearest.after - each.nearest.before)[each.visible] for each in found)
    assert torch.equal(one, other)
