import csv
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import webdataset
from safetensors.numpy import load_file

import aalbert
from aalbert.cli import main
from aalbert.common.files import file_digest
from aalbert.common.signals import handle_stop_signals
from aalbert.errors import InterruptedRunError
from aalbert.models.device import use_device
from aalbert.pipeline.audio.decode import read_audio
from aalbert.pipeline.corpora.folder import FolderOptions, read_folder
from aalbert.pipeline.embeddings.extract import ExtractConfig, extract_embeddings
from aalbert.pipeline.embeddings.inputs import find_inputs
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare

# webdataset leaves closing its files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def audio_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings of two speakers, some at 8 kHz, and one that is broken."""
    folder = tmp_path_factory.mktemp("audio")
    generator = np.random.default_rng(2)
    for number in range(6):
        path = folder / f"speaker{number % 2}" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        rate = 8_000 if number == 3 else 16_000
        samples = generator.standard_normal(round((0.2 + 0.15 * number) * rate)) * 0.1
        soundfile.write(path, samples, rate)
    (folder / "speaker0" / "broken.flac").write_bytes(b"<html>no audio</html>")
    return folder


def embeddings_of(model: aalbert.EmbeddingModel, folder: Path, **choice: Any) -> dict[str, Any]:
    return {
        f"{path.parent.name}-{path.stem}": model.extract(
            read_audio(path, 16_000).wave, **choice
        ).numpy()
        for path in folder.rglob("*.wav")
    }


def extract(*arguments: object) -> int:
    return main(["extract", *map(str, arguments), "--max-skipped", "0.5"])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_becomes_an_array_per_recording(
    model_folder: Path, audio_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert extract("--model", model_folder, audio_folder, "--out", out, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["utterances"], summary["skipped"], summary["width"]) == (6, 1, 16)
    assert (summary["model"], summary["inputs"]) == (str(model_folder), [str(audio_folder)])
    expected = embeddings_of(aalbert.from_pretrained(model_folder), audio_folder, layers="last")
    index = {row["key"]: row for row in lines(out / "index.jsonl")}
    assert index.keys() == expected.keys() == {path.stem for path in out.glob("*.npy")}
    for key, row in index.items():
        found = np.load(out / row["file"])
        assert found.dtype == np.float32 and list(found.shape) == row["shape"]
        assert np.array_equal(found, expected[key])
    assert lines(out / "skipped.jsonl")[0]["source"] == "speaker0/broken.flac"
    record = {name: value for name, value in summary.items() if name != "out"}
    assert json.loads((out / "extraction.json").read_text()) == record
    assert not (out / ".extract").exists()


@pytest.mark.parametrize("layers", ["all", "mean", 1])
@pytest.mark.parametrize("pooling", ["none", "mean+std"])
def test_safetensors_and_shards_hold_the_same_numbers(
    model_folder: Path, audio_folder: Path, tmp_path: Path, layers: str | int, pooling: str
) -> None:
    chosen = ["--model", model_folder, audio_folder, "--layers", str(layers), "--pooling", pooling]
    for format in ("safetensors", "shards"):
        assert extract(*chosen, "--format", format, "--out", tmp_path / format) == 0
    expected = embeddings_of(
        aalbert.from_pretrained(model_folder),
        audio_folder,
        layers=layers,
        pooling=pooling,
    )
    tensors = load_file(tmp_path / "safetensors" / "000000.safetensors")
    assert tensors.keys() == expected.keys()
    assert all(np.array_equal(tensors[key], array) for key, array in expected.items())
    for sample in read_tar(tmp_path / "shards" / "000000.tar"):
        array = expected.pop(sample["__key__"])
        if pooling != "none":
            array = np.expand_dims(array, -2)
        states = {f"layer{number}": state for number, state in enumerate(array)}
        for name, state in (states if layers == "all" else {"embedding": array}).items():
            np.testing.assert_allclose(sample[f"{name}.npy"], state, rtol=1e-3, atol=1e-3)
        assert sample["json"]["speaker"] is None
    assert expected == {}


def read_tar(path: Path) -> Iterator[dict[str, Any]]:
    yield from webdataset.WebDataset(str(path), shardshuffle=False).decode()


def test_a_table_names_parts_of_recordings(
    model_folder: Path, audio_folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "list.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [
                ["path", "key", "speaker", "start", "end"],
                [audio_folder / "speaker1" / "5.wav", "first", "ann", "0.1", "0.5"],
            ]
        )
    assert extract("--model", model_folder, table, "--out", tmp_path / "out") == 0
    [row] = lines(tmp_path / "out" / "index.jsonl")
    assert (row["key"], row["speaker"], row["seconds"]) == ("first", "ann", 0.4)
    wave = read_audio(audio_folder / "speaker1" / "5.wav", 16_000).wave[1600:8000]
    expected = aalbert.from_pretrained(model_folder).extract(wave, layers="last")
    assert np.array_equal(np.load(tmp_path / "out" / "first.npy"), expected.numpy())


