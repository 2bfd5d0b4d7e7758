import csv
import io
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import aalbert
from aalbert.cli import main
from aalbert.common.files import file_digest
from aalbert.common.signals import handle_stop_signals
from aalbert.common.textgrid import read_textgrid
from aalbert.errors import ConfigError, InputError, InterruptedRunError
from aalbert.models import (
    DownstreamModel,
    EncoderConfig,
    FrontEndConfig,
    HeadConfig,
    Upstream,
    UpstreamConfig,
)
from aalbert.pipeline.audio.decode import read_audio
from aalbert.pipeline.embeddings.inputs import find_inputs
from aalbert.pipeline.prediction.predict import PredictConfig, predict_in_turn, predict_into
from aalbert.pipeline.prediction.writers import Predicted, names_of
from aalbert.shards import Dataset
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.evaluation.evaluate import Evaluation, measure
from aalbert.train.evaluation.open_run import open_run
from aalbert.train.run_folder import RunFolder


def recordings_of(data: Path, rows: Sequence[int]) -> list[str]:
    """The audio from which rows of a synthetic dataset were prepared."""
    sources = Dataset(data).column("source")
    return [str(data.parent / "corpus" / str(sources[row])) for row in rows]


def predicted_of(run: Path, places: Sequence[str], **settings: Any) -> list[Predicted]:
    predictor = aalbert.load(run)
    found = find_inputs(predictor, places)
    pieces = predict_in_turn(predictor, found, PredictConfig(**settings))
    return [each for predicted, _ in pieces for each in predicted]


def test_a_prediction_is_what_evaluate_counted_in_every_bit(
    speaker_run: Path, voxceleb1_data: Path, evaluations: list[Evaluation]
) -> None:
    outcome = evaluations[0].measured.outcome
    assert isinstance(outcome, Decisions) and outcome.predicted is not None
    assert outcome.score is not None
    names = [outcome.names[number] for number in outcome.predicted]
    counted = list(zip(names, outcome.score.tolist(), strict=True))
    places = recordings_of(voxceleb1_data, outcome.rows.tolist())
    together = predicted_of(speaker_run, places, top=4)
    assert [(each.prediction.name, each.prediction.score) for each in together] == counted
    assert [each.source for each in together] == places
    # Alone, and as a wave.
    predictor = aalbert.load(speaker_run)
    for place, expected in zip(places, together, strict=True):
        assert predicted_of(speaker_run, [place], top=4)[0].prediction == expected.prediction
        assert predictor.predict(read_audio(Path(place), 16_000).wave, top=4) == expected.prediction
    # From the stored features, and in the file.
    stored = {
        each.key: each.prediction for each in predicted_of(speaker_run, [str(voxceleb1_data)])
    }
    rows = list(csv.DictReader(io.StringIO(evaluations[0].measured.folder.predictions.read_text())))
    assert len(rows) == len(counted)
    for row, expected in zip(rows, together, strict=True):
        found = stored[row["key"]]
        assert (row["predicted"], float(row["score"])) == (found.name, found.score)
        assert (found.name, found.score) == (expected.prediction.name, expected.prediction.score)
        assert sum(each.score for each in expected.prediction.classes) == pytest.approx(1)
        scores = [each.score for each in expected.prediction.classes]
        assert scores == sorted(scores, reverse=True)


def test_frames_are_what_evaluate_counted(
    phone_run: Path, librispeech_data: Path, alignments: Path
) -> None:
    outcome = measure(open_run(RunFolder(phone_run))).outcome
    assert isinstance(outcome, Decisions)
    lines = [line.split() for line in alignments.read_text().splitlines()]
    labels = {key: numbers for key, *numbers in lines}
    dataset = Dataset(librispeech_data)
    places = recordings_of(librispeech_data, outcome.rows.tolist())
    predicted = predicted_of(phone_run, places, per="frame")
    for row, each, correct in zip(outcome.rows, predicted, outcome.correct, strict=True):
        truth, segments = labels[dataset.key(int(row))], each.prediction.segments
        # Three frames of 10 ms are one, whose centre is that of the second.
        centres = [0.010 + 0.030 * number for number in range(len(segments))]
        expected = [truth[min(round(centre / 0.010), len(truth) - 1)] for centre in centres]
        assert sum(a == b.name for a, b in zip(expected, segments, strict=True)) == correct
        for centre, segment in zip(centres, segments, strict=True):
            assert segment.start <= centre <= segment.end + 1e-6
        assert segments[0].start == 0 and segments[-1].end == each.prediction.seconds


