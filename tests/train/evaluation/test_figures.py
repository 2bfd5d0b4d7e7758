import base64
import io
from collections.abc import Callable
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from aalbert.train.downstream.error_rates import TARGET_PRIORS, ErrorRates, error_rates, probit
from aalbert.train.downstream.likelihood_ratios import bayes_threshold, rates_at
from aalbert.train.evaluation.embedding_figure import embedding_figure
from aalbert.train.evaluation.embedding_planes import EmbeddingPlanes
from aalbert.train.evaluation.figures import (
    DetCurve,
    Example,
    confusion_figure,
    det_figure,
    examples_figure,
    scatter_figure,
)
from aalbert.train.evaluation.probe_figure import probe_figure
from aalbert.train.evaluation.probes import LayerProbe
from aalbert.train.report.figures import WIDTH, curve_figure, loss_figure, to_data_uri
from tests.confusions import confusion_of

NAME = r"$\bad$"
RATES = error_rates(np.arange(6.0), np.arange(6) % 2 == 1)


def planes(*labels: str) -> EmbeddingPlanes:
    return EmbeddingPlanes(
        labels=labels,
        principal=np.eye(2),
        shares=(0.6, 0.3),
        neighbours=np.eye(2),
        all_points=2,
        all_labels=2,
    )


FIGURES: dict[str, Callable[[], Figure]] = {
    "confusion": lambda: confusion_figure(confusion_of(np.eye(2)), [NAME, "b"], np.arange(2)),
    "det": lambda: det_figure([DetCurve(name=NAME, rates=RATES)]),
    "probe": lambda: probe_figure({NAME: [LayerProbe(state=0, value=0.5)]}, NAME, {NAME: 0.1}),
    "embeddings": lambda: embedding_figure(planes(NAME, "b")),
    "scatter": lambda: scatter_figure(np.arange(3.0), np.ones(3), NAME),
    "examples": lambda: examples_figure([Example(NAME, np.eye(8, dtype=np.float16), True)], 10),
    "curve": lambda: curve_figure([{"step": 1, "loss": 2.0}], {"loss": NAME}, NAME),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_a_name_that_looks_like_mathematics_is_drawn(figure: str) -> None:
    kind, data = to_data_uri(FIGURES[figure]()).split(",")
    assert kind == "data:image/png;base64"
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(data)))
    assert picture.shape[1] == 150 * WIDTH


def test_losses_of_pretraining_stand_beside_trivial_predictors() -> None:
    predictors = {"linear": 0.2, "interpolation": 0.3, "utterance_mean": 0.7, "corpus_mean": 0.8}
    steps = [{"step": 1, "train_loss": 0.9}, {"step": 2, "train_loss": 0.5}]
    (axes,) = loss_figure([*steps, {"step": 2, "validation_loss": 0.4}], predictors).axes
    drawn = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in axes.lines[:2]}
    assert drawn == {"training": [0.9, 0.5], "held out": [0.4]}
    levels = [np.asarray(line.get_ydata()).tolist() for line in axes.lines[2:]]
    assert levels == [[0.8, 0.8], [0.3, 0.3], [0.2, 0.2]]
    assert [text.get_text() for text in axes.texts] == ["corpus mean", "interpolation", "linear"]


@pytest.mark.parametrize(
    "figure",
    [
        det_figure([DetCurve(name="_a", rates=RATES)]),
        embedding_figure(planes("_a", "_a")),
        probe_figure(
            {name: [LayerProbe(state=0, value=0.5)] for name in ("_a", "b")}, "accuracy", {}
        ),
    ],
    ids=["det", "embeddings", "probes"],
)
def test_a_name_that_begins_with_an_underscore_is_in_the_legend(figure: Figure) -> None:
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    assert next(text.get_text() for each in legends if each for text in each.get_texts()) == "_a"


def test_operating_points_are_marked_on_the_curve_the_actual_ones_filled() -> None:
    scores, same = (
        np.array([-9.0, -1.0, 1.0, 2.0, 9.0]),
        np.array([False, False, True, False, True]),
    )
    rates = error_rates(scores, same)
    actual = {prior: rates_at(scores, same, bayes_threshold(prior)) for prior in TARGET_PRIORS}
    figure = det_figure([DetCurve(name="run", rates=rates, actual=actual)])
    (axes,), (legend,) = figure.axes, figure.legends
    marks = [line for line in axes.lines if line.get_marker() in ("o", "s")]
    assert [mark.get_fillstyle() for mark in marks] == ["none", "full"] * 2
    low = float(probit(np.array([0.0001]))[0])
    for mark in marks:
        # At 9 alone: no false alarm, drawn at the end of the axis, and half of the targets missed.
        assert np.asarray(mark.get_xdata()) == pytest.approx([low])
        assert np.asarray(mark.get_ydata()) == pytest.approx([0], abs=1e-9)
    assert [text.get_text() for text in legend.get_texts()] == [
        *("run", "minDCF at 0.01", "minDCF at 0.05", "actDCF at 0.01", "actDCF at 0.05")
    ]


