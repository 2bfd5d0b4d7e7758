"""The modules beside the weights of a model compute what this package computes, without it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import fsspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import aalbert
from aalbert.errors import InputError
from aalbert.models import (
    DownstreamModel,
    EncoderConfig,
    FrontEndConfig,
    HeadConfig,
    UpstreamConfig,
)
from aalbert.models import Upstream as OurUpstream
from aalbert.models.checkpoint import FILE_NAMES, MODULE_NAMES, MODULES_FOLDER
from aalbert.models.foreign.upstream_folder import EXPERT_NAMES
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.standalone.encoder_aalbert import Upstream
from aalbert.models.standalone.features_aalbert import WaveFeatures
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND
from tests.examples import examples_of
from tests.models.systems import CHUNK_FRAMES, SYSTEMS, make_system
from tests.waves import EMPTY_BANDS

ROOT = Path(__file__).parents[2]


def standalone_of(model: PretrainedModel) -> Upstream:
    upstream = Upstream(model.config.to_dict())
    upstream.load_state_dict(model.upstream.state_dict())
    return upstream.eval()


def waves(*seconds: float) -> tuple[Tensor, Tensor]:
    """Noise that becomes louder, padded with NaN, and its samples."""
    lengths = torch.tensor([round(16_000 * each) for each in seconds])
    padded = torch.full((len(seconds), int(lengths.max())), torch.nan)
    generator = torch.Generator().manual_seed(8)
    for row, length in enumerate(lengths.tolist()):
        noise = torch.randn(length, generator=generator)
        padded[row, :length] = noise * torch.linspace(0.01, 0.2, length)
    return padded, lengths


@pytest.mark.parametrize("name", SYSTEMS)
@torch.no_grad()
def test_states_of_features_are_ours_within_1e_5(name: str) -> None:
    model = make_system(name)
    stacked, dims = model.config.front_end.frames_stacked, model.config.front_end.feature_dims
    frames = [stacked * count + 1 for count in (CHUNK_FRAMES, 3 * CHUNK_FRAMES - 5, 10, 1)]
    features = torch.randn(len(frames), max(frames), dims) * 3 - 8
    ours, our_lengths = model.upstream(features, torch.tensor(frames))
    for row, count in enumerate(frames):
        features[row, count:] = torch.nan
    found, lengths = standalone_of(model)(features, torch.tensor(frames))
    assert len(found) == len(ours)
    assert torch.equal(lengths, our_lengths)
    for mine, theirs in zip(ours, found, strict=True):
        assert mine.std() > 0.1
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(theirs[row, :length], mine[row, :length], rtol=0, atol=1e-5)


def test_the_systems_have_every_choice_of_the_settings() -> None:
    configs = [make_system(name).config.to_dict() for name in SYSTEMS]
    for group, config in (("encoder", EncoderConfig), ("front_end", FrontEndConfig)):
        for name, hint in get_type_hints(config).items():
            choices = set(get_args(hint)) - {"speaker"} if get_origin(hint) is Literal else set()
            assert choices <= {each[group][name] for each in configs}, name
    features = [each["features"] for each in configs]
    assert {each["kind"] for each in features} == set(SETTINGS_BY_KIND)


def test_dropout_is_that_of_our_training() -> None:
    model = make_system("learned").train()
    standalone = standalone_of(model).train()
    features, lengths = torch.randn(2, 3 * CHUNK_FRAMES, 13), torch.tensor([3 * CHUNK_FRAMES, 9])
    states: list[Tensor] = []
    for upstream in (model.upstream, standalone, standalone):
        torch.manual_seed(len(states) // 2)
        states.append(upstream(features, lengths)[0][-1][0])
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=1e-5)
    assert (states[1] - states[2]).abs().max() > 0.1


def gradient(states: list[Tensor], inputs: Tensor) -> Tensor:
    return torch.autograd.grad(states[-1].square().sum(), inputs)[0]


@pytest.mark.parametrize("name", ["tera-3l", "linear"])
def test_silence_has_gradients_also_after_inference(name: str) -> None:
    """With normalisation of an utterance, and with loudness."""
    model = make_system(name)
    features, upstream = WaveFeatures(model.config.features), standalone_of(model)
    samples, frames = torch.tensor([4_000]), torch.tensor([26])
    silence, noise = torch.zeros(1, 4_000), torch.randn(1, 4_000)
    with torch.inference_mode():
        features(silence, samples)
    for wave in (silence, noise):
        states, _ = upstream(features(wave.requires_grad_(), samples), frames)
        assert gradient(states, wave).isfinite().all()
    assert gradient(upstream(features(noise, samples), frames)[0], noise).abs().max() > 0
    constant = torch.zeros(1, 26, upstream.front_end.config["feature_dims"], requires_grad=True)
    assert gradient(upstream(constant, frames)[0], constant).isfinite().all()


@torch.no_grad()
def test_work_grows_with_the_length_where_positions_restart() -> None:
    upstream = standalone_of(make_system("tiny"))
    counted = []
    for frames in (3 * CHUNK_FRAMES, 30 * CHUNK_FRAMES):
        # Of attention, this backend's products of matrices are counted.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            upstream(torch.randn(1, 3 * frames, 80), torch.tensor([3 * frames]))
        assert torch.ops.aten.bmm in counter.get_flop_counts()["Global"]
        counted.append(counter.get_total_flops())
    assert counted[1] == 10 * counted[0]


def test_plain_features_with_their_neighbours_are_ours() -> None:
    front_end = FrontEndConfig(feature_dims=6, deltas=1, context=3, frames_stacked=2)
    model = OurUpstream(UpstreamConfig(features={"kind": "logmel"}, front_end=front_end))
    features, lengths = torch.randn(3, 12, 6), torch.tensor([12, 7, 1])
    [ours], _ = model(features, lengths)
    [found], found_lengths = Upstream(model.config.to_dict())(features, lengths)
    assert found_lengths.tolist() == [6, 3, 1]
    torch.testing.assert_close(found, ours, rtol=0, atol=1e-6)


def require_states_of_waves(
    model: PretrainedModel, padded: Tensor, samples: Tensor, atol: float
) -> None:
    features = WaveFeatures(model.config.features)
    found, lengths = standalone_of(model)(features(padded, samples), features.count_frames(samples))
    opened = aalbert.EmbeddingModel(model, model.upstream)
    for row, count in enumerate(samples.tolist()):
        expected = opened.extract(padded[row, :count])
        states = torch.stack([state[row, : lengths[row]] for state in found])
        torch.testing.assert_close(states, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", SYSTEMS)
@torch.no_grad()
def test_states_of_waves_are_ours_within_the_rounding_of_features(name: str) -> None:
    require_states_of_waves(make_system(name), *waves(1.3, 0.2), atol=1e-4)


@pytest.mark.parametrize("name", EMPTY_BANDS)
@torch.no_grad()
def test_states_of_waves_with_empty_bands_differ_more(name: str) -> None:
    """The kernel's float32 rounds what is nearly 0, see test_features.py."""
    wave = torch.from_numpy(EMPTY_BANDS[name])
    samples = torch.tensor([len(wave)])
    require_states_of_waves(make_system("tiny"), wave[None], samples, atol=5e-3)


