import base64
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aalbert.cli import main
from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.models import HeadConfig
from aalbert.shards import Dataset
from aalbert.train.downstream.config import DownstreamConfig, LabelConfig, SplitConfig
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.run import start_downstream
from aalbert.train.evaluation.evaluate import Evaluation, evaluate_runs
from aalbert.train.evaluation.examples import examples_of
from aalbert.train.evaluation.report import write_reports
from aalbert.train.evaluation.tables import text_tables
from tests.html_page import HtmlPage


def test_a_result_file_names_everything_the_result_depends_on(
    evaluations: list[Evaluation],
) -> None:
    result = json.loads(evaluations[0].measured.folder.metrics.read_text())
    assert result["split"] == "test"
    assert result["counts"] == {"utterances": 8, "classes": 4}
    assert result["metric"]["baselines"] == {"guessing": 0.25, "most frequent class": 0.25}
    assert result["metric"]["resampled"] == "4 videos"
    assert result["layers"] == "weighted" and sum(result["layer_weights"]) == pytest.approx(
        1, abs=1e-5
    )
    for name in ("data_fingerprint", "learning_rate", "seed", "upstream", "upstream_parameters"):
        assert result[name] is not None
    low, high = result["metric"]["interval_95"]
    assert low <= result["metric"]["value"] <= high and low < high


def test_the_report_is_one_file_with_its_pictures_inside(evaluations: list[Evaluation]) -> None:
    text = evaluations[0].measured.folder.report.read_text()
    page = HtmlPage(text)
    assert page.open == []
    pictures = [url for url in page.references if url.startswith("data:image/png")]
    words = " ".join("".join(page.texts).split())
    assert "Shown are 8 of 8 utterances, of all 4 classes." in words
    # Of the colours of two figures, of examples, and of a reconstruction in three steps.
    outcome = evaluations[0].measured.outcome
    assert isinstance(outcome, Decisions)
    correct = outcome.correct
    examples = sum(min(2, int((correct == kind).sum())) for kind in (0, 1))
    assert len(pictures) == 2 + examples + 3
    assert all(url.startswith(("data:", "#")) for url in page.references)
    assert "url(" not in text and text.count("<script") == 1
    assert re.search(r'<td class="words" dir="auto">pretrain</td>', text)
    assert "Published figures" in text


def test_classes_that_are_always_recognised_are_counted_not_listed(
    evaluations: list[Evaluation],
) -> None:
    for evaluation in evaluations:
        classes = evaluation.result.per_class
        right = [each.name for each in classes if each.accuracy == 1]
        text = evaluation.measured.folder.report.read_text()
        least = text.partition("Least recognised")[2].partition("</table>")[0]
        assert "100.0 %" not in least
        assert [name for name in right if f">{name}<" in least] == []
        shown = f"{len(right)} of {len(classes)} classes"
        assert (shown in " ".join(text.split())) is bool(right)


