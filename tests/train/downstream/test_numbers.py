import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aalbert.errors import ConfigError, InputError
from aalbert.models import HeadConfig
from aalbert.models.downstream_head import DownstreamHead, NumberLayer
from aalbert.shards import Dataset
from aalbert.train.downstream.config import LabelConfig, RegressionConfig
from aalbert.train.downstream.numbers import NumberLabels, Numbers, as_number, find_numbers, ranks
from aalbert.train.downstream.run import start_downstream
from aalbert.train.evaluation.evaluate import evaluate_runs, measure
from aalbert.train.evaluation.open_run import on_part, open_run
from aalbert.train.run_folder import RunFolder
from tests.spoken import REGRESSION


def numbers(true: list[float], predicted: list[float], sentiment: bool = False) -> Numbers:
    rows = np.arange(len(true))
    return Numbers(
        rows=rows, true=np.array(true), predicted=np.array(predicted), sentiment=sentiment
    )


def test_the_metrics_of_numbers_are_those_of_their_definitions() -> None:
    generator = np.random.default_rng(2)
    true = generator.normal(3, 2, 50).round(1)
    predicted = (0.5 * true + generator.normal(0, 1, 50)).round(1)
    outcome = Numbers(rows=np.arange(50), true=true, predicted=predicted)
    found = outcome.further()
    assert outcome.value == pytest.approx(sum(abs(true - predicted)) / 50)
    assert found["RMSE"] == pytest.approx(math.sqrt(sum((true - predicted) ** 2) / 50))
    assert found["Pearson"] == pytest.approx(np.corrcoef(true, predicted)[0, 1])
    # A rank is the number of smaller items, and half of the number of equal ones, and a half.
    places = [
        np.array([sum(side < each) + (sum(side == each) + 1) / 2 for each in side])
        for side in (true, predicted)
    ]
    assert ranks(true).tolist() == places[0].tolist()
    assert found["Spearman"] == pytest.approx(np.corrcoef(places[0], places[1])[0, 1])
    slope, offset = np.cov(true, predicted, bias=True)[0, 1], true.mean() - predicted.mean()
    assert found["CCC"] == pytest.approx(2 * slope / (true.var() + predicted.var() + offset**2))
    residual, total = sum((true - predicted) ** 2), sum((true - true.mean()) ** 2)
    assert found["R2"] == pytest.approx(1 - residual / total)


def test_numbers_that_do_not_vary_have_no_correlation() -> None:
    found = numbers([1, 2, 3], [2, 2, 2]).further()
    assert (found["Pearson"], found["Spearman"], found["CCC"]) == (0, 0, 0)
    assert found["R2"] == pytest.approx(0)
    assert numbers([2, 2], [2, 2]).further()["CCC"] == 1


def test_numbers_that_are_all_the_same_have_no_variance_whatever_rounding_gives_them() -> None:
    true = [0.1] * 7
    assert np.std(true) > 0
    found = numbers(true, [0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1]).further()
    assert [found[name] for name in ("Pearson", "Spearman", "CCC", "R2")] == [0, 0, 0, 0]
    assert numbers(true, [0.2] * 7).further()["CCC"] == 0
    assert numbers(true, true).further()["CCC"] == 1


def test_sentiment_is_counted_by_two_and_by_seven_classes() -> None:
    outcome = numbers([-3, -0.4, 0, 1.6, 3], [-3.9, 0.2, -0.1, 2.4, 1.2], sentiment=True)
    found = outcome.further()
    # -3, 0, 0, 2, 3 beside -3, 0, 0, 2, 1.
    assert found["7-class accuracy"] == 0.8
    # Negative or not: right but for the second and the third. Of the two negative ones and of the
    # two called so one is right, of the three others and of the three called so two.
    assert found["accuracy negative/non-negative"] == 0.6
    assert found["F1 negative/non-negative"] == pytest.approx(2 / 5 * 1 / 2 + 3 / 5 * 2 / 3)
    # Without the third: of two negative ones one is called so, of two positive ones both.
    assert found["accuracy negative/positive"] == 0.75
    assert found["F1 negative/positive"] == pytest.approx(1 / 2 * 2 / 3 + 1 / 2 * 4 / 5)
    assert numbers([0.0], [0.0], sentiment=True).further()["F1 negative/positive"] == 0
    assert "7-class accuracy" not in numbers([1.0], [1.0]).further()


@pytest.mark.parametrize(
    ("text", "number"),
    [("4.5", 4.5), (" -3 ", -3.0), ("1e2", 100.0), ("1_0", None), ("nan", None), ("high", None)],
)
def test_a_number_is_finite_and_without_underscores(text: str, number: float | None) -> None:
    assert as_number(text) == number