# A program in which `aalbert` cannot be imported opens folders with `transformers`.
PROGRAM = """
import json, sys, warnings
sys.modules["aalbert"] = None
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
inputs, out, example, *folders = sys.argv[1:]
given, found, errors = load_file(inputs), {}, {}
mask = (torch.arange(given["waves"].shape[1]) < given["samples"].unsqueeze(1)).long()
for folder in folders:
    assert AutoConfig.from_pretrained(folder, trust_remote_code=True).model_type == "aalbert"
    model, report = AutoModel.from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True
    )
    assert not any(report.values()), report
    assert not model.training
    with torch.no_grad():
        output = model(given["waves"], mask, output_hidden_states=True)
        plain = model(given["waves"], mask, return_dict=False)
    assert len(plain) == 1 and torch.equal(plain[0], output.hidden_states[-1])
    assert torch.equal(output.last_hidden_state, output.hidden_states[-1])
    found[f"{folder}|states"] = torch.stack(output.hidden_states)
    found[f"{folder}|frames"] = model.count_frames(given["samples"])

def failing(name, *arguments, **others):
    try:
        model(*arguments, **others)
    except ValueError as error:
        errors[name] = str(error)

failing("nothing")
failing("a wave alone", given["waves"][0])
failing("short", given["waves"][:, :399])
failing("other mask", given["waves"], mask.flip(1))
failing("a mask alone", given["waves"], mask[0])
failing("fewer masks", given["waves"], mask[:1])
failing("empty", given["waves"][:0])
failing("integers", given["waves"].nan_to_num().short())
failing("other dims", input_features=torch.zeros(2, 5, 7))
failing("no frames", input_features=torch.zeros(2, 5, 20), attention_mask=torch.zeros(2, 5))
model.config.upstream["encoder"].update(beyond_positions="continue", position_frames=20)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model(given["waves"], mask)
    [beyond] = caught
    # Padding is beyond them, but no utterance.
    model(given["waves"], torch.arange(16_000).expand(2, -1) < 3_000)
errors["beyond"] = str(beyond.message)
assert len(caught) == 1
save_file(found, out)
print(json.dumps(errors))
model.save_pretrained("resaved")
half = AutoModel.from_pretrained("resaved", trust_remote_code=True, dtype=torch.float16)
assert half.upstream.front_end.mean.dtype == torch.float32
assert half(given["waves"], mask)[0].dtype == torch.float16
again = AutoModel.from_pretrained("resaved", trust_remote_code=True)
assert torch.equal(again(given["waves"], mask)[0], output.last_hidden_state)
exec(compile(example, "export.md", "exec"))
"""


