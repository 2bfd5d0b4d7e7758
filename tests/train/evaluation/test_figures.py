from dataclasses import replace

import numpy as np
import pytest

from aalbert.train.downstream.error_rates import TARGET_PRIORS, ErrorRates, error_rates, probit
from aalbert.train.downstream.likelihood_ratios import bayes_threshold, rates_at
from aalbert.train.evaluation.det_chart import DetCurve, det_chart
from aalbert.train.evaluation.embedding_charts import embedding_charts
from aalbert.train.evaluation.embedding_planes import EmbeddingPlanes
from aalbert.train.evaluation.figures import (
    MOST_POINTS,
    confusion_chart,
    drawn_places,
    scatter_chart,
    short_name,
)
from aalbert.train.evaluation.probe_chart import probe_chart
from aalbert.train.evaluation.probes import LayerProbe
from aalbert.train.report.charts import LETTER, NARROWEST_PLOT, Chart, Point
from tests.confusions import confusion_of


def test_probes_of_runs_stand_beside_each_other_with_their_intervals() -> None:
    def probe(state: int, value: float, low: float, high: float) -> LayerProbe:
        return LayerProbe(state=state, value=value, interval_95=(low, high))

    runs = {
        "_pretrained": [probe(0, 0.5, 0.4, 0.6), probe(1, 0.7, 0.6, 0.75)],
        "features": [probe(0, 0.3, 0.2, 0.4)],
    }
    equal = {"guessing": 0.25, "most frequent class": 0.25}
    chart = probe_chart(runs, "frame accuracy", equal)
    assert [point.text for point in chart.points] == [
        "_pretrained, input: 50.0 %, 95 % interval 40.0 to 60.0",
        "_pretrained, layer 1: 70.0 %, 95 % interval 60.0 to 75.0",
        "features, features: 30.0 %, 95 % interval 20.0 to 40.0",
    ]
    first, _, features = chart.points
    assert 100 - first.y == pytest.approx(chart.y.at(50.0), abs=0.02)
    assert first.low is not None and 100 - first.low == pytest.approx(chart.y.at(40.0), abs=0.02)
    # Marks of two runs are not at one place, and have looks of their own.
    assert first.x < chart.x.at(0) < features.x
    assert (first.style, first.shape) != (features.style, features.shape)
    # Lines across: two predictions that are equal, whose names only the legend has, and features.
    heights = [float(line.path.split()[1]) for line in chart.lines]
    levels = [1000 - 10 * chart.y.at(value) for value in (25.0, 25.0, 30.0)]
    assert heights == pytest.approx(levels, abs=1)
    assert [key.text for key in chart.keys] == [
        *("_pretrained", "features", "guessing, 25.0 %", "most frequent class, 25.0 %")
    ]
    assert len({key.style for key in chart.keys}) == 4


def test_a_probe_without_an_interval_has_no_bar() -> None:
    [point] = probe_chart({"run": [LayerProbe(state=0, value=0.5)]}, "accuracy", {}).points
    assert (point.low, point.high, point.text) == (None, None, "run, features: 50.0 %")


def test_predicted_numbers_stand_on_equal_axes_with_the_line_where_they_are_equal() -> None:
    chart = scatter_chart(np.array([-10.0, 4.0]), np.array([1.0, 2.0]), "age")
    assert chart.x.at(3.0) == chart.y.at(3.0)
    assert [line.path for line in chart.lines] == ["M0 1000 1000 0"]
    assert chart.points[0].text == "true -10.000, predicted 1.000"
    assert (chart.points[0].x, 100 - chart.points[0].y) == pytest.approx(
        (chart.x.at(-10.0), chart.y.at(1.0))
    )
    assert (chart.x.label, chart.y.label) == ("age, true", "age, predicted")


def test_a_matrix_says_who_was_taken_for_whom_and_leaves_out_the_deleted() -> None:
    pairs = confusion_of([[2, 1, 0], [0, 0, 1], [1, 0, 0]])
    confusion = replace(pairs, deleted=np.array([1, 0, 3]), inserted=np.array([9, 0, 0]))
    chart = confusion_chart(confusion, ["a", "b", "c"], np.array([0, 1]), "phone")
    # Of four items of `a` one was deleted; `b` was taken for `c`, which is not shown.
    assert [cell.strength for cell in chart.cells] == [0.5, 0.25, 0.0, 0.0, 0.0, 1.0]
    assert chart.cells[1].text == "a predicted as b: 25.0 %"
    assert chart.cells[5].text == "b predicted as all others: 100.0 %"
    assert [tick.text for tick in chart.x.ticks] == ["a", "b", "all others"]
    # The first row is above: ticks are counted from below.
    assert [tick.text for tick in chart.y.ticks] == ["b", "a"]
    first = chart.cells[0]
    assert first.y < 100 - chart.y.ticks[1].place < first.y + first.height
    assert chart.least_width >= 15 * 3


def test_long_names_are_short_on_axes_and_whole_in_cells() -> None:
    name = "a speaker whose name is long"
    assert short_name(name) == "a speake… long" and short_name("short") == "short"
    chart = confusion_chart(confusion_of([[1, 0], [0, 1]]), [name, "\x1b"], np.arange(2))
    assert chart.cells[0].text == f"{name} predicted as {name}: 100.0 %"
    assert chart.x.ticks[1].text == "\\x1b"