def test_segments_are_frames_of_one_class_in_turn(phone_run: Path, librispeech_data: Path) -> None:
    [place] = recordings_of(librispeech_data, [0])
    [frames] = predicted_of(phone_run, [place], per="frame", top=2)
    [segments] = predicted_of(phone_run, [place], top=2)
    found = segments.prediction.segments
    assert 1 < len(found) < len(frames.prediction.segments)
    for segment, after in zip(found, [*found[1:], None], strict=True):
        inside = [
            each
            for each in frames.prediction.segments
            if segment.start <= each.start and each.end <= segment.end
        ]
        assert {each.name for each in inside} == {segment.name}
        assert segment.score == pytest.approx(np.mean([each.score for each in inside]), abs=1e-6)
        assert after is None or (after.start == segment.end and after.name != segment.name)
    with pytest.raises(
        ConfigError, match="is per segment, it has no classes of the whole recording"
    ):
        _ = segments.prediction.name


def test_all_formats_say_the_same(
    phone_run: Path, librispeech_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = recordings_of(librispeech_data, [0, 1])
    command = ["predict", str(phone_run), *places, "--top", "2"]
    for form in ("jsonl", "csv", "parquet", "ctm", "textgrid"):
        assert main([*command, "--format", form, "--out", str(tmp_path / form)]) == 0
    lines = (tmp_path / "jsonl/predictions.jsonl").read_text().splitlines()
    documents = [json.loads(line) for line in lines]
    rows = [
        (
            document["key"],
            document["source"],
            segment["start"],
            segment["end"],
            rank,
            *label.values(),
        )
        for document in documents
        for segment in document["segments"]
        for rank, label in enumerate(segment["classes"], start=1)
    ]
    table = list(csv.reader(io.StringIO((tmp_path / "csv/predictions.csv").read_text())))
    assert table[0] == ["key", "source", "start", "end", "rank", "class", "score"]
    assert table[1:] == [list(map(str, row)) for row in rows]
    parquet = pq.read_table(tmp_path / "parquet/predictions.parquet")
    assert [tuple(row.values()) for row in parquet.to_pylist()] == rows
    best = [row for row in rows if row[4] == 1]
    ctm = [line.split() for line in (tmp_path / "ctm/predictions.ctm").read_text().splitlines()]
    # Named after the files, whose names differ.
    assert [[line[0], line[4]] for line in ctm] == [[Path(row[1]).stem, row[5]] for row in best]
    for line, row in zip(ctm, best, strict=True):
        times = [float(line[2]), float(line[3]), float(line[5])]
        assert times == pytest.approx([row[2], row[3] - row[2], row[6]], abs=6e-4)
    for document in documents:
        stem = Path(document["source"]).stem
        intervals = read_textgrid(tmp_path / "textgrid" / f"{stem}.TextGrid")
        assert [each.phone for each in intervals] == [
            segment["classes"][0]["class"] for segment in document["segments"]
        ]
        ends = [segment["end"] for segment in document["segments"]]
        assert [each.end for each in intervals] == pytest.approx(ends, abs=1e-6)
    capsys.readouterr()
    for form, name in (("jsonl", "predictions.jsonl"), ("csv", "predictions.csv")):
        assert main([*command, "--format", form]) == 0
        assert capsys.readouterr().out == (tmp_path / form / name).read_text()
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["recording", "start", "end", "class", "score"]
    assert [line.split()[3] for line in lines[1:]] == [row[5] for row in rows]
    record = json.loads((tmp_path / "csv/prediction.json").read_text())
    assert (record["utterances"], record["per"], record["top"]) == (2, "segment", 2)
    assert {path.name for path in (tmp_path / "csv").iterdir()} == {
        *("prediction.json", "predictions.csv", "skipped.jsonl")
    }


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_interrupted_prediction_continues(
    speaker_run: Path,
    voxceleb1_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: Any,
) -> None:
    predictor = aalbert.load(speaker_run)
    inputs = find_inputs(predictor, [str(voxceleb1_data)], ["test"])
    config = PredictConfig(piece_seconds=3.0, format=form)
    predict_into(predictor, inputs, tmp_path / "whole", config)
    forward, calls = predictor.model.upstream.forward, []

    def stop_at_the_fifth(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(*arguments)

    monkeypatch.setattr(predictor.model.upstream, "forward", stop_at_the_fifth)
    with handle_stop_signals(print), pytest.raises(InterruptedRunError, match="by SIGTERM"):
        predict_into(predictor, inputs, tmp_path / "stopped", config)
    assert not (tmp_path / "stopped" / "prediction.json").exists()
    predict_into(predictor, inputs, tmp_path / "stopped", config)
    # Of eight recordings, two a piece, the third piece was done twice.
    assert len(calls) < 2 * len(inputs.recordings)
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")
    calls.clear()
    predict_into(predictor, inputs, tmp_path / "whole", config)
    assert calls == []


def digests(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in folder.rglob("*") if path.is_file()}


def test_a_list_on_stdin_and_files_of_one_name(
    speaker_run: Path,
    voxceleb1_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset = Dataset(voxceleb1_data)
    places = recordings_of(voxceleb1_data, dataset.rows(["test"]).tolist())
    assert len({Path(place).name for place in places}) < len(places)
    listed = "\ufeff" + "\r\n".join(places) + "\n"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(listed.encode())))
    assert main(["predict", str(speaker_run), "-", "--format", "jsonl"]) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["source"] for each in documents] == places
    assert len({each["key"] for each in documents}) == len(places)