@pytest.fixture(scope="module")
def downstream_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A downstream model on a pretrained one, which stacks frames."""
    upstream = make_system("linear").upstream
    folder = tmp_path_factory.mktemp("downstream")
    DownstreamModel(upstream, ["a", "b"], "weighted", HeadConfig(hidden=(6,))).save_pretrained(
        folder
    )
    return folder


def run_without_aalbert(
    folder: Path, given: dict[str, Tensor], models: list[Path]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the states that `transformers` computes in another process, and errors.

    The example of docs/export.md runs there too.
    """
    [example] = [each["code"] for each in examples_of("export.md") if "transf" in each["about"]]
    save_file(given, folder / "inputs.safetensors")
    outputs = folder / "outputs.safetensors"
    variables = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1"}
    arguments = map(str, (folder / "inputs.safetensors", outputs, example, *models))
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, *arguments],
        env={**os.environ, **variables},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return load_file(outputs), json.loads(done.stdout)


def test_transformers_opens_models_where_aalbert_is_not_installed(
    model_folder: Path, downstream_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "runs/pretrain/export")
    padded, samples = waves(1.0, 0.6)
    models = [downstream_folder, model_folder]
    found, errors = run_without_aalbert(tmp_path, {"waves": padded, "samples": samples}, models)
    for folder in models:
        opened = aalbert.from_pretrained(folder)
        for row, count in enumerate(samples.tolist()):
            expected = opened.extract(padded[row, :count])
            frames = found[f"{folder}|frames"][row]
            states = found[f"{folder}|states"][:, row, :frames]
            torch.testing.assert_close(states, expected, rtol=0, atol=1e-4)
    assert errors == {
        "nothing": "give input_values (batch, samples) or input_features (batch, frames, dims), "
        "found []",
        "a wave alone": "give input_values (batch, samples) or input_features (batch, frames, "
        "dims), found [(16000,)]",
        "short": "row 0 has 399 samples: every row needs at least 400",
        "other mask": "attention_mask (2, 16000): expected (2, 16000), in every row ones before "
        "zeros",
        "a mask alone": "attention_mask (16000,): expected (2, 16000), in every row ones before "
        "zeros",
        "fewer masks": "attention_mask (1, 16000): expected (2, 16000), in every row ones before "
        "zeros",
        "empty": "the batch (0, 16000) is empty: give at least one row",
        "integers": "inputs of torch.int16: give floats, of waves those in [-1, 1), such as int16 "
        "samples divided by 32,768",
        "other dims": "input_features have 7 dims, this model reads 20",
        "beyond": "an utterance of 50 encoder frames goes beyond the 20 positions that this "
        "encoder was trained on, and its states there are unreliable: cut it",
        "no frames": "row 0 has 0 frames: every row needs at least 1",
    }
    with pytest.raises(InputError) as caught:
        aalbert.from_pretrained(tmp_path / "resaved")
    assert str(caught.value) == (
        f"{tmp_path / 'resaved'} was saved by transformers, without what aalbert needs: open it by "
        "transformers.AutoModel, or name the model that it was made of"
    )


