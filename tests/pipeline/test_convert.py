"""`aalbert convert`: from a foreign file to a model that reads waves, and back."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import aalbert
from aalbert.cli import main
from aalbert.models import PretrainedModel
from aalbert.models.foreign.detect import read_foreign
from aalbert.pipeline.prepare.recipe import load_recipe
from tests.models.foreign.transformers import (
    Sizes,
    lightning,
    make_head,
    make_transformer,
    s3prl_2020,
    s3prl_2022,
)
from tests.models.systems import make_system

SIZES = Sizes()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "states-1000.ckpt"
    torch.save(s3prl_2022(SIZES, make_transformer(SIZES), make_head(SIZES)), path)
    return path


def convert(*arguments: Any) -> int:
    return main(["convert", *map(str, arguments)])


def test_a_checkpoint_becomes_a_model_that_reads_waves(checkpoint: Path, tmp_path: Path) -> None:
    assert convert(checkpoint, "--out", tmp_path / "model") == 0
    model = aalbert.from_pretrained(str(tmp_path / "model"))
    loud = torch.randn(8000).clamp(-3, 3) / 4
    states = model.extract(loud)
    assert [tuple(state.shape) for state in states] == [(51, 16)] * 4
    # The wave is scaled to -25 dB first, so its own level has no influence.
    quiet = model.extract(loud / 50)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(states, quiet, strict=True))


def test_the_summary_says_what_was_converted(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(checkpoint, "--out", tmp_path / "model", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["layout"] == "s3prl since 2022"
    assert document["encoder"]["share_layers"] is True
    assert document["encoder"]["beyond_positions"] == "restart"
    assert document["features"]["mels"] == 20
    assert document["features"]["wave"]["loudness_db"] == -25
    assert document["training"]["steps"] == 1000
    assert document["training"]["converted_from"] == "states-1000.ckpt (s3prl since 2022)"
    assert document["notes"] == []
    model = PretrainedModel.from_pretrained(tmp_path / "model")
    assert document["parameters"] == sum(part.numel() for part in model.parameters())


def test_to_s3prl_and_back_is_the_same(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(checkpoint, "--out", tmp_path / "model") == 0
    assert convert(tmp_path / "model", "--to", "s3prl", "--out", tmp_path / "again.ckpt") == 0
    assert "written: " in capsys.readouterr().out
    # Straight from one file to the other gives the same file.
    assert convert(checkpoint, "--to", "s3prl", "--out", tmp_path / "direct.ckpt") == 0
    assert (tmp_path / "again.ckpt").read_bytes() == (tmp_path / "direct.ckpt").read_bytes()
    assert convert(tmp_path / "again.ckpt", "--out", tmp_path / "copy") == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "copy")]
    assert weights[0] == weights[1]


def load_upstream(folder: Path) -> Any:
    return torch.hub.load(folder, "upstream", source="local")  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tiny", "s3prl has no encoder.positions rotary, only sinusoidal"),
        ("aalbert-paper", "s3prl has no front_end.frames_stacked 3, only 1"),
        ("aalbert-seed", "s3prl has no front_end.frames_stacked 3, only 1"),
    ],
)
def test_what_the_layout_of_s3prl_cannot_hold_leaves_with_its_code(
    name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_system(name).save_pretrained(tmp_path / "model")
    out = tmp_path / "for-s3prl"
    assert convert(tmp_path / "model", "--to", "s3prl", "--out", out) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"note: {reason}, so this is a folder with the code that s3prl needs: "
        f"torch.hub.load('{out}', 'upstream', source='local')",
        f"written: {out}",
    ]
    upstream, model = load_upstream(out), aalbert.from_pretrained(tmp_path / "model")
    waves = [torch.randn(samples) / 10 for samples in (40_000, 9_000)]
    with torch.no_grad():
        found = upstream(waves)
    assert torch.equal(found["last_hidden_state"], found["hidden_states"][-1])
    for row, expected in enumerate(model.extract(waves)):
        states = [state[row, : expected.shape[1]] for state in found["hidden_states"]]
        torch.testing.assert_close(torch.stack(states), expected, rtol=0, atol=1e-4)
    assert upstream.get_downsample_rates("hidden_states") == round(16 * model.frame_shift_ms)
    with pytest.raises(ValueError, match=r"a wave has 399 samples: it needs at least [48]00"):
        upstream([torch.zeros(399)])
    # It is a saved model of this package too.
    assert aalbert.from_pretrained(out).fingerprint == model.fingerprint


def test_a_model_for_no_layout_of_s3prl_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_system("tiny").config
    features = {**config.features, "sample_rate": 8_000}
    PretrainedModel(replace(config, features=features)).save_pretrained(tmp_path / "model")
    assert convert(tmp_path / "model", "--to", "s3prl", "--out", tmp_path / "out") == 2
    message = "aalbert: s3prl has no logmel.sample_rate 8000, only 16000\n"
    assert capsys.readouterr().err == message
    assert not (tmp_path / "out").exists()


def test_what_has_no_place_in_any_layout_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_system("mockingjay-3l")
    config = replace(model.config, training={"steps": "many"})
    PretrainedModel(config, mask_token=True).save_pretrained(tmp_path / "model")
    assert convert(tmp_path / "model", "--to", "s3prl", "--out", tmp_path / "out") == 2
    message = "aalbert: training.steps is 'many': expected a number of steps\n"
    assert capsys.readouterr().err == message
    assert not (tmp_path / "out").exists()


def test_features_that_are_not_told_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.ckpt"
    torch.save(s3prl_2020(SIZES, make_transformer(SIZES), make_head(SIZES)), path)
    assert convert(path, "--out", tmp_path / "model") == 2
    message = capsys.readouterr().err
    assert (
        "it read 'data/libri_fbank_cmvn'. Say which to 'aalbert convert': --set feature=logmel"
        in message
    )
    assert not (tmp_path / "model").exists()
    settings = ("--set", "feature=fbank", "--set", "fbank.mels=20")
    assert convert(path, "--out", tmp_path / "model", *settings) == 0
    model = PretrainedModel.from_pretrained(tmp_path / "model")
    assert model.config.features["kind"] == "fbank"
    assert [target.feature for target in model.targets] == ["fbank"]


def test_settings_of_the_user_win(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = Sizes(inputs=80, outputs=80)
    document = lightning(
        sizes, make_transformer(sizes), [make_head(sizes)], stacked=1, mask_token=None
    )
    torch.save(document, tmp_path / "seed.ckpt")
    arguments = (tmp_path / "seed.ckpt", "--json", "--out")
    assert convert(*arguments, tmp_path / "a") == 0
    shipped = json.loads(capsys.readouterr().out)
    assert shipped["features"]["fft_size"] == 2046
    assert "those that the AALBERT repository ships" in shipped["notes"][0]
    changes = ("--set", "logmel.fft_size=512", "--set", "wave.loudness_db=-25")
    assert convert(*arguments, tmp_path / "b", *changes) == 0
    changed = json.loads(capsys.readouterr().out)["features"]
    assert (changed["fft_size"], changed["wave"]["loudness_db"]) == (512, -25)


def test_the_options_that_are_told_prepare_what_the_model_reads(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(checkpoint, "--out", tmp_path / "model", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (
        document["prepare"] == "--feature logmel --set logmel.mels=20 --set wave.loudness_db=-25.0"
    )
    _, feature, *options = document["prepare"].split()
    recipe = load_recipe(assignments=options[1::2], features=[feature])
    assert [asdict(settings) for settings in recipe.features] == [document["features"]]


class Run:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.marker,)


def test_a_file_that_would_run_code_ends_with_the_code_of_damaged_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = s3prl_2022(SIZES, make_transformer(SIZES), make_head(SIZES))
    document["Optimizer"] = Run(tmp_path / "ran")
    torch.save(document, tmp_path / "evil.ckpt")
    assert convert(tmp_path / "evil.ckpt", "--out", tmp_path / "model") == 4
    message = capsys.readouterr().err
    assert message.endswith("its pickle calls posix.mkdir, which no plain checkpoint does\n")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("{old}/nothing.ckpt --out {new}", 3, "there is no file {old}/nothing.ckpt: expected a"),
        ("{old} --out {new}", 2, "{old} is no file: expected a checkpoint of another system"),
        ("{old}/other.pt --out {new}", 3, "its layout is not known: it has the keys epoch, model,"),
        ("{old}/text.ckpt --out {new}", 3, "not a checkpoint: expected a file that torch.save"),
        ("{old}/states.ckpt --out {old}", 6, "{old} is not empty: choose another --out"),
        ("{old}/states.ckpt --out {new} --set deltas=1", 2, "there is no setting 'deltas'"),
        ("{old}/states.ckpt --out {new} --set front_end.deltas=1", 2, "these settings give 40"),
        ("{old}/states.ckpt --out {new} --set logmel.mels=x", 2, "logmel.mels = 'x'"),
        ("{old}/states.ckpt --out {new} --set feature=plp", 2, "unknown feature 'plp'"),
        ("{old}/states.ckpt --to s3prl --out {old}/other.pt", 6, "exists: choose another --out"),
        ("{old}/no --to s3prl --out {new}", 3, "there is no folder {old}/no"),
        ("{old}/states.ckpt --to wav --out {new}", 2, "'--to'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    code: int,
    message: str,
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    torch.save(s3prl_2022(SIZES, make_transformer(SIZES), make_head(SIZES)), old / "states.ckpt")
    torch.save({"epoch": 1, "model": {}, "optimizer": {}}, old / "other.pt")
    (old / "text.ckpt").write_text("hello")
    assert convert(*arguments.format(old=old, new=new).split()) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message.format(old=old, new=new) in captured.err
    assert not new.exists()


def test_reading_the_features_of_kaldi(tmp_path: Path) -> None:
    sizes = Sizes(inputs=60, outputs=60)
    document = s3prl_2022(sizes, make_transformer(sizes), make_head(sizes))
    document["Upstream_Config"]["audio"] = {
        "kaldi": {"feat_type": "fbank", "fbank": {"num_mel_bins": 20, "use_log_fbank": True}},
        "delta": {"order": 2, "win_length": 5},
        "cmvn": {"use_cmvn": True},
    }
    torch.save(document, tmp_path / "kaldi.ckpt")
    foreign = read_foreign(tmp_path / "kaldi.ckpt")
    assert foreign.features == {
        "kind": "fbank",
        "sample_rate": 16_000,
        "window_length_ms": 25.0,
        "frame_shift_ms": 10.0,
        "mels": 20,
        "amplitude": "unit",
    }
    assert convert(tmp_path / "kaldi.ckpt", "--out", tmp_path / "model") == 0
    [target] = PretrainedModel.from_pretrained(tmp_path / "model").targets
    assert (target.feature, target.dims, target.deltas) == ("fbank", 20, 2)


def test_a_dry_run_reads_all_and_writes_nothing(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    for options in ((), ("--to", "s3prl")):
        assert convert(checkpoint, "--out", tmp_path / "model", "--dry-run", *options) == 0
        captured = capsys.readouterr()
        last = captured.out.splitlines()[-1]
        assert last == f"{tmp_path}/model would have this model; nothing was written"
        assert "next: " not in captured.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_finished_conversion_is_not_made_again(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert convert(checkpoint, "--out", out) == 0
    made = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    capsys.readouterr()
    assert convert(checkpoint, "--out", out) == 0
    assert "model has this model already; nothing was written" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == made
    other = tmp_path / "other.ckpt"
    torch.save(s3prl_2022(SIZES, make_transformer(SIZES), make_head(SIZES)), other)
    assert convert(other, "--out", out) == 6
    assert f"{out} is not empty: choose another --out" in capsys.readouterr().err
