"""ONNX files compute what `aalbert.from_pretrained` computes, and say what they are."""

import json
import shutil
import sys
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import aalbert
from aalbert.cli import main
from aalbert.commands.export import summary_text
from aalbert.errors import ConfigError
from aalbert.models import DownstreamModel, FrontEndConfig, HeadConfig, PretrainedModel
from aalbert.models.downstream import Threshold
from aalbert.models.front_end_config import Normalisation
from aalbert.models.head_config import Pooling, Predicts
from aalbert.pipeline.embeddings.model import EmbeddingModel
from aalbert.pipeline.onnx_export import export_onnx
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.shards.format.wave_settings import SilenceSettings, WaveSettings
from tests.examples import examples_of
from tests.models.systems import CHUNK_FRAMES, SYSTEMS, make_system
from tests.models.test_downstream_head import HEADS

THRESHOLD = Threshold(score=0.25, misses=0.1, false_alarms=0.125, trials=40)


def noise(samples: int) -> NDArray[np.float32]:
    wave = np.random.default_rng(samples).standard_normal(samples) * np.linspace(0.01, 0.2, samples)
    return wave.astype(np.float32)


def run_file(path: Path, wave: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """What onnxruntime, which knows no aalbert, computes."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, {"wave": wave}), strict=True))


def metadata_of(path: Path) -> dict[str, str]:
    import onnx

    return {each.key: each.value for each in onnx.load(path).metadata_props}


def lengths_of(model: EmbeddingModel) -> tuple[int, int, int]:
    """A short wave, a medium one, and one beyond what is encoded in one chunk."""
    samples = round(model.sample_rate * model.frame_shift_ms / 1000)
    return model.settings.window_samples * 2, samples * 20 + 7, samples * (CHUNK_FRAMES * 2 + 9)


def require_parity(path: Path, model: EmbeddingModel, atol: float = 1e-4) -> None:
    for samples in lengths_of(model):
        wave = noise(samples)
        states = run_file(path, np.stack([wave, wave[::-1]]))["hidden_states"]
        expected = [model.extract(each) for each in (wave, wave[::-1].copy())]
        np.testing.assert_allclose(states, np.stack(expected, axis=1), rtol=0, atol=atol)


def save_downstream(folder: Path, head: HeadConfig) -> EmbeddingModel:
    upstream = make_system("tiny").upstream
    classes = [] if head.classifier == "none" else ["Ärger", "b", "c"]
    model = DownstreamModel(upstream, classes, "weighted", head, threshold=THRESHOLD)
    torch.nn.init.normal_(model.head.centre)
    model.save_pretrained(folder)
    return aalbert.from_pretrained(folder)


def export(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = main(["export", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_a_file_gives_states_embeddings_and_scores_and_says_what_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The examples of docs/export.md are what runs."""
    import onnx

    monkeypatch.chdir(tmp_path)
    folder, out = Path("runs/pretrain"), Path("model.onnx")
    model = save_downstream(folder, HEADS["mean"])
    command, use = [each["code"] for each in examples_of("export.md") if "onnx" in each["about"]]
    code, printed, notes = export(capfd, *command.split()[2:], "--json")
    assert (code, notes) == (0, "")
    exec(compile(use, "export.md", "exec"), {})
    document = json.loads(printed)
    assert document["bytes"] == out.stat().st_size
    assert summary_text(document).splitlines() == [
        f"{folder}: ONNX, opset 20",
        "reads    waves (batch, samples), 16,000 Hz, floats in [-1, 1), at least 400 samples",
        "gives    hidden_states, embeddings, scores: 4 states of width 16, a frame every 30 ms",
        "classes  3, in the metadata of the file",
        f"written: {out}, {out.stat().st_size / 2**20:.1f} MiB",
    ]
    require_parity(out, model)
    silence = run_file(out, np.zeros((1, 4_000), np.float32))["hidden_states"][:, 0]
    np.testing.assert_allclose(silence, model.extract(np.zeros(4_000, np.float32)), atol=1e-5)
    for samples in lengths_of(model):
        wave = noise(samples)
        found = run_file(out, wave[None])
        features = torch.from_numpy(model.features(wave, 16_000))[None]
        lengths = torch.tensor([features.shape[1]])
        assert isinstance(model.model, DownstreamModel)
        with torch.no_grad():
            scores, embeddings = (
                model.model(features, lengths),
                model.model.embed(features, lengths),
            )
        np.testing.assert_allclose(found["scores"], scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found["embeddings"], embeddings, rtol=0, atol=1e-4)
    file = onnx.load(out)
    metadata = metadata_of(out)
    assert [each.version for each in file.opset_import] == [document["opset"]]
    assert json.loads(metadata["classes"]) == ["Ärger", "b", "c"]
    assert (metadata["sample_rate"], metadata["frame_shift_ms"]) == ("16000", "30.0")
    assert (metadata["states"], metadata["comparison"]) == ("4", "cosine")
    assert (metadata["predicts"], "blank" in metadata) == ("classes", False)
    assert json.loads(metadata["threshold"]) == asdict(THRESHOLD)
    # The exporter notes where its source lies.
    content = out.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert str(folder).encode() not in content
    assert sys.prefix.encode() not in content


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_is_the_same_at_three_lengths(name: str, tmp_path: Path) -> None:
    make_system(name).save_pretrained(tmp_path / "model")
    model = aalbert.from_pretrained(tmp_path / "model")
    document = export_onnx(tmp_path / "model", tmp_path / "model.onnx")
    # Kaldi's cepstra differ more between implementations.
    require_parity(tmp_path / "model.onnx", model, 2e-4 if name == "learned" else 1e-4)
    shortest = noise(document["shortest_samples"])
    states = run_file(tmp_path / "model.onnx", shortest[None])["hidden_states"]
    np.testing.assert_allclose(states[:, 0], model.extract(shortest), rtol=0, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HEADS, "none"])
