"""The costs beside results: what is counted, and where a run stands in the figure."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aalbert.models import DownstreamModel, Upstream, UpstreamConfig
from aalbert.models.any_upstream import require_own
from aalbert.train.evaluation.cost_figure import cost_figure
from aalbert.train.evaluation.costs import cost_rows, pretraining_hours
from aalbert.train.evaluation.evaluate import Evaluation
from aalbert.train.evaluation.result import Result


def error_bars(axes: Axes) -> list[ErrorbarContainer]:
    return [each for each in axes.containers if isinstance(each, ErrorbarContainer)]


@pytest.fixture
def results(evaluations: list[Evaluation]) -> list[Result]:
    """An encoder, plain features, a control without pretraining, and one of unknown origin."""
    encoder, features = (each.result for each in evaluations)
    metric = replace(encoder.metric, value=0.5, interval_95=(0.4, 0.7))
    control = replace(encoder, run="runs/control", metric=metric, pretraining_hours=0.0)
    unknown = replace(encoder, run="runs/unknown", metric=metric, pretraining_hours=None)
    return [encoder, features, control, unknown]


def test_an_evaluation_counts_what_the_upstream_computes(evaluations: list[Evaluation]) -> None:
    encoder, features = evaluations
    upstream = require_own(encoder.measured.model.upstream, "the run").cpu()
    config = upstream.config.encoder
    assert config is not None and config.chunk_frames
    frames = 10_000 // round(
        upstream.config.features["frame_shift_ms"] * upstream.config.front_end.frames_stacked
    )
    chunks = torch.arange(frames).chunk(-(-frames // config.chunk_frames))
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        # One by one, since in a batch they are padded to one length.
        for chunk in chunks:
            stored = len(chunk) * upstream.config.front_end.frames_stacked
            features_of_chunk = torch.randn(1, stored, upstream.config.front_end.feature_dims)
            upstream(features_of_chunk, torch.tensor([stored]))
    # PyTorch counts a multiplication and an addition as two.
    assert encoder.result.macs_per_second == round(counter.get_total_flops() / 2 / 10)
    assert features.result.macs_per_second == 0 and features.result.upstream_parameters == 0


def test_hours_are_those_that_the_encoder_was_pretrained_on(evaluations: list[Evaluation]) -> None:
    encoder, features = (each.measured.model for each in evaluations)
    hours = sum(encoder.upstream.config.training["speech_hours"].values())
    assert evaluations[0].result.pretraining_hours == pytest.approx(hours) and hours > 0
    assert pretraining_hours(features, None) == 0

    def trained(**facts: object) -> DownstreamModel:
        return DownstreamModel(
            encoder.upstream, ["a", "b"], "last", encoder.head.config, training=facts
        )

    assert pretraining_hours(trained(mode="fine-tuned"), 5.0) == pytest.approx(hours)
    assert pretraining_hours(trained(mode="from-scratch"), 5.0) == 0
    assert pretraining_hours(trained(mode="frozen", untrained=True), 5.0) == 0


@pytest.mark.parametrize("stated", [None, 960.0])
def test_hours_that_nobody_recorded_can_be_stated(
    stated: float | None, evaluations: list[Evaluation]
) -> None:
    model = evaluations[0].measured.model
    config = model.upstream.config
    assert isinstance(config, UpstreamConfig)
    config = replace(config, training={})
    unknown = DownstreamModel(Upstream(config), ["a", "b"], "last", model.head.config)
    assert pretraining_hours(unknown, stated) == stated


def test_a_run_stands_at_its_costs_with_its_interval(results: list[Result]) -> None:
    work, parameters, hours = cost_figure(results).axes
    expected = {
        work: [each.macs_per_second / 1e9 for each in results],
        parameters: [each.upstream_parameters / 1e6 for each in results],
        hours: [each.pretraining_hours for each in results if each.pretraining_hours is not None],
    }
    for axes, costs in expected.items():
        points = [bars.lines[0] for bars in error_bars(axes)]
        assert len(points) == len(results)
        drawn = [float(x) for point in points for x in np.asarray(point.get_xdata())]
        assert sorted(drawn) == pytest.approx(sorted(costs))
        assert axes.get_xlim()[0] < 0 and max(costs) < axes.get_xlim()[1]
    (bar,) = [
        bars.lines[2][0].get_segments()[0]
        for bars in error_bars(hours)
        if np.asarray(bars.lines[0].get_ydata()).tolist() == [50.0]
    ]
    assert bar[:, 1].tolist() == pytest.approx([40.0, 70.0])


def test_a_metric_that_is_no_share_is_drawn_as_it_is(results: list[Result]) -> None:
    metric = replace(results[0].metric, share=False, value=0.5, interval_95=(0.4, 0.7))
    (work, *_) = cost_figure([replace(each, metric=metric) for each in results]).axes
    heights = {float(y) for bars in error_bars(work) for y in np.asarray(bars.lines[0].get_ydata())}
    assert heights == {0.5} and work.get_ylabel() == metric.name


def test_the_table_says_what_is_not_known(results: list[Result]) -> None:
    header, *rows = cost_rows(results)
    assert header[2:] == [
        "work per second of audio, G multiply-accumulates",
        "parameters of the upstream, millions",
        "speech pretrained on, hours",
    ]
    cells = {row[0]: row[2:] for row in rows}
    assert [cells[name][2] for name in ("control", "unknown")] == ["0.00", "unknown"]


def test_runs_without_any_cost_are_drawn(results: list[Result]) -> None:
    features = results[1]
    twice = [features, replace(features, run="runs/again")]
    assert all(axes.get_xlim()[0] < 0 < axes.get_xlim()[1] for axes in cost_figure(twice).axes)