def test_what_leaves_says_its_licence(model_folder: Path, downstream_folder: Path) -> None:
    [holder] = re.findall(r"^Copyright .*", (ROOT / "LICENSE").read_text(), re.M)
    for name in (*MODULE_NAMES, *EXPERT_NAMES):
        text = (MODULES_FOLDER / name).read_text()
        assert text.startswith(f"# {holder}\n# SPDX-License-Identifier: MIT\n"), name
    for folder in (model_folder, downstream_folder):
        card = " ".join((folder / "README.md").read_text().split())
        assert re.search(r"`\*_aalbert.py` are .*software under the MIT licence", card)


def test_an_export_holds_the_modules_of_the_package(model_folder: Path) -> None:
    for name in MODULE_NAMES:
        assert (model_folder / name).read_bytes() == (MODULES_FOLDER / name).read_bytes()
    assert {path.name for path in model_folder.iterdir()} == set(FILE_NAMES)


def test_a_folder_without_modules_is_saved_again_with_them(
    model_folder: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(model_folder, old, ignore=shutil.ignore_patterns("*_aalbert.py"))
    PretrainedModel.from_pretrained(old).save_pretrained(tmp_path / "new")
    for name in (*MODULE_NAMES, "model.safetensors", "config.json"):
        assert (tmp_path / "new" / name).read_bytes() == (model_folder / name).read_bytes()


@pytest.fixture
def fetched(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the files that are fetched from `memory://models/standalone`."""
    store = fsspec.filesystem("memory")
    for name in FILE_NAMES:
        store.pipe(f"/models/standalone/{name}", (model_folder / name).read_bytes())
    names: list[str] = []
    get = aalbert.common.store.Store.get

    def counted(self: Any, name: str, path: Path) -> None:
        names.append(name)
        get(self, name, path)

    monkeypatch.setattr(aalbert.common.store.Store, "get", counted)
    yield names
    store.rm("/models", recursive=True)


def test_no_module_that_leaves_imports_this_package() -> None:
    for name in (*MODULE_NAMES, *EXPERT_NAMES):
        text = (MODULES_FOLDER / name).read_text()
        assert not re.search(r"^\s*(import|from) aalbert", text, re.M), name


def test_the_model_imports_every_module_that_lies_beside_it() -> None:
    """transformers 5.0 finds no others."""
    text = (MODULES_FOLDER / "modeling_aalbert.py").read_text()
    imported = {f"{name}.py" for name in re.findall(r"^from \.(\w+) import", text, re.M)}
    assert imported == set(MODULE_NAMES) - {"modeling_aalbert.py"}


def test_only_weights_are_fetched_beside_the_settings(fetched: list[str]) -> None:
    aalbert.from_pretrained("memory://models/standalone")
    assert fetched == ["model.safetensors"]


def test_what_the_modules_cannot_is_named() -> None:
    config = make_system("tiny").config.to_dict()
    cut = {**config["features"], "wave": {**config["features"]["wave"], "silence": {}}}
    wave = torch.zeros(1, 800), torch.tensor([800])
    with pytest.raises(ValueError, match=r"waves whose silence was cut .* give it input_features"):
        WaveFeatures(cut)(*wave)
    with pytest.raises(ValueError, match=r"reads features of the kind energy, which are not in"):
        WaveFeatures({"kind": "energy"})(*wave)
    kaldi = {"kind": "fbank", "amplitude": "int24"}
    with pytest.raises(ValueError, match=r"reads fbank.amplitude int24, which are not in"):
        WaveFeatures(kaldi)(*wave)
    with pytest.raises(ValueError, match=r"reads statistics of every speaker .*: use aalbert"):
        Upstream({**config, "front_end": {**config["front_end"], "normalisation": "speaker"}})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encoder.activation", "knows gelu, relu: use the modules of the version that saved"),
        ("encoder.norm", "knows post, pre: use"),
        ("encoder.positions", "knows sinusoidal, learned, rotary: use"),
        ("encoder.beyond_positions", "knows continue, restart: use"),
        ("front_end.normalisation", "knows utterance, global, none: use"),
    ],
)
def test_an_unknown_setting_is_refused(name: str, message: str) -> None:
    config = make_system("tiny").config.to_dict()
    group, _, setting = name.partition(".")
    config[group][setting] = "other"
    with pytest.raises(ValueError) as caught:
        Upstream(config)
    assert str(caught.value).startswith(f"{name} is 'other', this module {message}")