def test_embeddings_say_their_labels_on_both_planes() -> None:
    points = np.random.default_rng(0).normal(size=(20, 2))
    labels = tuple(f"s{number % 10}" for number in range(20))
    charts = embedding_charts(
        EmbeddingPlanes(
            labels=labels,
            principal=points,
            shares=(0.6, 0.3),
            neighbours=points[::-1],
            all_points=20,
            all_labels=10,
        )
    )
    assert charts[0].x.label == "first principal component, 60 % of the variance"
    for chart, drawn in zip(charts, (points, points[::-1]), strict=True):
        assert tuple(point.text for point in chart.points) == labels
        assert [point.x for point in chart.points] == pytest.approx(
            [chart.x.at(across) for across in drawn[:, 0]]
        )
        assert all(0 < point.x < 100 and 0 < point.y < 100 for point in chart.points)
        looks = {(key.style, key.shape) for key in chart.keys}
        assert len(looks) == len(chart.keys) == 10
        # No axis has a unit.
        assert chart.x.ticks == chart.y.ticks == ()


def test_so_many_points_that_they_hide_one_another_are_drawn_by_chance() -> None:
    numbers = np.random.default_rng(0).normal(size=3 * MOST_POINTS)
    assert len(scatter_chart(numbers, numbers, "age").points) == MOST_POINTS
    places = drawn_places(3 * MOST_POINTS)
    assert (np.diff(places) > 0).all() and places.max() < 3 * MOST_POINTS
    assert drawn_places(5).tolist() == [0, 1, 2, 3, 4]


def marks_of(chart: Chart) -> list[Point]:
    return [point for point in chart.points if point.shape != "ring"]


def test_operating_points_are_marked_on_the_curve_the_actual_ones_filled() -> None:
    scores, same = (
        np.array([-9.0, -1.0, 1.0, 2.0, 9.0]),
        np.array([False, False, True, False, True]),
    )
    rates = error_rates(scores, same)
    actual = {prior: rates_at(scores, same, bayes_threshold(prior)) for prior in TARGET_PRIORS}
    chart = det_chart([DetCurve(name="_run", rates=rates, actual=actual)])
    marks = marks_of(chart)
    assert [mark.style for mark in marks] == ["s0 open", "s0 filled"] * 2
    for mark in marks:
        # At 9 alone: no false alarm, drawn at the end of the axis, and half of the targets missed.
        assert mark.x == 0 and 100 - mark.y == pytest.approx(chart.y.at(0.5), abs=0.02)
        assert "false alarms 0.0 %, misses 50.0 %" in mark.text
    assert [key.text for key in chart.keys] == [
        *("_run", "minDCF at 0.01", "minDCF at 0.05", "actDCF at 0.01", "actDCF at 0.05")
    ]


def test_texts_of_a_det_chart_with_every_tick_have_room() -> None:
    scores = np.array([-9.0, -1.0, 1.0, 2.0])
    rates = error_rates(scores, np.array([False, False, True, True]))
    # All are missed at the actual thresholds, so that the axes have every tick.
    nothing = ErrorRates(np.array([1.0]), np.array([0.0]))
    curve = DetCurve(name="r" * 200, rates=rates, actual=dict.fromkeys(TARGET_PRIORS, nothing))
    chart = det_chart([curve] * 7)
    ticks = chart.x.ticks
    for left, right in zip(ticks, ticks[1:], strict=False):
        distance = (right.place - left.place) / 100 * NARROWEST_PLOT
        assert distance > (len(left.text) + len(right.text)) / 2 * LETTER
    heights = [tick.place / 100 * chart.height for tick in chart.y.ticks]
    assert len(heights) == 14 and min(np.diff(heights)) > 17


@pytest.mark.parametrize("separation", [5.76, 4.65, 1.68], ids=["0.2 %", "1 %", "20 %"])
def test_operating_points_lie_on_the_curve_within_the_axes(separation: float) -> None:
    same = np.arange(40_000) % 2 == 0
    scores = np.random.default_rng(0).normal(np.where(same, separation, 0.0), 1.0)
    # The ratio of two normal distributions, which is calibrated.
    scores = separation * (scores - separation / 2)
    rates = error_rates(scores, same)
    actual = {prior: rates_at(scores, same, bayes_threshold(prior)) for prior in TARGET_PRIORS}
    chart = det_chart([DetCurve(name="run", rates=rates, actual=actual)])
    # Straight, as those of normal scores are: from the place of a mark on it another one follows.
    for mark in marks_of(chart):
        assert 0 < mark.x < 100 and 0 < mark.y < 100
    # Where misses equal false alarms the curve crosses the diagonal.
    below = [point.x for point in chart.points if point.shape == "ring" and 100 - point.y < point.x]
    above = [point.x for point in chart.points if point.shape == "ring" and 100 - point.y > point.x]
    assert max(above) <= min(below) + 3
    error = float(rates.misses[np.abs(rates.misses - rates.false_alarms).argmin()])
    expected = chart.x.at(error)
    ends = [float(probit(np.array([tick]))[0]) for tick in (0.001, 0.5)]
    assert ends[0] < float(probit(np.array([error]))[0]) < ends[1]
    assert max(above) - 3 <= expected <= min(below) + 3