@pytest.mark.parametrize(
    ("run", "arguments", "code", "message"),
    [
        (
            "speaker_run",
            ["{good}", "--json", "--format", "csv"],
            2,
            "--json and --format csv exclu",
        ),
        (
            "speaker_run",
            ["{good}", "--format", "table", "--out", "x"],
            2,
            "table is for people, on",
        ),
        ("speaker_run", ["{good}", "{good}"], 3, "is given 2 times: give it once"),
        ("speaker_run", ["missing.wav"], 3, "there is no file or folder missing.wav"),
        ("speaker_run", ["{bad}"], 3, "none of the 1 inputs can be used; for example"),
        (
            "speaker_run",
            ["{good}", "--per", "frame"],
            2,
            "classifies every utterance: use utteranc",
        ),
        ("speaker_run", ["{good}", "--format", "parquet"], 2, "parquet is for files: give --out"),
        (
            "speaker_run",
            ["{good}", "--format", "ctm"],
            2,
            "ctm has times: it is for runs that class",
        ),
        ("phone_run", ["{good}", "--per", "utterance"], 2, "every frame: use segment or frame"),
        (
            "verification_run",
            ["{good}"],
            2,
            "has no classes, it compares utterances: use 'aalbert c",
        ),
        (
            "pretrained",
            ["{good}"],
            3,
            "has no head that was trained on labels: train one with 'aalb",
        ),
    ],
)
def test_what_cannot_be_predicted_is_one_line(
    run: str,
    arguments: list[str],
    code: int,
    message: str,
    voxceleb1_data: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    [good] = recordings_of(voxceleb1_data, [0])
    given = [each.format(bad=tmp_path / "bad.wav", good=good) for each in arguments]
    folder = request.getfixturevalue(run)
    capsys.readouterr()  # of making the run
    assert main(["predict", str(folder), *given]) == code
    printed = capsys.readouterr()
    assert message in printed.err and printed.out == ""
    assert len(printed.err.splitlines()) == 1


def test_a_broken_recording_among_others_is_skipped_and_said(
    speaker_run: Path, voxceleb1_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    [good] = recordings_of(voxceleb1_data, [0])
    command = ["predict", str(speaker_run), str(tmp_path / "bad.wav"), good]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2 and "skipped" in printed.err
    assert main([*command, "--max-skipped", "0"]) == 5
    assert main([*command, "--json"]) == 0
    [document] = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]
    assert document["source"] == good and len(document["classes"]) == 1


def test_embeddings_are_what_the_classifier_reads(speaker_run: Path) -> None:
    predictor = aalbert.load(speaker_run)
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    embedding = predictor.embed(wave)
    assert predictor.model.head.classifier is not None
    scores = predictor.model.head.classifier(embedding).softmax(dim=-1)
    prediction = predictor.predict(wave, top=len(predictor.classes))
    assert [each.score for each in prediction.classes] == pytest.approx(
        sorted(scores.tolist(), reverse=True), abs=1e-6
    )
    both = predictor.embed([wave, wave[:9000]])
    assert [each.tolist() for each in both] == [
        predictor.embed(wave).tolist(),
        predictor.embed(wave[:9000]).tolist(),
    ]
    with pytest.raises(InputError, match="a wave and its rate, 16000, are no list of waves"):
        predictor.embed((wave, 16_000))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a wave is no array of numbers: give one channel"):
        predictor.predict((wave, 16_000))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="top 0 must be above 0"):
        predictor.predict(wave, top=0)
    with pytest.raises(InputError, match="the wave is too short"):
        predictor.predict(wave[:10])


