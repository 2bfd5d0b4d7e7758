"""`torch.hub` loads the checkout as it lies here, without and with the package installed."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import aalbert
from aalbert import hubconf
from aalbert.errors import ConfigError, InputError

ROOT = Path(__file__).parent.parent
SCRIPT = """
import json, sys
import numpy, torch
repository, checkpoint = sys.argv[1:3]
wave = numpy.random.default_rng(1).standard_normal(8000).astype("float32") * 0.1
before = set(sys.modules)
model = torch.hub.load(repository, "aalbert", checkpoint, source="local")
print(json.dumps(model.extract(wave).numpy().tolist()))
modules = {name for name in set(sys.modules) - before if "." not in name}
print(json.dumps([*modules, "torch", "numpy"]))
"""
# Hides the installed package, editable or not, so that the checkout is used in its place.
HIDDEN = """
import sys
from importlib import machinery, util

class PathFinder(machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "aalbert" else super().find_spec(name, path, target)

sys.meta_path[:] = [machinery.BuiltinImporter, machinery.FrozenImporter, PathFinder]
assert util.find_spec("aalbert") is None
"""


BUILT = pytest.mark.skipif(
    not any((ROOT / "kernel").glob("native*.so")), reason="`make setup` builds the checkout"
)


@pytest.mark.parametrize(
    "prelude",
    [pytest.param("", marks=pytest.mark.slow), pytest.param(HIDDEN, marks=BUILT)],
    ids=["installed", "a bare checkout"],
)
def test_a_script_elsewhere_loads_a_model(model_folder: Path, tmp_path: Path, prelude: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", prelude + SCRIPT, str(ROOT), str(model_folder)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    wave = np.random.default_rng(1).standard_normal(8000).astype(np.float32) * np.float32(0.1)
    expected = aalbert.from_pretrained(model_folder).extract(wave)
    states, modules = [json.loads(line) for line in done.stdout.splitlines()]
    np.testing.assert_allclose(states, expected.numpy(), atol=1e-6)
    assert required_of(modules) == required_of(hubconf.dependencies)


def required_of(modules: list[str]) -> set[str]:
    """The packages of these modules, of those that ours requires itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {re.split(r"[=<>]", each)[0] for each in project["dependencies"]}
    packages = packages_distributions()
    found = {package.lower() for name in modules for package in packages.get(name, [])}
    return found & required


UNBUILT_SCRIPT = """
wave = numpy.random.default_rng(2).standard_normal(8000).astype("float32") * 0.1
for kind in ("logmel", "linear", "fbank", "mfcc"):
    feature = torch.hub.load(repository, kind, source="local")
    print(json.dumps(feature.extract(wave).numpy().tolist()))
from aalbert.cli import main
assert main(["prepare", "librispeech", sys.argv[3], "--out", "data"]) == 2
"""
NOT_IN_A_BUILD = (".*", "native*", "tests", "docs", "lock", "benchmarks", "typings", "__pycache__")


def test_a_checkout_that_is_not_built_reads_waves_and_prepares_nothing(
    model_folder: Path, librispeech_folder: Path, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*NOT_IN_A_BUILD))
    places = (checkout, model_folder, librispeech_folder)
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN + SCRIPT + UNBUILT_SCRIPT, *map(str, places)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    states, _, *features = [np.array(json.loads(line)) for line in done.stdout.splitlines()]
    wave = np.random.default_rng(1).standard_normal(8000).astype(np.float32) * np.float32(0.1)
    expected = aalbert.from_pretrained(model_folder).extract(wave)
    np.testing.assert_allclose(states, expected, atol=1e-4)
    wave = np.random.default_rng(2).standard_normal(8000).astype(np.float32) * np.float32(0.1)
    for kind, found in zip(("logmel", "linear", "fbank", "mfcc"), features, strict=True):
        # Nearly empty bins of a plain spectrum magnify rounding most.
        atol = 1e-2 if kind == "linear" else 1e-3
        np.testing.assert_allclose(found, load(kind).extract(wave), atol=atol)
    warning = "aalbert is not built: PyTorch computes the features, many times slower, with "
    assert done.stderr.count(f"{warning}other last digits; pip install {checkout} builds it") == 1
    *_, refusal = done.stderr.splitlines()
    assert refusal == (
        "aalbert: aalbert is not built, which reading files and preparing data need: "
        f"pip install {checkout}"
    )


def test_the_entry_points_are_known() -> None:
    """torch.hub offers whatever can be called and has a name without an underscore before it."""
    names = [name for name, value in vars(hubconf).items() if callable(value) and name[0] != "_"]
    known = ["aalbert", "fbank", "linear", "logmel", "mfcc", "mockingjay", "tera"]
    assert sorted(names) == known


def load(name: str, *arguments: Any, **settings: Any) -> aalbert.EmbeddingModel:
    model = torch.hub.load(  # type: ignore[no-untyped-call]
        ROOT, name, *arguments, source="local", **settings
    )
    assert isinstance(model, aalbert.EmbeddingModel)
    return model


@pytest.mark.parametrize(
    ("name", "width", "frames"),
    [("logmel", 80, 51), ("linear", 201, 51), ("fbank", 80, 48), ("mfcc", 13, 48)],
)
def test_features_are_models_without_layers(name: str, width: int, frames: int) -> None:
    wave = np.random.default_rng(1).standard_normal(8000).astype(np.float32)
    model = load(name)
    assert (model.layers, model.width, model.frame_shift_ms) == (0, width, 10.0)
    assert model.extract(wave).shape == (1, frames, width)
    assert torch.equal(model.extract(wave)[0], torch.from_numpy(model.features(wave, 16_000)))


def test_features_take_settings_deltas_and_normalisation() -> None:
    wave = np.random.default_rng(1).standard_normal(8000).astype(np.float32)
    found = load("fbank", mels=40, deltas=2, normalisation="utterance").extract(wave)[0]
    assert found.shape == (48, 120)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(120), rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match="normalisation is 'global': plain features have none or"):
        load("logmel", normalisation="global")
    with pytest.raises(ConfigError, match="'logmel' has settings this version does not know: bins"):
        load("logmel", bins=3)


def test_a_model_of_another_system_is_refused(model_folder: Path) -> None:
    with pytest.raises(InputError, match=r"has share_layers True: Audio ALBERT \(aalbert\) shares"):
        load("tera", str(model_folder))
