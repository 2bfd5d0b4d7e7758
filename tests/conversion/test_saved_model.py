"""A checkpoint file given as the upstream is converted on the way."""

import http.server
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from aalbert.cli import main
from aalbert.common.files import file_digest
from aalbert.conversion.checkpoint_file import is_foreign
from aalbert.conversion.saved_model import as_saved
from aalbert.errors import AalbertError
from aalbert.models import PretrainedModel
from aalbert.train.run_folder import RunFolder
from tests.local_server import LocalServer, serving
from tests.models.foreign.transformers import (
    Sizes,
    make_head,
    make_transformer,
    s3prl_2020,
    s3prl_2022,
)
from tests.pipeline.test_convert import Run

SIZES = Sizes()
ONE_EPOCH = ("--set", "epochs=1", "--set", "prefetch=0")


def document() -> dict[str, Any]:
    """A checkpoint of s3prl that reads what `voxceleb1_data` has."""
    made = s3prl_2022(SIZES, make_transformer(SIZES), make_head(SIZES))
    # The data were not scaled to a loudness.
    del made["Upstream_Config"]["audio"]["target_level"]
    return made


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "states-1000.ckpt"
    torch.save(document(), path)
    return path


def downstream(data: Path, out: Path, *arguments: object) -> int:
    words = ["downstream", "voxceleb1", "--out", str(out), *map(str, arguments)]
    return main(words if "--resume" in words else [*words, "--data", str(data), *ONE_EPOCH])


def test_a_run_is_that_of_the_converted_model_and_records_the_file(
    checkpoint: Path, voxceleb1_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, runs = tmp_path / "model", [RunFolder(tmp_path / name) for name in ("direct", "two")]
    assert main(["convert", str(checkpoint), "--out", str(model)]) == 0
    capsys.readouterr()
    assert downstream(voxceleb1_data, runs[0].path, "--upstream", checkpoint) == 0
    converted = f"{checkpoint}: converted from s3prl since 2022\n"
    assert capsys.readouterr().err.count(converted) == 1
    assert downstream(voxceleb1_data, runs[1].path, "--upstream", model) == 0
    weights = [(run.export / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    records = [run.read_record() for run in runs]
    assert [record["upstream"] for record in records] == [str(checkpoint), str(model)]
    assert records[0]["upstream_weights"] == records[1]["upstream_weights"]
    assert {record["upstream_file"] for record in records} == {file_digest(checkpoint)}


def test_a_run_goes_on_with_the_same_file_only(
    checkpoint: Path, voxceleb1_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "run")
    assert downstream(voxceleb1_data, run.path, "--upstream", checkpoint) == 0
    expected = (run.export / "model.safetensors").read_bytes()
    shutil.rmtree(run.export)
    assert downstream(voxceleb1_data, run.path, "--resume") == 0
    assert (run.export / "model.safetensors").read_bytes() == expected
    shutil.rmtree(run.export)
    moved = checkpoint.rename(tmp_path / "moved.ckpt")
    capsys.readouterr()
    assert downstream(voxceleb1_data, run.path, "--resume") == 3
    missing = f"there is no file {checkpoint}: expected a checkpoint, a run or a saved model"
    assert missing in capsys.readouterr().err
    assert downstream(voxceleb1_data, run.path, "--resume", "--upstream", moved) == 0
    other = document()
    other["Transformer"]["input_representations.LayerNorm.bias"] += 1
    torch.save(other, moved)
    assert downstream(voxceleb1_data, run.path, "--resume") == 4
    assert "holds other weights than when the run began with it" in capsys.readouterr().err


def test_a_sweep_converts_once(
    checkpoint: Path, voxceleb1_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "voxceleb1", "--data", str(voxceleb1_data), "--upstream", str(checkpoint)]
    words += ["--set", "lr=1e-3,1e-2", *ONE_EPOCH, "--out", str(tmp_path / "sweep")]
    assert main(words) == 0
    assert capsys.readouterr().err.count("converted from") == 1
    points = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["points"]
    assert len(points) == 2


def test_pretraining_goes_on_from_a_file(
    checkpoint: Path, voxceleb1_data: Path, tmp_path: Path
) -> None:
    words = ["pretrain", "--from", str(checkpoint), "--data", str(voxceleb1_data)]
    words += ["--set", "steps=1", "--set", "data.splits=[train]", "--set", "data.prefetch=0"]
    assert main([*words, "--set", "data.crop_seconds=1", "--out", str(tmp_path / "run")]) == 0
    origin = RunFolder(tmp_path / "run").read_record()["continued_from"]
    assert origin["model"] == str(checkpoint)
    assert origin["training"]["converted_file_xxh3"] == file_digest(checkpoint)


@contextmanager
def serving_files(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the URL of a folder's files, and the list of what was fetched."""
    fetched: list[str] = []

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            fetched.append(self.path)
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with serving(LocalServer(Files)) as server:
        yield server.url, fetched


@pytest.mark.parametrize("query", ["", "?dl=1", "?X-Amz-Signature=abc/def"])
def test_a_file_at_a_url_is_fetched_once(checkpoint: Path, query: str) -> None:
    with serving_files(checkpoint.parent) as (site, fetched):
        url = f"{site}/{checkpoint.name}{query}"
        assert is_foreign(url)
        assert as_saved(url) == as_saved(url)
    assert fetched == [f"/{checkpoint.name}{query}"]
    ours, direct = (
        PretrainedModel.from_pretrained(as_saved(place)) for place in (url, str(checkpoint))
    )
    torch.testing.assert_close(ours.state_dict(), direct.state_dict(), rtol=0, atol=0)


def test_a_bad_file_at_a_url_is_named_by_its_url(tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"nothing")
    with serving_files(tmp_path) as (site, _):
        with pytest.raises(AalbertError) as caught:
            as_saved(f"{site}/bad.ckpt?key=secret")
        assert str(caught.value).startswith(f"{site}/bad.ckpt?key=***: ")
        assert "/tmp" not in str(caught.value) and "secret" not in str(caught.value)


def test_what_cannot_be_converted_is_one_line(
    voxceleb1_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.ckpt"
    other = document()
    other["Upstream_Config"]["audio"]["target_level"] = -25
    evil = {**document(), "Optimizer": Run(tmp_path / "ran")}
    untold = s3prl_2020(SIZES, make_transformer(SIZES), make_head(SIZES))
    for content, code, message in (
        (other, 2, "wave.loudness_db: expected -25.0, found None"),
        (evil, 4, f"{path}: its pickle calls posix.mkdir, which no plain checkpoint does"),
        (untold, 2, "Say which to 'aalbert convert': --set feature=logmel (or fbank, mfcc, linear"),
        ({"model": {}}, 3, f"{path}: its layout is not known: it has the keys model, expected"),
    ):
        torch.save(content, path)
        assert downstream(voxceleb1_data, tmp_path / "run", "--upstream", path) == code
        assert message in capsys.readouterr().err
        assert not (tmp_path / "run").exists() and not (tmp_path / "ran").exists()