def test_recordings_of_examples_are_in_a_page_on_request(
    evaluations: list[Evaluation],
    voxceleb1_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(evaluations[0].run.path, tmp_path / "run"))
    corpus = voxceleb1_data.parent / "corpus"
    assert main(["evaluate", str(run), "--audio"]) == 2
    assert (
        f"--audio plays recordings of {voxceleb1_data}, which stores features alone: name the "
        "corpus that it was prepared from with --corpus DIR" in capsys.readouterr().err
    )
    assert main(["evaluate", str(run), "--audio", "--corpus", str(tmp_path / "gone")]) == 3
    assert f"there is no corpus at {tmp_path / 'gone'}" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", str(run), "--audio", "--corpus", str(tmp_path / "empty")]) == 3
    assert "has no recording of 24 of the 24 utterances" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--audio", "--corpus", str(corpus)]) == 0
    page = HtmlPage((run / "report.html").read_text())
    recordings = [url for url in page.references if url.startswith("data:audio/flac;base64,")]
    dataset = Dataset(voxceleb1_data)
    examples = examples_of(evaluations[0], {}, lambda row, frames, settings: str(row))
    assert examples is not None
    rows = [int(panel.audio or "") for panel in examples.panels]
    assert len(recordings) == len(rows) > 1
    for row, url in zip(rows, recordings, strict=True):
        heard, rate = soundfile.read(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        [path] = corpus.rglob(dataset.column("source")[row] or "")
        spoken, _ = soundfile.read(path)
        assert rate == 16_000 and len(heard) > 8_000
        np.testing.assert_allclose(heard, spoken[: len(heard)], atol=1e-4)


def test_examples_are_the_most_certain_of_the_right_and_of_the_wrong(
    evaluations: list[Evaluation],
) -> None:
    decisions = evaluations[0].measured.outcome
    examples = examples_of(evaluations[0], {})
    assert examples is not None and isinstance(decisions, Decisions)
    assert decisions.score is not None
    for wrong in (False, True):
        scores = decisions.score[decisions.correct == (not wrong)]
        expected = [f"{100 * each:.1f} %" for each in np.sort(scores)[::-1][:2]]
        shown = [panel.facts[0] for panel in examples.panels if panel.wrong is wrong]
        assert [fact.removeprefix("score of the predicted class: ") for fact in shown] == expected
    assert all(panel.chart.picture and panel.audio is None for panel in examples.panels)


def test_the_report_escapes_what_comes_from_outside(evaluations: list[Evaluation]) -> None:
    folders = [evaluation.measured.folder for evaluation in evaluations]
    comparison = folders[0].comparison.read_text()
    for text in (comparison, *(folder.report.read_text() for folder in folders)):
        assert text.count("<script") == 1
    assert "&lt;script&gt;" in comparison


@pytest.mark.parametrize("form", ["--csv", "--json", "--markdown"])
def test_a_run_evaluated_alone_keeps_its_comparison_with_others(
    form: str, evaluations: list[Evaluation], capsys: pytest.CaptureFixture[str]
) -> None:
    run = evaluations[0].run
    names = ("comparison.html", "metrics.json", "predictions.csv")
    before = {name: (run.path / name).read_bytes() for name in names}
    # A killed evaluation left this half written.
    left = run.path / f"report.html.{'0' * 16}.partial"
    left.touch()
    assert main(["evaluate", str(run.path), form]) == 0
    assert not left.exists() and not (run.path / ".evaluate").exists()
    assert {name: (run.path / name).read_bytes() for name in names} == before
    assert "logmel" not in capsys.readouterr().out


def test_the_table_lists_the_best_first_and_the_baselines_last(
    evaluations: list[Evaluation],
) -> None:
    results = [evaluation.result for evaluation in evaluations]
    lines = text_tables(results, []).splitlines()
    header = ["run", "upstream", "accuracy", "95", "%", "interval", "top-5", "accuracy"]
    assert lines[0].split() == header
    best = max(results, key=lambda result: result.metric.value)
    assert lines[1].startswith(Path(best.run).name) and best.upstream_name in lines[1]
    assert lines[-2].split() == ["guessing", "25.0", "%"]
    assert lines[-1].split() == ["most", "frequent", "class", "25.0", "%"]


def test_what_cannot_be_evaluated_says_why(
    pretrained: Path, speaker_run: Path, librispeech_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="is a run of 'pretrain': evaluate a downstream run"):
        evaluate_runs([pretrained])
    with pytest.raises(InputError, match="is not the folder of a run"):
        evaluate_runs([tmp_path])
    with pytest.raises(IntegrityError, match="has fingerprint .* it is another dataset, or was"):
        evaluate_runs([speaker_run], data=librispeech_data)


def test_trials_and_frames_get_reports_too(
    voxceleb1_data: Path, verification: DownstreamConfig, tmp_path: Path
) -> None:
    quick = DownstreamConfig(epochs=1, prefetch=0)
    dataset = Dataset(voxceleb1_data)
    keys = [dataset.key(int(row)) for row in dataset.rows(["test"])]
    pairs = [(one, other) for one in keys for other in keys if one < other]
    lines = [f"{int(one[:7] == other[:7])} {one} {other}" for one, other in pairs]
    (tmp_path / "trials.txt").write_text("\n".join(lines))
    trials = replace(verification.trials, test=str(tmp_path / "trials.txt"))
    frames = replace(quick, task="librispeech-speaker", head=HeadConfig(pooling="none"))
    cosine = replace(verification, trials=trials)
    for name, config in (("verification", cosine), ("frames", frames)):
        start_downstream(config, voxceleb1_data, "logmel", tmp_path / name)
        evaluated = evaluate_runs([tmp_path / name])
        write_reports(evaluated, [])
    result = json.loads((tmp_path / "verification/metrics.json").read_text())
    assert result["metric"]["name"] == "equal error rate"
    assert result["metric"]["resampled"] == "4 speakers"
    assert result["counts"] == {"utterances": 8, "trials": 28, "same_speaker": 4}
    assert set(result["metric"]["further"]) == {"minDCF 0.01", "minDCF 0.05", "min Cllr"}
    # Plain features have one state, and its cosine is all that this run consists of.
    report = (tmp_path / "verification/report.html").read_text()
    assert "Misses against false alarms" in report and "none: no head was trained" in report
    result = json.loads((tmp_path / "frames/metrics.json").read_text())
    assert result["metric"]["name"] == "frame accuracy"
    assert result["counts"]["frames"] == sum(
        int(line.split(",")[1]) for line in prediction_lines(tmp_path / "frames")
    )
    page = HtmlPage((tmp_path / "frames/report.html").read_text())
    words = " ".join("".join(page.texts).split())
    assert "Where it is weak" in words
    # Of 8 utterances.
    assert "one frame of a test utterance" in words
    assert "Shown are 320 of 320 frames that were drawn, of all 4 classes." in words


def prediction_lines(run: Path) -> list[str]:
    return (run / "predictions.csv").read_text().splitlines()[1:]


def test_runs_of_different_tasks_are_not_compared(
    speaker_run: Path, voxceleb1_data: Path, tmp_path: Path
) -> None:
    config = DownstreamConfig(
        epochs=1, prefetch=0, task="classify", labels=LabelConfig(column="gender")
    )
    start_downstream(config, voxceleb1_data, "logmel", tmp_path / "run")
    with pytest.raises(ConfigError, match="is of the task 'classify' and .* of 'voxceleb1'"):
        evaluate_runs([speaker_run, tmp_path / "run"])


def test_runs_of_other_frame_rates_are_compared_by_time(
    librispeech_data: Path, alignments: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = {name: tmp_path / name for name in ("plain", "context", "stacked")}
    command = ["downstream", "librispeech-phone", "--data", str(librispeech_data)]
    common = ["--upstream=logmel", f"--set=labels.alignments={alignments}", "--set=prefetch=0"]
    readers = ["--set=splits.test=drawn", "--set=splits.draw=speakers", "--set=epochs=2"]
    for name, setting in (
        ("plain", "context=1"),
        ("context", "context=3"),
        ("stacked", "frames_stacked=3"),
    ):
        given = [*common, *readers, f"--set=baseline.{setting}", f"--out={out[name]}"]
        assert main([*command, *given]) == 0
    capsys.readouterr()
    runs = [str(folder) for folder in out.values()]
    assert main(["evaluate", *runs, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    plain, context, stacked = document["results"]
    same_rate, other_rate = document["comparisons"]
    # At one frame rate the items are the frames of the runs.
    assert plain["counts"]["frames"] == context["counts"]["frames"] > stacked["counts"]["frames"]
    assert same_rate["accuracy_by_time"] is None
    own = context["metric"]["value"] - plain["metric"]["value"]
    assert same_rate["difference"] == pytest.approx(own, abs=1e-6)
    # Frames of 10 ms are label frames; a stack of three is compared with three labels.
    by_time = other_rate["accuracy_by_time"], other_rate["reference_by_time"]
    assert by_time[1] == pytest.approx(plain["metric"]["value"], abs=0.01)
    assert by_time[0] == pytest.approx(stacked["metric"]["value"], abs=0.1)
    assert other_rate["difference"] == pytest.approx(by_time[0] - by_time[1], abs=1e-6)
    assert [result["layer_probes"][0]["state"] for result in document["results"]] == [0, 0, 0]
    assert main(["evaluate", *runs]) == 0
    text = capsys.readouterr().out
    assert "logmel, context of 3 " in text and "logmel, 3 stacked " in text
    assert "compared by time, over label frames, each with the prediction of the nearest" in text
    shown = f"{100 * by_time[0]:.1f} % against {100 * by_time[1]:.1f} %"
    assert shown in text and shown in (out["plain"] / "comparison.html").read_text()


def test_states_are_probed_for_classes_of_frames_too(
    librispeech_data: Path, alignments: Path, pretrained: Path, tmp_path: Path
) -> None:
    config = DownstreamConfig(
        task="librispeech-phone",
        epochs=1,
        prefetch=0,
        crop_seconds=0,
        head=HeadConfig(pooling="none"),
        labels=LabelConfig(alignments=str(alignments)),
        splits=SplitConfig(train="train-clean-100", dev="drawn", test="drawn", draw="speakers"),
    )
    start_downstream(config, librispeech_data, str(pretrained), tmp_path)
    evaluated = evaluate_runs([tmp_path])
    write_reports(evaluated, [])
    probes = json.loads((tmp_path / "metrics.json").read_text())["layer_probes"]
    assert [probe["state"] for probe in probes] == [0, 1, 2, 3]
    for probe in probes:
        low, high = probe["interval_95"]
        assert 0 < low <= probe["value"] <= high and probe["fitted_on"] > 100
    report = (tmp_path / "report.html").read_text()
    assert "frame accuracy of a probe on each hidden state" in report
    assert "logistic regression on single frames, standardised" in report


def test_the_dev_part_is_measured_on_request_beside_the_result(
    speaker_run: Path, voxceleb1_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(speaker_run, tmp_path / "run"))
    of_test = run / "metrics.json", run / "report.html", run / "export/README.md"
    before = [path.is_file() and path.read_bytes() for path in of_test]
    assert main(["evaluate", str(run), "--split", "dev", "--json"]) == 0
    captured = capsys.readouterr()
    assert "these are figures of the dev part, by which models were chosen" in captured.err
    [result] = json.loads(captured.out)["results"]
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(row["dev_accuracy"] for row in metrics if "dev_accuracy" in row)
    assert result["split"] == "dev" and result["layer_probes"] == []
    assert result["metric"]["value"] == pytest.approx(best, abs=1e-6)
    assert result["counts"]["utterances"] == len(Dataset(voxceleb1_data).rows(["dev"]))
    folder = run / "splits/dev"
    assert json.loads((folder / "metrics.json").read_text()) == result
    assert "These are figures of the dev split" in (folder / "report.html").read_text()
    # Neither the result nor the card is of this part.
    assert [path.is_file() and path.read_bytes() for path in of_test] == before
    command = ["evaluate", str(run), "--split", "dev", "--set", "trials.test=list.txt"]
    assert main(command) == 2
    assert "lists of trials are for the test part: leave out --split" in capsys.readouterr().err