def test_every_head_is_the_same(name: str, tmp_path: Path) -> None:
    head = HEADS[name] if name in HEADS else HeadConfig(classifier="none", standardise=True)
    model = save_downstream(tmp_path / "model", head)
    document = export_onnx(tmp_path / "model", tmp_path / "model.onnx")
    outputs = ["hidden_states", "embeddings", "scores"]
    assert document["outputs"] == (outputs[:2] if name == "none" else outputs)
    wave = noise(9_000)
    found = run_file(tmp_path / "model.onnx", wave[None])
    features = torch.from_numpy(model.features(wave, 16_000))[None]
    assert isinstance(model.model, DownstreamModel)
    embeddings = model.model.embed(features, torch.tensor([features.shape[1]])).detach()
    np.testing.assert_allclose(found["embeddings"], embeddings, rtol=0, atol=1e-4)


def vary_over_frames(model: DownstreamModel, folder: Path) -> None:
    """Give a head of random weights other best classes in turn: none is best on the average."""
    classifier = model.head.classifier
    assert isinstance(classifier, torch.nn.Linear)
    torch.nn.init.normal_(classifier.weight, std=2.0)
    model.save_pretrained(folder)
    features = torch.from_numpy(aalbert.from_pretrained(folder).features(noise(30_000), 16_000))
    with torch.no_grad():
        scores = model.eval()(features[None], torch.tensor([len(features)]))
        classifier.bias.sub_(scores[0].mean(dim=0))


