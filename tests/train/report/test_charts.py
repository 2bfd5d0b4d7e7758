"""Where the marks of charts lie, and that texts have room."""

import numpy as np
import pytest

from aalbert.train.report.charts import (
    LETTER,
    MOST_DRAWN,
    MOST_POINTED,
    NARROWEST_PLOT,
    Axis,
    linear_axis,
    name_axis,
    number_texts,
    pointed,
    thinned,
)
from aalbert.train.report.curves import curve_chart, loss_chart, smoothed, smoothing_window

PREDICTORS = {"linear": 0.2, "interpolation": 0.3, "utterance_mean": 0.7, "corpus_mean": 0.8}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.0, 1800.0, ["0", "500", "1,000", "1,500"]),
        (0.0, 1e6, ["0", "500,000", "1,000,000"]),
        (-3.2, 3.2, ["-2", "0", "2"]),
        (7.0, 7.0, ["4", "6", "8", "10"]),
    ],
)
def test_ticks_are_round_numbers_within_the_axis(
    low: float, high: float, expected: list[str]
) -> None:
    axis = linear_axis("step", low, high)
    assert [tick.text for tick in axis.ticks] == expected
    assert all(0 <= tick.place <= 100 for tick in axis.ticks)
    assert room(axis) >= 0
    for tick in axis.ticks:
        assert axis.at(float(tick.text.replace(",", ""))) == pytest.approx(tick.place, abs=0.01)


def room(axis: Axis) -> float:
    """The least distance of two texts below the plot of a phone, in pixels."""
    centres = [tick.place / 100 * NARROWEST_PLOT for tick in axis.ticks]
    halves = [len(tick.text) * LETTER / 2 for tick in axis.ticks]
    return min(
        (right - left - before - after)
        for left, right, before, after in zip(
            centres, centres[1:], halves, halves[1:], strict=False
        )
    )


@pytest.mark.parametrize("power", range(-4, 9))
@pytest.mark.parametrize("factor", [1.0, 2.3, 7.7])
def test_texts_below_a_plot_never_touch(power: int, factor: float) -> None:
    axis = linear_axis("step", 0.0, factor * 10.0**power)
    assert len(axis.ticks) >= 2 and room(axis) >= 0


def test_numbers_have_the_decimals_that_they_need() -> None:
    assert number_texts([0.0, 0.25, 0.5]) == ["0.00", "0.25", "0.50"]
    assert number_texts([0.0, 5e-8]) == ["0", "5e-08"]


def test_names_stand_in_the_middle_of_their_part() -> None:
    axis = name_axis("class", ["a", "b", "c", "d"])
    assert [tick.place for tick in axis.ticks] == [12.5, 37.5, 62.5, 87.5]
    assert axis.at(2) == 62.5


def test_a_thinned_line_keeps_the_ends_of_its_range() -> None:
    values = np.random.default_rng(0).normal(size=50_000)
    x, y = thinned(np.arange(50_000.0), values)
    assert len(x) <= MOST_DRAWN and (np.diff(x) > 0).all()
    assert y.max() == values.max() and y.min() == values.min()
    np.testing.assert_array_equal(values[x.astype(int)], y)


def test_the_first_and_the_last_point_of_a_line_say_their_numbers() -> None:
    assert pointed(3) == [0, 1, 2]
    chosen = pointed(10_000)
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 9999, MOST_POINTED)


def test_losses_of_pretraining_stand_beside_trivial_predictors() -> None:
    steps = [{"step": 1, "train_loss": 0.9}, {"step": 2, "train_loss": 0.5}]
    chart = loss_chart([*steps, {"step": 2, "validation_loss": 0.4}], PREDICTORS)
    assert [key.text for key in chart.keys] == [
        *("training", "held out"),
        *("corpus mean, 0.800", "interpolation, 0.300", "linear, 0.200"),
    ]
    assert [point.text for point in chart.points] == [
        *("training\nstep 1: 0.900", "training\nstep 2: 0.500", "held out\nstep 2: 0.400")
    ]
    lines = {line.style: line.path for line in chart.lines}
    for style, value in (("dotted soft", 0.8), ("dashed soft", 0.3), ("mixed soft", 0.2)):
        height = int(lines[style].split()[1])
        assert lines[style] == f"M0 {height} 1000 {height}"
        assert height == pytest.approx(1000 - 10 * chart.y.at(value), abs=1)


def test_the_curve_of_training_is_smooth_before_the_measured_one() -> None:
    generator = np.random.default_rng(1)
    rows = [
        {"step": step, "train_loss": 1 / step + float(generator.normal(0, 0.1))}
        for step in range(1, 201)
    ]
    chart = curve_chart(rows, {"train_loss": "training"}, "loss", smooth="train_loss")
    assert [line.style for line in chart.lines] == ["raw accent", "accent"]
    window = smoothing_window(200)
    assert [key.text for key in chart.keys] == [
        *("training, as measured", f"training, mean of {window} measurements")
    ]
    values = np.array([row["train_loss"] for row in rows])
    means = smoothed(values, window)
    for place in (0, 3, 100, 199):
        around = values[max(0, place - window // 2) : place + window // 2 + 1]
        assert means[place] == pytest.approx(around.mean())
    few = curve_chart(rows[:5], {"train_loss": "training"}, "loss", smooth="train_loss")
    assert [line.style for line in few.lines] == ["accent"]
    # One line needs no legend.
    assert few.keys == ()
