"""The costs beside results: what is counted, and where a run stands in the figure."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aalbert.models import DownstreamModel, Upstream, UpstreamConfig
from aalbert.models.any_upstream import require_own
from aalbert.train.evaluation.cost_charts import cost_charts, result_chart
from aalbert.train.evaluation.costs import cost_rows, pretraining_hours
from aalbert.train.evaluation.evaluate import Evaluation
from aalbert.train.evaluation.result import Result


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
    work, parameters, hours = cost_charts(results)
    ordered = sorted(results, key=lambda each: -each.metric.value)
    expected = {
        work: [each.macs_per_second / 1e9 for each in ordered],
        parameters: [each.upstream_parameters / 1e6 for each in ordered],
        hours: [each.pretraining_hours for each in ordered if each.pretraining_hours is not None],
    }
    for chart, costs in expected.items():
        assert len(chart.points) == len(costs)
        for number, (point, cost) in enumerate(zip(chart.points, costs, strict=True)):
            # Those of one cost stand beside each other.
            beside = costs[:number].count(cost)
            assert point.x == pytest.approx(chart.x.at(cost) + 1.8 * beside, abs=0.02)
            assert 0 < point.x < 100
    places = [(point.x, point.y) for point in work.points]
    assert len(set(places)) == len(results)
    (control,) = [point for point in hours.points if point.text.startswith("control")]
    assert [100 - place for place in (control.low or 0, control.high or 0)] == pytest.approx(
        [hours.y.at(40.0), hours.y.at(70.0)], abs=0.02
    )
    assert "accuracy 50.0 % (40.0 to 70.0)" in control.text
    # One legend for all of them, with a look for every run.
    assert work.keys == parameters.keys == () and len(hours.keys) == len(results)
    assert len({(key.style, key.shape) for key in hours.keys}) == len(results)


def test_factors_of_costs_are_equal_distances(results: list[Result]) -> None:
    axis = cost_charts(results)[0].x
    known = min(each.macs_per_second / 1e9 for each in results if each.macs_per_second)
    start = 10.0 ** np.floor(np.log10(known))
    assert axis.at(2 * start) - axis.at(start) == pytest.approx(
        axis.at(4 * start) - axis.at(2 * start), abs=0.02
    )
    assert axis.ticks[0].text == "0" and axis.at(0.0) == axis.ticks[0].place > 0


def test_a_metric_that_is_no_share_is_drawn_as_it_is(results: list[Result]) -> None:
    metric = replace(results[0].metric, share=False, value=0.5, interval_95=(0.4, 0.7))
    (work, *_) = cost_charts([replace(each, metric=metric) for each in results])
    assert [100 - point.y for point in work.points] == pytest.approx([work.y.at(0.5)] * 4, abs=0.02)
    assert work.y.label == metric.name


def test_the_best_run_is_first_beside_the_baselines(results: list[Result]) -> None:
    chart = result_chart(results)
    heights = [point.y for point in chart.points]
    assert heights == sorted(heights) and len(heights) == len(results)
    names = [key.text for key in chart.keys]
    baselines = results[0].metric.baselines
    assert len(names) == len(results) + len(baselines)
    assert [name.partition(",")[0] for name in names[len(results) :]] == list(baselines)


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
    for chart in cost_charts(twice):
        assert [0 < point.x < 100 for point in chart.points] == [True, True]