def test_predicted_numbers_stand_on_equal_axes_with_the_line_where_they_are_equal() -> None:
    (axes,) = scatter_figure(np.array([-10.0, 4.0]), np.array([1.0, 2.0]), "age").axes
    assert axes.get_aspect() == 1.0 and axes.get_xlim() == axes.get_ylim()
    assert axes.get_xticks().tolist() == axes.get_yticks().tolist()
    [line] = axes.lines
    assert np.asarray(line.get_xdata()).tolist() == np.asarray(line.get_ydata()).tolist()
    assert np.asarray(line.get_xdata()).tolist() == list(axes.get_xlim())
    assert axes.get_xlim()[0] < -10 and axes.get_xlim()[1] > 4


def test_phones_without_a_counterpart_are_no_class_of_the_confusion() -> None:
    pairs = confusion_of([[2, 1, 0], [0, 0, 1], [1, 0, 0]])
    confusion = replace(pairs, deleted=np.array([1, 0, 3]), inserted=np.array([9, 0, 0]))
    axes, _ = confusion_figure(confusion, ["a", "b", "c"], np.array([0, 1]), "phone").axes
    drawn = np.asarray(axes.images[0].get_array())
    # Of four items of `a` one was deleted; `b` was taken for `c`, which is not shown.
    np.testing.assert_allclose(drawn, [[0.5, 0.25, 0.0], [0.0, 0.0, 1.0]])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "all others"]


def test_nothing_overlaps_in_a_det_figure() -> None:
    scores = np.array([-9.0, -1.0, 1.0, 2.0])
    rates = error_rates(scores, np.array([False, False, True, True]))
    # All are missed at the actual thresholds, so that the axes have every tick.
    nothing = ErrorRates(np.array([1.0]), np.array([0.0]))
    curve = DetCurve(name="r" * 200, rates=rates, actual=dict.fromkeys(TARGET_PRIORS, nothing))
    figure = det_figure([curve] * 7)
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    for labels, side in ((axes.get_xticklabels(), "x"), (axes.get_yticklabels(), "y")):
        places = [label.get_window_extent() for label in labels]
        ends, starts = (
            [getattr(place, f"{side}{number}") for place in places] for number in (1, 0)
        )
        assert len(places) == 14
        assert all(end < start for end, start in zip(ends[:-1], starts[1:], strict=True))
    box = legend.get_window_extent()
    assert box.y1 <= axes.xaxis.label.get_window_extent().y0
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0


@pytest.mark.parametrize("separation", [5.76, 4.65, 1.68], ids=["0.2 %", "1 %", "20 %"])
def test_operating_points_lie_on_the_curve_within_the_axes(separation: float) -> None:
    same = np.arange(40_000) % 2 == 0
    scores = np.random.default_rng(0).normal(np.where(same, separation, 0.0), 1.0)
    # The ratio of two normal distributions, which is calibrated.
    scores = separation * (scores - separation / 2)
    rates = error_rates(scores, same)
    actual = {prior: rates_at(scores, same, bayes_threshold(prior)) for prior in TARGET_PRIORS}
    (axes,) = det_figure([DetCurve(name="run", rates=rates, actual=actual)]).axes
    [curve] = [line for line in axes.lines if len(np.asarray(line.get_xdata())) > 20]
    drawn = np.stack([np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())])
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for mark in (line for line in axes.lines if line.get_marker() in ("o", "s")):
        place = np.array([np.asarray(mark.get_xdata()), np.asarray(mark.get_ydata())])
        assert left <= place[0, 0] <= right and low <= place[1, 0] <= high
        assert np.abs(drawn - place).max(axis=0).min() < 1e-6


def test_probes_of_runs_stand_beside_each_other_with_their_intervals() -> None:
    def probe(state: int, value: float, low: float, high: float) -> LayerProbe:
        return LayerProbe(state=state, value=value, interval_95=(low, high))

    runs = {
        "pretrained": [probe(0, 0.5, 0.4, 0.6), probe(1, 0.7, 0.6, 0.75)],
        "features": [probe(0, 0.3, 0.2, 0.4)],
    }
    figure = probe_figure(runs, "frame accuracy", {"guessing": 0.1})
    (axes,) = figure.axes
    drawn = [np.asarray(each[0].get_ydata()) for each in axes.containers]
    np.testing.assert_allclose(drawn[0], [50, 70])
    np.testing.assert_allclose(drawn[1], [30])
    bars = [each[2][0].get_segments() for each in axes.containers]
    np.testing.assert_allclose([each[:, 1] for each in bars[0]], [[40, 60], [60, 75]])
    np.testing.assert_allclose([each[:, 1] for each in bars[1]], [[20, 40]])
    # Lines across: plain features, and guessing. Marks of two runs are not at one place.
    lines = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axes.lines]
    across = [values[0] for places, values in lines if places.tolist() == [0, 1]]
    assert across == [30, 10]
    places = [np.asarray(each[0].get_xdata())[0] for each in axes.containers]
    assert places[0] < 0 < places[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(runs)