@pytest.mark.slow
@pytest.mark.parametrize("predicts", ["number", "sequence"])
def test_scores_are_read_by_the_facts_of_the_file_as_predict_reads_them(
    predicts: Predicts, tmp_path: Path
) -> None:
    classes = ["A", "B", "C"] if predicts == "sequence" else []
    pooling: Pooling = "none" if predicts == "sequence" else "mean"
    torch.manual_seed(1)
    model = DownstreamModel(
        make_system("tiny").upstream,
        classes,
        "weighted",
        HeadConfig(pooling=pooling, normalise_states=True),
        predicts=predicts,
    )
    if predicts == "number":
        model.head.scale_numbers(1.7e9, 20.0)
    else:
        vary_over_frames(model, tmp_path / "centred")
    model.save_pretrained(tmp_path / "model")
    export_onnx(tmp_path / "model", tmp_path / "model.onnx")
    facts, wave = metadata_of(tmp_path / "model.onnx"), noise(30_000)
    [scores] = run_file(tmp_path / "model.onnx", wave[None])["scores"]
    loaded = aalbert.from_pretrained(tmp_path / "model")
    assert isinstance(loaded.model, DownstreamModel)
    for samples in lengths_of(loaded):
        waves = [noise(samples), noise(samples)[::-1].copy()]
        features = torch.from_numpy(np.stack([loaded.features(each, 16_000) for each in waves]))
        with torch.no_grad():
            expected = loaded.model(features, torch.full((2,), features.shape[1])).numpy()
        # Phones and the blank for every frame, or one number.
        assert expected.shape[1:] == ((expected.shape[1], 4) if predicts == "sequence" else (1,))
        given = run_file(tmp_path / "model.onnx", np.stack(waves))["scores"]
        # Numbers have a deviation of 20.
        atol = 2e-3 if predicts == "number" else 1e-4
        np.testing.assert_allclose(given, expected, rtol=0, atol=atol)
    prediction = aalbert.load(tmp_path / "model").predict(wave)
    assert facts["predicts"] == predicts
    if predicts == "number":
        # That of `predict` is of features with the precision of shards.
        assert scores.tolist() == [pytest.approx(prediction.number, rel=0, abs=0.05)]
        return
    found = [number for number, _ in groupby(scores.argmax(axis=-1).tolist())]
    names = [classes[number] for number in found if number != int(facts["blank"])]
    assert names == [each.name for each in prediction.segments] and len(set(names)) > 1


def test_a_file_that_is_there_is_left_alone(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "one.onnx"
    out.write_text("mine")
    code, _, message = export(capsys, model_folder, "--to", "onnx", "--out", out)
    assert (code, message) == (
        6,
        f"aalbert: {out} exists: choose another --out, the file to write\n",
    )
    assert out.read_text() == "mine"


@pytest.mark.slow
def test_equal_models_give_equal_bytes_wherever_they_lie(
    model_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "copy")
    files = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    for folder, file in zip((model_folder, tmp_path / "copy"), files, strict=True):
        assert export_onnx(folder, file)["source"] == str(folder)
    assert files[0].read_bytes() == files[1].read_bytes()
    metadata = metadata_of(files[0])
    assert (metadata["classes"], "threshold" in metadata) == ("[]", False)


def test_without_the_packages_one_line_says_how_to_get_them(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aalbert.pipeline.onnx_export.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as caught:
        export_onnx(model_folder, tmp_path / "model.onnx")
    assert str(caught.value) == "ONNX needs onnx and onnxscript: pip install 'aalbert[onnx]'"


@pytest.mark.parametrize(
    ("silence", "normalisation", "message"),
    [
        (SilenceSettings(), "none", "reads waves whose silence was cut (features.wave.silence)"),
        (None, "speaker", "reads statistics of every speaker (front_end.normalisation)"),
    ],
)
def test_what_a_file_cannot_compute_is_refused(
    silence: SilenceSettings | None, normalisation: Normalisation, message: str, tmp_path: Path
) -> None:
    settings = LogMelSettings(wave=WaveSettings(silence=silence))
    front_end = FrontEndConfig(normalisation=normalisation)
    config = make_system("tiny").config
    config = replace(config, features=asdict(settings), front_end=front_end)
    PretrainedModel(config).save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError) as caught:
        export_onnx(tmp_path / "model", tmp_path / "model.onnx")
    assert str(caught.value) == (
        f"this model {message}, which no model has outside of aalbert: use "
        "aalbert.from_pretrained, or train one without them"
    )
    assert not (tmp_path / "model.onnx").exists()