def test_a_prepared_dataset_gives_nearly_the_same_as_its_audio(
    model_folder: Path, audio_folder: Path, tmp_path: Path
) -> None:
    """The features of a dataset are stored in float16."""
    model = aalbert.from_pretrained(model_folder)
    corpus = read_folder(audio_folder, FolderOptions(speaker_level=1))
    limits = PrepareLimits(engine=LocalEngine(workers=1), max_skipped=1)
    prepare(corpus, tmp_path / "data", PrepareConfig(features=(model.settings,)), limits)
    assert extract("--model", model_folder, tmp_path / "data", "--out", tmp_path / "out") == 0
    expected = embeddings_of(model, audio_folder, layers="last")
    rows = lines(tmp_path / "out" / "index.jsonl")
    assert {row["key"]: row["speaker"] for row in rows} == {
        key: key.partition("-")[0] for key in expected
    }
    for row in rows:
        found = np.load(tmp_path / "out" / row["file"])
        np.testing.assert_allclose(found, expected[row["key"]], atol=2e-2)


def test_the_bytes_do_not_depend_on_the_other_inputs(
    model_folder: Path, audio_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "all"
    assert extract("--model", model_folder, audio_folder, "--out", folder) == 0
    for path in audio_folder.rglob("*.wav"):
        out = tmp_path / path.stem
        assert extract("--model", model_folder, path, "--out", out) == 0
        together = folder / f"{path.parent.name}-{path.stem}.npy"
        assert file_digest(out / f"{path.stem}.npy") == file_digest(together)


@pytest.mark.parametrize("format", ["npy", "safetensors", "shards"])
def test_an_interrupted_extraction_continues(
    model_folder: Path,
    audio_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format: Any,
) -> None:
    model = aalbert.from_pretrained(model_folder)
    inputs = find_inputs(model, [str(audio_folder)])
    config = ExtractConfig(format=format, piece_bytes=3000)
    extract_embeddings(model, inputs, tmp_path / "whole", config)
    forward, calls = model.upstream.forward, []

    def stop_at_the_fourth(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(*arguments)

    monkeypatch.setattr(model.upstream, "forward", stop_at_the_fourth)
    with handle_stop_signals(print), pytest.raises(InterruptedRunError, match="by SIGTERM"):
        extract_embeddings(model, inputs, tmp_path / "stopped", config)
    assert not (tmp_path / "stopped" / "extraction.json").exists()
    extract_embeddings(model, inputs, tmp_path / "stopped", config)
    assert len(calls) == 4 + len(inputs.recordings) - 1 - 3
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")
    calls.clear()
    extract_embeddings(model, inputs, tmp_path / "whole", config)
    assert calls == []


def digests(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in folder.rglob("*") if path.is_file()}


def test_another_extraction_is_not_written_over(
    model_folder: Path, audio_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", model_folder, audio_folder, "--out", tmp_path / "out"]
    assert extract(*arguments) == 0
    assert extract(*arguments, "--pooling", "mean") == 6
    assert "holds embeddings of other inputs, settings or another model" in capsys.readouterr().err


def test_too_many_inputs_that_cannot_be_used_are_an_error(
    model_folder: Path, audio_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(audio_folder, tmp_path / "audio")
    (tmp_path / "audio" / "empty.wav").touch()
    command = ["extract", "--model", model_folder, tmp_path / "audio", "--out", tmp_path / "out"]
    assert main([str(word) for word in command]) == 5
    assert "2 of 8 inputs were skipped, more than --max-skipped 0.001" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.wav"], 3, "there is no file or folder missing.wav: expected audio files"),
        (["{audio}", "--layers", "7"], 2, "there is no layer 7: hidden states are numbered 0"),
        (
            ["{audio}", "--layers", "top"],
            2,
            "--layers is 'top': use last, all, mean,",
        ),
        (["{audio}", "--layers", "weighted"], 2, "this model has no learned mix"),
        (["{audio}", "--device", "cuda:99"], 2, "the device 'cuda:99' cannot be used"),
        (["{audio}/speaker0/broken.flac"], 3, "none of the 1 inputs can be used; for example"),
        (["{audio}", "{audio}"], 3, "is given 2 times: give it once"),
        (["{audio}", "{audio}/."], 3, "is given 2 times: give it once"),
        (["{audio}/speaker0", "{audio}/speaker0/0.wav"], 3, "two inputs have the key"),
        (["{data}"], 2, "the model expects another logmel than"),
        (
            ["{data}"],
            2,
            "by 'aalbert prepare' with --feature logmel --set logmel.mels=20 --set wave.",
        ),
    ],
)
def test_mistakes_are_reported_in_one_line(
    model_folder: Path,
    audio_folder: Path,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    words = [word.format(audio=audio_folder, data=prepared) for word in arguments]
    assert extract("--model", model_folder, *words, "--out", tmp_path / "out") == code
    assert message in capsys.readouterr().err
    assert not any((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("format", ["npy", "safetensors", "shards"])
def test_a_file_that_cannot_be_written_is_a_named_error(
    model_folder: Path,
    audio_folder: Path,
    tmp_path: Path,
    format: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Smaller than an embedding, larger than the notes that are written before."""
    out = tmp_path / "out"
    # Python would cut its own files too, and never again import what is in them.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, most))
    try:
        code = extract(
            "--model", model_folder, audio_folder / "speaker1", "--format", format, "--out", out
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert code == 7
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"aalbert: File too large: {out}/"), error
    assert not list(out.rglob("*.partial"))


def test_a_dry_run_estimates_and_writes_nothing(
    audio_folder: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (audio_folder, "--model", pretrained, "--out", tmp_path / "out", "--layers", "all")
    assert extract(*command, "--dry-run", "--json") == 0
    expected = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "out").exists()
    assert extract(*command, "--json") == 0
    capsys.readouterr()
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.npy"))
    assert expected["recordings"] == 7 and expected["tried"] == 7
    assert expected["bytes"] == pytest.approx(written, rel=0.25)
    assert expected["seconds"] > 0 and expected["hours"] > 0


def test_the_device_that_is_named_is_where_it_computes(
    audio_folder: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    original = aalbert.EmbeddingModel.to

    def to(model: aalbert.EmbeddingModel, device: torch.device) -> aalbert.EmbeddingModel:
        moved.append(str(device))
        return original(model, torch.device("cpu"))

    monkeypatch.setattr(aalbert.EmbeddingModel, "to", to)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("aalbert.models.device.choose_device", torch.device)
    command = (audio_folder, "--model", pretrained, "--threads", "1", "--dry-run")
    for device in ((), ("--device", "cpu"), ("--device", "cuda:1")):
        assert extract(*command, "--out", tmp_path / "out", *device) == 0
    assert moved == ["cuda", "cpu", "cuda:1"]
    use_device(None)
