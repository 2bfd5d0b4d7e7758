import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

import aalbert
from aalbert.cli import main
from aalbert.errors import ConfigError
from aalbert.models import DownstreamModel
from aalbert.pipeline.audio.decode import read_audio
from aalbert.train.downstream.scoring import Trials
from aalbert.train.evaluation.evaluate import evaluate_runs, measure
from aalbert.train.evaluation.open_run import open_run
from aalbert.train.run_folder import RunFolder


@pytest.fixture(scope="module")
def corpus(voxceleb1_data: Path) -> Path:
    return voxceleb1_data.parent / "corpus" / "wav"


@pytest.fixture(scope="module")
def trial_list(verification_run: Path) -> Path:
    return verification_run.parent / "veri_test.txt"


def test_scores_are_those_of_evaluate_in_every_bit(
    verification_run: Path, trial_list: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = measure(open_run(RunFolder(verification_run))).outcome
    assert isinstance(outcome, Trials)
    command = ["compare", str(verification_run), "--trials", str(trial_list)]
    assert main([*command, "--audio", str(corpus), "--format", "csv"]) == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [float(row["score"]) for row in rows] == outcome.scores.tolist()
    assert [row["same"] == "True" for row in rows] == outcome.same.tolist()
    evaluate_runs([verification_run])
    written = (verification_run / "predictions.csv").read_text()
    scores = [float(row["score"]) for row in csv.DictReader(io.StringIO(written))]
    assert scores == outcome.scores.tolist()
    # By hand: a decision for every trial, and the errors among them.
    threshold = DownstreamModel.from_pretrained(verification_run).threshold
    assert threshold is not None
    accepted = outcome.scores >= threshold.score
    assert [row["same_speaker"] == "True" for row in rows] == accepted.tolist()
    missed = 100 * np.mean(~accepted[outcome.same])
    alarms = 100 * np.mean(accepted[~outcome.same])
    expected = f"{missed:.1f} % of one speaker missed, {alarms:.1f} % of two accepted"
    assert f"of these trials: {expected}" in printed.err


def test_normalised_and_calibrated_scores_are_those_of_evaluate_in_every_bit(
    normalised_run: Path, cohort_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = measure(open_run(RunFolder(normalised_run))).outcome
    assert isinstance(outcome, Trials) and outcome.cosines is not None
    corpus = cohort_data.parent / "corpus"
    command = ["compare", str(normalised_run), "--trials", str(corpus / "veri_test.txt")]
    assert main([*command, "--audio", str(corpus / "wav"), "--format", "csv"]) == 0
    printed = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert [float(row["score"]) for row in rows] == outcome.scores.tolist()
    assert [float(row["cosine"]) for row in rows] == outcome.cosines.tolist()
    assert "the score is the log-likelihood ratio after as-norm" in printed.err
    evaluate_runs([normalised_run])
    written = list(csv.DictReader(io.StringIO((normalised_run / "predictions.csv").read_text())))
    assert [float(row["score"]) for row in written] == outcome.scores.tolist()
    assert [float(row["cosine"]) for row in written] == outcome.cosines.tolist()
    # The stored threshold is one of the stated scores.
    threshold = DownstreamModel.from_pretrained(normalised_run).threshold
    assert threshold is not None and threshold.trials == 27
    decided = [row["same_speaker"] == "True" for row in rows]
    assert decided == (outcome.scores >= threshold.score).tolist()
    # Two recordings alone have the same score.
    _, left, right = (corpus / "veri_test.txt").read_text().splitlines()[0].split()
    files = str(corpus / "wav" / left), str(corpus / "wav" / right)
    left_wave, right_wave = (read_audio(Path(file), 16_000).wave for file in files)
    similarity = aalbert.load(normalised_run).compare(left_wave, right_wave)
    assert (similarity.score, similarity.cosine) == (outcome.scores[0], outcome.cosines[0])
    assert main(["compare", str(normalised_run), *files]) == 0
    printed = capsys.readouterr()
    assert f"score {similarity.score:.4f} (log-likelihood ratio after as-norm), " in printed.out
    assert f"cosine {similarity.cosine:.4f}\n" in printed.out


def test_two_recordings(
    verification_run: Path, trial_list: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, left, right = trial_list.read_text().splitlines()[0].split()
    files = str(corpus / left), str(corpus / right)
    assert main(["compare", str(verification_run), *files, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    [trial] = document["trials"]
    predictor = aalbert.load(verification_run)
    left_wave, right_wave = (read_audio(Path(file), 16_000).wave for file in files)
    similarity = predictor.compare(left_wave, right_wave)
    one, other = (each.double() for each in predictor.embed([left_wave, right_wave]))
    cosine = one @ other / one.norm() / other.norm()
    assert similarity.score == pytest.approx(float(cosine), abs=1e-12)
    assert (trial["score"], trial["same_speaker"]) == (similarity.score, similarity.same_speaker)
    assert similarity.threshold is not None
    assert document["threshold"]["score"] == similarity.threshold.score
    assert main(["compare", str(verification_run), *files]) == 0
    first, second = capsys.readouterr().out.splitlines()
    said = "one speaker" if similarity.same_speaker else "two speakers"
    assert first == f"{files[0]} and {files[1]}: {said}, score {similarity.score:.4f}"
    assert second.startswith(
        f"threshold {similarity.threshold.score:.4f}: of the run's 8 dev trials"
    )


def test_trials_without_labels_and_with_a_broken_recording(
    verification_run: Path,
    trial_list: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    _, left, right = trial_list.read_text().splitlines()[0].split()
    lines = [f"{corpus / left} {corpus / right}", f"bad.wav {corpus / right}"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    command = ["compare", str(verification_run), "--trials", str(tmp_path / "list.txt")]
    assert main([*command, "--format", "jsonl"]) == 0
    printed = capsys.readouterr()
    first, second = map(json.loads, printed.out.splitlines())
    assert "same" not in first and first["same_speaker"] in (True, False)
    assert (second["score"], second["same_speaker"]) == (None, None)
    assert "skipped" in printed.err and "of these trials" not in printed.err
    assert main([*command, "--max-skipped", "0"]) == 5
    (tmp_path / "list.txt").write_text(f"{lines[0]}\n1 {lines[0]}")
    assert main(command) == 3
    assert "list.txt:1 says neither 1 nor 0 for its trial" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.wav"], 2, "recordings beside RUN: 1: give two, or --trials LIST"),
        (["a.wav", "b.wav"], 3, "there is no file a.wav: give two recordings"),
        (["a.wav", "b.wav", "--trials", "x"], 2, "recordings beside RUN: 2 and a list: give two"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    verification_run: Path,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["compare", str(verification_run), *arguments]) == code
    assert message in capsys.readouterr().err


def test_a_run_that_classifies_does_not_compare(speaker_run: Path) -> None:
    wave = np.zeros(16_000, np.float32)
    with pytest.raises(
        ConfigError, match="is a run of voxceleb1 and chose no threshold for comparisons"
    ):
        aalbert.load(speaker_run).compare(wave, wave)


def test_without_dev_trials_there_is_no_decision(verification_run: Path, tmp_path: Path) -> None:
    model = DownstreamModel.from_pretrained(verification_run)
    model.threshold = None
    model.save_pretrained(tmp_path)
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    similarity = aalbert.load(tmp_path).compare(wave, wave)
    assert (similarity.same_speaker, similarity.threshold) == (None, None)
    assert similarity.score == pytest.approx(1)
