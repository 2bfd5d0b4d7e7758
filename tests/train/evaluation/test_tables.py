import csv
import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.common.text import markdown
from aalbert.train.downstream.left_out import LeftOut
from aalbert.train.evaluation.comparison import Comparison
from aalbert.train.evaluation.evaluate import Evaluation, compare_evaluations
from aalbert.train.evaluation.tables import (
    comparison_rows,
    comparison_title,
    markdown_tables,
    p_value,
    predictions_csv,
    result_csv,
    run_names,
    setting_rows,
    text_tables,
)


def test_markdown_cells_hold_no_markup() -> None:
    assert markdown("a|b\n<script>") == "a\\|b &lt;script&gt;"


def test_small_p_values_are_not_called_zero() -> None:
    assert p_value(0.0004) == "< 0.001" and p_value(0.0321) == "0.032"


def test_settings_that_nothing_was_trained_with_are_not_stated(
    evaluations: list[Evaluation],
) -> None:
    trained = evaluations[0].result
    cosine = replace(trained, run="runs/cosine", head_parameters=0, layers="mean")
    rows = {row[0]: row for row in setting_rows([trained, cosine])}
    stated = ["frozen", "mix of all layers", trained.head, "0.03", "3", "0"]
    assert rows["speaker"][1:] == stated
    assert rows["cosine"][1:] == ["frozen", "mean of all layers", trained.head, "", "", "0"]


def test_tables_name_every_run_and_the_difference_to_the_first(
    evaluations: list[Evaluation],
) -> None:
    results = [evaluation.result for evaluation in evaluations]
    comparisons = compare_evaluations(evaluations)
    rows = list(csv.DictReader(io.StringIO(result_csv(results, comparisons))))
    assert [row["run"] for row in rows] == [result.run for result in results]
    assert [float(row["value"]) for row in rows] == [result.metric.value for result in results]
    assert rows[0]["difference"] == ""
    assert float(rows[1]["difference"]) == comparisons[0].difference
    assert "Points of difference to speaker" in markdown_tables(results, comparisons)
    hostile = [replace(result, run="=HYPERLINK(1)") for result in results]
    assert '\n"\'=HYPERLINK(1)",' in result_csv(hostile, [])
    fixed = result_csv([replace(results[0], head_parameters=0)], [])
    (row,) = csv.DictReader(io.StringIO(fixed))
    assert (row["learning_rate"], row["epochs"]) == ("", "") and rows[0]["epochs"] == "3"


def test_tables_say_what_of_the_split_was_not_tested(evaluations: list[Evaluation]) -> None:
    result = evaluations[0].result
    assert "left out" not in text_tables([result], [])
    left_out = LeftOut(split="<b>", utterances=1_240, reasons={"no text": 0, "no class": 3})
    some = [replace(result, left_out=left_out)]
    text = (
        "3 of the 1,240 utterances of the split '<b>' are left out (no class: 3): accuracy is that "
        "of the others"
    )
    assert text_tables(some, []).endswith(f"\n\n{text}")
    assert markdown(text) in markdown_tables(some, []) and "<b>" not in markdown(text)


def test_runs_of_equal_names_are_told_apart_in_the_same_way_in_all_tables() -> None:
    runs = ["/a/one/speaker", "/a/two/speaker", "/b/two/other"]
    assert list(run_names(runs).values()) == ["one/speaker", "two/speaker", "two/other"]
    assert list(run_names(runs[1:]).values()) == ["speaker", "other"]
    assert run_names(["x", "a/x"]) == {"x": "x", "a/x": "a/x"}
    comparisons = [
        Comparison(
            run=run,
            reference=runs[0],
            share=True,
            difference=0.1,
            interval_95=(0.0, 0.2),
            bootstrap_p=0.5,
            mcnemar_p=None,
        )
        for run in runs[1:]
    ]
    assert [row[0] for row in comparison_rows(comparisons)] == ["run", "two/speaker", "two/other"]
    assert "Points of difference to one/speaker, paired" in comparison_title(comparisons)


def test_predictions_name_the_classes_of_every_utterance(evaluations: list[Evaluation]) -> None:
    evaluation = evaluations[0]
    path = evaluation.run.path / "predictions.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert len(rows) == evaluation.result.counts["utterances"]
    accuracy = sum(row["true"] == row["predicted"] for row in rows) / len(rows)
    assert accuracy == pytest.approx(evaluation.result.metric.value)
    for row in rows:
        assert row["key"].startswith(row["true"])
    measured = evaluation.measured
    assert path.read_text() == predictions_csv(measured.outcome, measured.dataset)


def test_two_formats_at_once_are_refused(
    evaluations: list[Evaluation], capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(evaluations[0].run.path)
    assert main(["evaluate", run, "--json", "--csv"]) == 2
    assert "--json, --markdown and --csv exclude each other" in capsys.readouterr().err


def test_the_command_prints_one_row_a_run(
    evaluations: list[Evaluation], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(evaluations[1].run.path, tmp_path / "run")
    assert main(["evaluate", str(run), "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["run"] == str(run)
    assert float(row["value"]) == evaluations[1].result.metric.value


def test_a_column_of_comparisons_that_is_empty_is_left_out() -> None:
    utterances = Comparison(
        run="runs/b",
        reference="runs/a",
        share=True,
        difference=0.1,
        interval_95=(0.05, 0.15),
        bootstrap_p=0.01,
        mcnemar_p=0.02,
    )
    frames = replace(utterances, mcnemar_p=None)
    by_time = replace(frames, accuracy_by_time=0.5, reference_by_time=0.4)
    assert comparison_rows([utterances])[0][-1] == "p (McNemar)"
    assert comparison_rows([frames])[0][-1] == "p (bootstrap)"
    assert [row[-1] for row in comparison_rows([frames, by_time])] == [
        "by time",
        "",
        "50.0 % against 40.0 %",
    ]
    assert "by time" in comparison_title([frames, by_time])
    assert "by time" not in comparison_title([frames])
