"""Phones and numbers that are predicted are those that `evaluate` counts."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

import aalbert
from aalbert.cli import main
from aalbert.common.textgrid import read_textgrid
from aalbert.errors import ConfigError
from aalbert.models.ctc import decode_greedily
from aalbert.pipeline.prediction.prediction import sequence_prediction
from aalbert.shards import Dataset
from aalbert.shards.format.wave_settings import SilenceSettings
from aalbert.train.downstream.numbers import Numbers
from aalbert.train.downstream.recognition import Recognised
from aalbert.train.evaluation.evaluate import measure
from aalbert.train.evaluation.open_run import open_run
from aalbert.train.run_folder import RunFolder


def test_phones_are_those_of_the_evaluation(
    recognition_run: Path, spoken_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = measure(open_run(RunFolder(recognition_run))).outcome
    assert isinstance(outcome, Recognised)
    predicted = {}
    for per in ("utterance", "segment"):
        command = ["predict", str(recognition_run), str(spoken_data), "--per", per]
        assert main([*command, "--format", "jsonl"]) == 0
        for line in capsys.readouterr().out.splitlines():
            found = json.loads(line)
            predicted[per, found["key"]] = found
    data = Dataset(spoken_data)
    for row, expected in zip(outcome.rows, outcome.predicted, strict=True):
        key = data.key(int(row))
        [whole] = predicted["utterance", key]["classes"]
        segments = predicted["segment", key]["segments"]
        assert whole["class"] == expected
        assert " ".join(each["classes"][0]["class"] for each in segments) == expected
        ends = [time for each in segments for time in (each["start"], each["end"])]
        assert ends == sorted(ends)


def test_a_sequence_has_no_blanks_and_the_times_of_its_frames() -> None:
    best = [2, 0, 0, 2, 0, 1]
    scores = 5.0 * torch.nn.functional.one_hot(torch.tensor(best), 3).float()
    borders = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    found = sequence_prediction(scores, ["a", "b"], borders, "segment").segments
    assert [(each.name, each.start, each.end) for each in found] == [
        *(("a", 0.1, 0.3), ("a", 0.4, 0.5), ("b", 0.5, 0.6))
    ]
    assert [("a", "b").index(each.name) for each in found] == decode_greedily(scores)
    whole = sequence_prediction(scores, ["a", "b"], borders, "utterance")
    assert whole.name == "a a b" and whole.score == pytest.approx(found[0].score)
    nothing = sequence_prediction(scores[:1], ["a", "b"], borders[:2], "utterance")
    assert (nothing.name, nothing.score) == ("", 0)


def test_textgrids_of_phones_have_no_gaps(
    recognition_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).standard_normal(16_000) * 0.1
    soundfile.write(tmp_path / "a.wav", noise, 16_000)
    out = tmp_path / "out"
    command = ["predict", str(recognition_run), str(tmp_path / "a.wav"), "--out", str(out)]
    assert main([*command, "--format", "textgrid"]) == 0
    intervals = read_textgrid(out / "a.TextGrid")
    assert intervals[0].start == 0 and intervals[-1].end == pytest.approx(1.0)
    assert main([*command, "--format", "ctm", "--per", "utterance"]) == 2
    assert "ctm has times: it is for runs that classify frames, or for --per segment" in (
        capsys.readouterr().err
    )


def test_numbers_are_those_of_the_evaluation_in_every_format(
    regression_run: Path, spoken_data: Path, tmp_path: Path
) -> None:
    outcome = measure(open_run(RunFolder(regression_run))).outcome
    assert isinstance(outcome, Numbers)
    for form in ("csv", "parquet", "jsonl"):
        command = ["predict", str(regression_run), str(spoken_data), "--format", form]
        assert main([*command, "--out", str(tmp_path / form)]) == 0
    with (tmp_path / "csv/predictions.csv").open() as stream:
        found = {row["key"]: float(row["number"]) for row in csv.DictReader(stream)}
    table = pq.read_table(tmp_path / "parquet/predictions.parquet")
    assert dict(zip(*(table[name].to_pylist() for name in ("key", "number")), strict=True)) == found
    lines = (tmp_path / "jsonl/predictions.jsonl").read_text().splitlines()
    assert {each["key"]: each["number"] for each in map(json.loads, lines)} == found
    data = Dataset(spoken_data)
    for row, expected in zip(outcome.rows, outcome.predicted, strict=True):
        assert found[data.key(int(row))] == expected


def test_without_silence_phones_have_no_times_and_are_those_of_utterances(
    recognition_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = aalbert.load(recognition_run)
    assert predictor.choose_per(None) == "segment"
    wave = replace(predictor.settings.wave, silence=SilenceSettings())
    cut = replace(predictor.settings, wave=wave)
    monkeypatch.setattr(type(predictor), "settings", cut)
    assert predictor.choose_per(None) == "utterance"
    with pytest.raises(ConfigError, match="are computed without silence"):
        predictor.choose_per("segment")


def test_what_a_run_does_not_predict_is_refused(
    regression_run: Path, recognition_run: Path
) -> None:
    wave = np.zeros(8_000, np.float32)
    with pytest.raises(
        ConfigError, match="per is frame, and .* predicts a number: leave --per out"
    ):
        aalbert.load(regression_run).predict(wave, per="frame")
    with pytest.raises(ConfigError, match="top is 2, and .* recognises sequences, of which it sta"):
        aalbert.load(recognition_run).predict(wave, top=2)
    predicted = aalbert.load(regression_run).predict(np.ones(8_000, np.float32))
    assert predicted.number is not None
    with pytest.raises(ConfigError, match="the prediction is per number, .*: see its number"):
        _ = predicted.name


def test_what_opens_a_run_says_in_a_line_what_it_holds(pretrained: Path, speaker_run: Path) -> None:
    upstream = "3 layers (one shared), width 32, 4 heads, "
    read = aalbert.from_pretrained(pretrained)
    assert repr(read).startswith(f"EmbeddingModel({str(pretrained)!r}: {upstream}")
    assert repr(read).endswith("; waves of 16,000 Hz to a state every 30 ms, on cpu)")
    assert repr(read.model).startswith(f"PretrainedModel({upstream}")
    assert repr(read.model).endswith(", 3 frames stacked; reconstructs logmel)")
    predictor = aalbert.load(speaker_run)
    assert repr(predictor).startswith(
        f"Predictor({str(speaker_run)!r}: voxceleb1, 4 classes; head: "
    )
    assert f"; frozen upstream: {upstream}" in repr(predictor)
    assert "\n" not in repr(predictor) + repr(predictor.model)
