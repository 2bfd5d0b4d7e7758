"""The examples of these pages run; the map names what is there."""

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aalbert.cli import main
from aalbert.models.foreign.export import export_s3prl
from tests.examples import examples_of
from tests.hub_server import TOKEN, Repository
from tests.models.foreign.test_export import make_model

ROOT = Path(__file__).parent.parent
ROOMS = (
    "commands",
    "common",
    "conversion",
    "kernel",
    "pipeline",
    "shards",
    "models",
    "train",
    "website",
)
EXAMPLES = examples_of("embeddings.md")


@pytest.fixture
def places(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths that the examples name."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, "runs/pretrain")
    Path("recordings").mkdir()
    generator = np.random.default_rng(3)
    for path in ("speech.wav", "recordings/one.wav", "recordings/two.wav"):
        soundfile.write(path, generator.standard_normal(12_000) * 0.1, 16_000)


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("language", ["sh", "python"])
def test_the_examples_run(language: str) -> None:
    chosen = [each for each in EXAMPLES if each["language"] == language]
    assert chosen
    for example in chosen:
        if language == "sh":
            for line in example["code"].splitlines():
                assert main(shlex.split(line)[1:]) == 0, line
        elif "s3prl" not in example["about"]:
            exec(compile(example["code"], "embeddings.md", "exec"), {"CHECKOUT": str(ROOT)})


@pytest.mark.usefixtures("places")
def test_the_examples_of_the_hub_run(
    hub_model: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    export_s3prl(make_model(), Path("states.ckpt"))
    hub_model.commit({"states.ckpt": Path("states.ckpt").read_bytes()})
    for example in examples_of("hub.md"):
        if example["language"] == "sh":
            for line in example["code"].splitlines():
                assert main(shlex.split(line)[1:]) == 0, line
        else:
            exec(compile(example["code"], "hub.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.usefixtures("places")
@pytest.mark.filterwarnings("ignore")
def test_the_example_of_s3prl_runs() -> None:
    if importlib.util.find_spec("s3prl") is None:
        pytest.skip("`make test-s3prl` installs s3prl")
    [example] = [each for each in EXAMPLES if "s3prl" in each["about"]]
    exec(compile(example["code"], "embeddings.md", "exec"), {})


def test_the_example_of_models_runs() -> None:
    [code] = [each["code"] for each in examples_of("models.md") if each["language"] == "python"]
    exec(compile(code, "models.md", "exec"), {})


def test_the_example_of_continuing_runs(
    pretrained: Path, librispeech_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pretrained, "runs/pretrain")
    shutil.copytree(librispeech_data, "data/radio")
    [code] = [each["code"] for each in examples_of("pretrain.md") if "--from" in each["code"]]
    commands = [shlex.split(line)[1:] for line in code.replace("\\\n", " ").splitlines()]
    assert [words[0] for words in commands] == ["pretrain", "inspect"]
    for words in commands:
        fewer = ["--set", "steps=2"] if words[0] == "pretrain" else []
        assert main([*words, *fewer]) == 0


def test_every_path_in_the_map_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([\w./]+(?:/|\.py|\.toml))`", text))
    assert len(named) > 80
    files = {path.name for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    missing = [
        name for name in named if not (ROOT / name).exists() and ("/" in name or name not in files)
    ]
    assert missing == []


def test_the_map_names_every_folder_with_code() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("__init__.py")}
    inner = {path for path in folders if not any(path in other.parents for other in folders)}
    assert [str(path) for path in inner if f"`{path.relative_to(ROOT)}/" not in text] == []