def test_a_value_that_is_no_number_is_named_with_its_key(
    spoken_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset(spoken_data)
    values: list[str | None] = ["1.5", "", None, *["2.5"] * (len(dataset) - 3)]
    monkeypatch.setattr(Dataset, "column", lambda self, name: values)
    found = find_numbers(dataset, "level", RegressionConfig())
    assert np.isnan(found).tolist() == [False, True, True, *[False] * (len(dataset) - 3)]
    values[1] = "loud"
    message = rf"the level of '{dataset.key(1)}' is 'loud': expected a number such as 4\.5, or noth"
    with pytest.raises(InputError, match=message):
        find_numbers(dataset, "level", RegressionConfig())
    values[1] = "3.1"
    with pytest.raises(InputError, match=r"is '3\.1': expected a number from -3 to 3"):
        find_numbers(dataset, "level", RegressionConfig(sentiment=True))
    values[:] = ["", " ", None] * (len(dataset) // 3)
    with pytest.raises(InputError, match="no utterance has a level: name another column"):
        find_numbers(dataset, "level", RegressionConfig())


@pytest.mark.parametrize(("loss", "expected"), [("l1", [1.0, 0.5]), ("mse", [1.0, 0.25])])
def test_the_loss_is_of_standardised_numbers(loss: str, expected: list[float]) -> None:
    config = RegressionConfig(loss=loss)  # type: ignore[arg-type]
    labels = NumberLabels(np.array([10.0, 14.0, 99.0]), np.array([0, 1]), config)
    assert (labels.mean, labels.median, labels.deviation) == (12, 12, 2)
    losses = labels.losses(torch.tensor([0, 1]), torch.tensor([[12.0], [13.0]]))
    assert losses.tolist() == pytest.approx(expected)


def test_large_numbers_keep_their_differences(tmp_path: Path) -> None:
    times = 1.7e9 + np.array([-10.0, 10.0, 5.0])
    labels = NumberLabels(times, np.array([0, 1]), RegressionConfig())
    head = DownstreamHead(1, 4, 0, "last", HeadConfig(), "number")
    head.scale_numbers(labels.mean, labels.deviation)
    layer = head.classifier
    assert isinstance(layer, NumberLayer)
    with torch.no_grad():
        layer.linear.weight.zero_()
        layer.linear.bias.fill_(0.25)
    scores = layer(torch.zeros(3, 4))
    assert scores.squeeze(1).tolist() == [1.7e9 + 2.5] * 3
    losses = labels.losses(torch.arange(3), scores)
    assert losses.tolist() == pytest.approx([1.25, 0.75, 0.25], abs=1e-6)
    # Above the first number and below the others; the layer is standardised.
    [slope] = torch.autograd.grad(losses.sum(), layer.linear.bias)
    assert slope.item() == pytest.approx(-1)
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    assert load_file(tmp_path / "head.safetensors")["classifier.mean"].item() == 1.7e9


def test_an_integer_column_of_the_index_is_predicted_and_compared_with_no_other(
    regression_run: Path, spoken_data: Path, tmp_path: Path
) -> None:
    dataset = Dataset(spoken_data)
    samples = dataset.table.column("samples").to_pylist()
    assert dataset.column("samples") == [str(each) for each in samples]
    assert find_numbers(dataset, "samples", RegressionConfig()).tolist() == samples
    config = replace(REGRESSION, labels=LabelConfig(column="samples"), epochs=1)
    start_downstream(config, spoken_data, "logmel", tmp_path / "run")
    message = "run predicts 'samples' and .*regression 'level': evaluate them one by one"
    with pytest.raises(ConfigError, match=message):
        evaluate_runs([regression_run, tmp_path / "run"])


def test_a_level_is_predicted_better_than_by_its_median(
    regression_run: Path, spoken_data: Path
) -> None:
    measured = measure(open_run(RunFolder(regression_run)))
    outcome = measured.outcome
    assert isinstance(outcome, Numbers)
    dataset = Dataset(spoken_data)
    levels = np.array([float(each or "nan") for each in dataset.column("level")])
    assert outcome.true.tolist() == levels[outcome.rows].tolist()
    median = np.median(levels[measured.rows["train"]])
    baseline = np.abs(levels[outcome.rows] - median).mean()
    assert measured.baselines["training median"] == pytest.approx(baseline, abs=1e-6)
    assert outcome.value < 0.85 * baseline
    rows = [row for row in RunFolder(regression_run).read_metrics() if "dev_mae" in row]
    dev = measure(on_part(open_run(RunFolder(regression_run)), "dev")).outcome
    assert dev.value == pytest.approx(min(row["dev_mae"] for row in rows), abs=1e-3)


def test_a_regression_without_anything_to_learn_is_refused(
    spoken_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The deviation of so many is not 0, for rounding.
    monkeypatch.setattr(Dataset, "column", lambda self, name: ["0.1"] * len(self))
    with pytest.raises(InputError, match="the level of all .* utterances to train on is 0.1: ther"):
        start_downstream(REGRESSION, spoken_data, "logmel", tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": LabelConfig()}, "labels.column is speaker, which is no number: name a column"),
        *(
            ({"labels": LabelConfig(column="level", **other)}, "regress takes labels.column alone")
            for other in ({"least_utterances": 2}, {"drop_stress": True}, {"label_shift_ms": 5.0})
        ),
        ({"task": "classify"}, "regression is for regress, the task is classify"),
        ({"head": replace(REGRESSION.head, pooling="none")}, "regress is of whole utterances"),
        (
            {"head": replace(REGRESSION.head, classifier="cosine")},
            "head.classifier cosine is for classes: regress takes linear",
        ),
    ],
)
def test_settings_that_do_not_fit_a_regression_are_refused(
    changes: dict[str, object], message: str
) -> None:
    config = replace(REGRESSION, regression=RegressionConfig(loss="mse"))
    with pytest.raises(ConfigError, match=message):
        replace(config, **changes)  # type: ignore[arg-type]
