import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch

import aalbert
from aalbert.cli import main
from aalbert.commands import inspect as inspection
from aalbert.models.upstream import Upstream
from aalbert.pipeline.embeddings.model import EmbeddingModel


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "speech.wav"
    samples = np.random.default_rng(1).standard_normal(24_000) * 0.1
    soundfile.write(path, samples, 16_000)
    return path


def test_a_model_is_described(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model_folder), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    model = aalbert.from_pretrained(model_folder)
    stored = sum(each.numel() for each in model.parameters())
    assert document["parameters"]["stored"] == stored
    assert (document["encoder"]["layers"], document["frame_shift_ms"]) == (2, 20.0)
    # 500 frames in 10 s: projection, 6 matrices' worth per layer, scores and sums.
    per_frame = 40 * 16 + 2 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 2 * 500 * 16
    assert document["macs_per_second"] == 50 * per_frame
    assert main(["inspect", str(model_folder)]) == 0
    text = capsys.readouterr().out
    assert f"stored {stored:,}" in " ".join(text.split())
    assert "2 layers (one shared layer), width 16, 2 heads, post-norm" in text


def test_pictures_show_attention_similarity_and_reconstruction(
    model_folder: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["inspect", str(model_folder), "--audio", str(recording), "--out", str(out)]
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    names = {"attention.png", "similarity.png", "heads.png", "reconstruction.png"}
    assert {Path(name).name for name in document["pictures"]} == names
    for name in names:
        require_picture(out / name)
    found = {name: np.array(each) for name, each in document["attention_divergence_bits"].items()}
    assert found["averaged"].shape == (2, 2) and found["heads"].shape == (2, 2, 2, 2)
    assert 0 < found["averaged"][0, 1] == found["averaged"][1, 0] < 1
    assert found["closest"][0, 1] == found["heads"][0, :, 1].min()
    saved = json.loads((out / "inspection.json").read_text())
    assert saved["attention_divergence_bits"] == document["attention_divergence_bits"]
    assert main(command) == 6


def require_picture(path: Path) -> None:
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[0] > 200 and pixels.shape[1] > 200 and np.ptp(pixels) > 0.5


def test_the_mix_that_a_head_learned_is_printed_and_drawn(
    speaker_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["inspect", str(speaker_run), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    mix = lines[lines.index("learned mix of the hidden states") + 1 :][:4]
    weights = json.loads((out / "inspection.json").read_text())["layer_weights"]
    assert sum(weights) == pytest.approx(1, abs=1e-5)
    assert [line.split()[:-1] for line in mix] == [
        ["input", f"{weights[0]:.3f}"],
        *(["layer", str(number), f"{weights[number]:.3f}"] for number in (1, 2, 3)),
    ]
    bars = [line.split()[-1].count("█") for line in mix]
    assert bars[int(np.argmax(weights))] == max(bars) == 30
    require_picture(out / "layers.png")
    assert {path.name for path in out.iterdir()} == {"inspection.json", "layers.png"}


def test_attention_maps_are_of_the_first_seconds(model_folder: Path) -> None:
    model = aalbert.from_pretrained(model_folder)
    features = np.random.default_rng(0).standard_normal((60, 20)).astype(np.float32)
    maps = inspection.attention_maps(model, features)
    assert maps.shape == (2, 2, 30, 30)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 2, 30))


def test_of_a_model_that_encodes_chunks_the_first_one_is_drawn(
    model_folder: Path, recording: Path
) -> None:
    model = aalbert.from_pretrained(model_folder)
    assert len(inspection.read_features(model, recording)) > 140
    config = model.upstream.config
    assert config.encoder is not None
    encoder = replace(config.encoder, position_frames=25, beyond_positions="restart")
    changed = Upstream(replace(config, encoder=encoder))
    features = inspection.read_features(EmbeddingModel(changed, changed), recording)
    assert len(features) == 50
    maps = inspection.attention_maps(EmbeddingModel(changed, changed), features)
    assert maps.shape == (2, 2, 25, 25)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing"], 3, "there is no folder missing: expected a run or a saved model"),
        (["{model}", "--audio", "x.wav"], 2, "--audio needs --out, the folder for its pictures"),
        (["{model}", "--out", "{out}"], 2, "{model} without --audio: only the run of a head that"),
        (["{model}", "--audio", "{broken}", "--out", "{out}"], 3, "broken.flac cannot be decoded"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    broken = tmp_path / "broken.flac"
    broken.write_bytes(b"<html>no audio</html>")
    places = {"model": model_folder, "broken": broken, "out": tmp_path / "out"}
    assert main(["inspect", *(word.format(**places) for word in arguments)]) == code
    assert message.format(**places) in capsys.readouterr().err