def test_the_number_of_threads_changes_no_bit(speaker_run: Path) -> None:
    """Of a model so wide that PyTorch divides its products among threads."""
    upstream = Upstream(
        UpstreamConfig(
            features=asdict(LogMelSettings()),
            front_end=FrontEndConfig(feature_dims=80),
            encoder=EncoderConfig(layers=1, width=768, heads=12, initial_std=0.1),
        )
    )
    model = DownstreamModel(upstream, list("abcdefgh"), "last", HeadConfig(pooling="none")).eval()
    generator = torch.Generator().manual_seed(3)
    features = [torch.randn(frames, 80, generator=generator) for frames in (400, 90, 700)]

    def outputs(threads: int) -> list[torch.Tensor]:
        torch.set_num_threads(threads)
        try:
            found = model.outputs_of_each(enumerate(features), model.head)
            return [values for _, values, _ in found]
        finally:
            assert torch.get_num_threads() == threads
            torch.set_num_threads(1)

    alone = outputs(1)
    assert not any(values.requires_grad for values in alone)
    for threads in (2, 3, 7):
        assert all(map(torch.equal, outputs(threads), alone))


def test_recordings_are_named_by_files_that_every_disk_can_tell_apart(tmp_path: Path) -> None:
    def recording(key: str, source: str) -> Any:
        return SimpleNamespace(key=key, source=source)

    plain = [recording("x-1", "x/1.wav"), recording("x-2", "x/2.wav")]
    assert names_of(plain) == {"x-1": "1", "x-2": "2"}
    same = [recording("x-1", "x/1.wav"), recording("y-1", "y/1.wav")]
    assert names_of(same) == {"x-1": "x-1", "y-1": "y-1"}
    case = [recording("A--flac", "A.flac"), recording("a--flac", "a.flac")]
    names = list(names_of(case).values())
    assert len({name.lower() for name in names}) == 2 and names[0].startswith("A--flac-")
    spaced = [recording("k", "a b.wav")]
    assert names_of(spaced) == {"k": "k"}


def test_hostile_names_are_shown_as_names(
    speaker_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x\x1b[31mred\nskipped fake: ok.flac").write_bytes(b"no audio")
    assert main(["predict", str(speaker_run), str(tmp_path)]) == 3
    printed = capsys.readouterr().err
    assert "\x1b" not in printed and len(printed.splitlines()) == 1


def test_a_closed_stdin_is_one_line(
    speaker_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main(["predict", str(speaker_run), "-"]) == 3
    assert "stdin is closed: give the inputs themselves" in capsys.readouterr().err
