import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aalbert.common.files import file_digest
from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.models.wave_encoders import transformers_encoder
from aalbert.models.wave_encoders.open import (
    lasting_encoder_name,
    open_wave_encoder,
    reopen_wave_encoder,
    weights_of_encoder,
)
from aalbert.models.wave_encoders.wave_upstream import (
    WaveFrames,
    WaveUpstream,
    WaveUpstreamConfig,
)
from aalbert.models.wave_encoders.work import counted_macs_per_second
from tests.encoders import save_encoder
from tests.hub_server import FakeHub, Repository

LENGTHS = torch.tensor([16_000, 1_359, 9_321])
# Layer norm over channels, as in the large models, instead of group norm over time.
KINDS: list[tuple[str, bool, dict[str, Any]]] = [
    ("wav2vec2", True, {}),
    ("hubert", False, {"feat_extract_norm": "layer", "do_stable_layer_norm": True}),
    ("wavlm", True, {}),
    ("data2vec-audio", False, {}),
    ("unispeech", True, {}),
]


def waves() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 16_000, 1) * 0.1 + 0.02


def states_by_transformers(folder: Path, wave: Tensor) -> list[Tensor]:
    """The hidden states of a wave `(samples,)` as the library computes them."""
    from transformers import AutoFeatureExtractor, AutoModel

    prepare = AutoFeatureExtractor.from_pretrained(folder)
    inputs = prepare(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        outputs = AutoModel.from_pretrained(folder).eval()(
            inputs.input_values, output_hidden_states=True
        )
    return [state[0] for state in outputs.hidden_states]


@pytest.mark.parametrize(("kind", "normalise", "settings"), KINDS, ids=[each[0] for each in KINDS])
def test_states_are_those_of_transformers_whatever_else_is_in_the_batch(
    tmp_path: Path, kind: str, normalise: bool, settings: dict[str, Any]
) -> None:
    folder = save_encoder(tmp_path / kind, kind, normalise=normalise, **settings)
    upstream, batch = open_wave_encoder(f"hf:{folder}"), waves()
    assert not upstream.state_dict() and not list(upstream.parameters())
    states, lengths = upstream(batch, LENGTHS)
    assert len(states) == upstream.states == 3 and lengths.tolist() == [49, 3, 28]
    for place, (length, frames) in enumerate(zip(LENGTHS.tolist(), lengths.tolist(), strict=True)):
        expected = states_by_transformers(folder, batch[place, :length, 0])
        for state, own in zip(states, expected, strict=True):
            assert own.shape == (frames, upstream.width)
            torch.testing.assert_close(state[place, :frames], own, rtol=0, atol=1e-6)
            assert (state[place, frames:] == 0).all()


def test_a_frame_has_the_time_of_the_samples_that_it_is_computed_from(tmp_path: Path) -> None:
    # Without normalisation over time a frame depends on its receptive field alone.
    folder = save_encoder(
        tmp_path / "model", "wav2vec2", normalise=False, feat_extract_norm="layer"
    )
    upstream = open_wave_encoder(f"hf:{folder}")
    wave = torch.randn(1, 3_000, requires_grad=True)
    model: Any = upstream.encoders[0]
    convolved = model.model.feature_extractor(wave)
    times = upstream.config.frame_times()
    assert upstream.config.frames.count(3_000) == convolved.shape[2]
    for frame in range(convolved.shape[2]):
        (gradient,) = torch.autograd.grad(convolved[0, :, frame].sum(), wave, retain_graph=True)
        used = gradient[0].nonzero()
        centre_ms = float(used.min() + used.max() + 1) / 2 / 16
        assert times.first_ms + frame * times.shift_ms == pytest.approx(centre_ms)


def test_an_utterance_shorter_than_a_frame_is_one_frame_of_it_and_silence(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "model", "hubert", normalise=False)
    upstream = open_wave_encoder(f"hf:{folder}")
    states, lengths = upstream(waves(), torch.tensor([16_000, 16_000, 40]))
    padded = torch.nn.functional.pad(waves()[2, :40, 0], (0, 360))
    assert lengths.tolist() == [49, 49, 1]
    torch.testing.assert_close(
        states[-1][2, :1], states_by_transformers(folder, padded)[-1], rtol=0, atol=1e-6
    )


def test_untrained_weights_are_random_by_the_seed(tmp_path: Path) -> None:
    name = f"hf:{save_encoder(tmp_path / 'model', 'wavlm')}"
    trained, one, same, other = (open_wave_encoder(name, seed) for seed in (None, 1, 1, 2))
    found = [each(waves(), LENGTHS)[0][-1] for each in (trained, one, same, other)]
    assert torch.equal(found[1], found[2])
    assert not torch.equal(found[1], found[3]) and not torch.equal(found[0], found[1])
    assert one.config.parameters == trained.config.parameters > 1_000


def test_an_encoder_is_found_again_and_another_one_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_encoder(tmp_path / "model", "wavlm")
    monkeypatch.chdir(tmp_path)
    name = lasting_encoder_name("hf:model")
    assert name == f"hf:{folder}"
    config = open_wave_encoder(name).config
    assert config.weights_xxh3 == weights_of_encoder(name)
    assert reopen_wave_encoder(config).config == config
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=f"there is no folder {folder}: expected a speech encoder"):
        reopen_wave_encoder(config)
    torch.manual_seed(6)
    save_encoder(folder, "wavlm", hidden_dropout=0.3)
    with pytest.raises(IntegrityError, match="model is not the encoder that the head was trained"):
        reopen_wave_encoder(config)


def test_weights_in_parts_and_in_pickles_are_the_same_encoder(tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = save_encoder(tmp_path / "one", "hubert")
    parts = save_encoder(tmp_path / "parts", "hubert")
    (parts / "model.safetensors").unlink()
    AutoModel.from_pretrained(folder).save_pretrained(parts, max_shard_size="10KB")
    assert len(list(parts.glob("model-*.safetensors"))) > 1
    pickled = save_encoder(tmp_path / "pickled", "hubert")
    (pickled / "model.safetensors").unlink()
    torch.save(AutoModel.from_pretrained(folder).state_dict(), pickled / "pytorch_model.bin")
    expected = open_wave_encoder(f"hf:{folder}")(waves(), LENGTHS)[0]
    for other in (parts, pickled):
        found = open_wave_encoder(f"hf:{other}")(waves(), LENGTHS)[0]
        assert all(map(torch.equal, found, expected))
    next(parts.glob("model-00001*")).unlink()
    with pytest.raises(InputError, match=r"names model-00001.*, which is not beside it: copy"):
        open_wave_encoder(f"hf:{parts}")


def test_preprocessing_is_part_of_what_an_encoder_is(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "model", "hubert")
    name, description = f"hf:{folder}", folder / "preprocessor_config.json"
    config = open_wave_encoder(name).config
    document = json.loads(description.read_text())
    description.write_text(json.dumps({**document, "do_normalize": False}))
    assert weights_of_encoder(name) != config.weights_xxh3
    with pytest.raises(IntegrityError, match="is not the encoder that the head was trained on"):
        reopen_wave_encoder(config)
    description.unlink()
    assert len({weights_of_encoder(name), config.weights_xxh3}) == 2


def test_a_file_is_hashed_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def digest(path: Path) -> str:
        hashed.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(transformers_encoder, "file_digest", digest)
    folder = save_encoder(tmp_path / "model", "hubert")
    name = f"hf:{folder}"
    for _ in range(3):
        assert open_wave_encoder(name).config.weights_xxh3 == weights_of_encoder(name)
    assert sorted(hashed) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    first = weights_of_encoder(name)
    (folder / "model.safetensors").write_bytes(content)
    assert weights_of_encoder(name) != first and hashed[3:] == ["model.safetensors"]


def test_random_weights_are_what_an_untrained_encoder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_encoder(tmp_path / "model", "hubert")
    name = f"hf:{folder}"
    config = open_wave_encoder(name, 1).config
    assert reopen_wave_encoder(config).config == config
    assert config.weights_xxh3 != open_wave_encoder(name, 2).config.weights_xxh3
    # Another version of a library may draw others by the same seed.
    draw = transformers_encoder.make_untrained
    monkeypatch.setattr(transformers_encoder, "make_untrained", lambda c, seed: draw(c, seed + 1))
    with pytest.raises(IntegrityError, match="is not the encoder that the head was trained on"):
        reopen_wave_encoder(config)


def test_an_untrained_model_of_half_precision_computes_in_float32(tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = save_encoder(tmp_path / "model", "wav2vec2")
    AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    for seed in (None, 1):
        states, _ = open_wave_encoder(f"hf:{folder}", seed)(waves(), LENGTHS)
        assert states[-1].dtype == torch.float32 and bool(states[-1].isfinite().all())


def test_an_adapter_behind_the_states_is_left_out(tmp_path: Path) -> None:
    plain = open_wave_encoder(f"hf:{save_encoder(tmp_path / 'plain', 'wav2vec2')}")
    folder = save_encoder(tmp_path / "adapted", "wav2vec2", add_adapter=True, output_hidden_size=16)
    adapted = open_wave_encoder(f"hf:{folder}")
    assert adapted.config.parameters == plain.config.parameters
    assert counted_macs_per_second(adapted, 1.0) == counted_macs_per_second(plain, 1.0)
    with torch.no_grad():
        expected = states_by_transformers(folder, waves()[0, :, 0])
    states, _ = adapted(waves()[:1], LENGTHS[:1])
    assert len(states) == len(expected)
    torch.testing.assert_close(states[-1][0], expected[-1], rtol=0, atol=1e-6)


def test_an_encoder_moves_with_the_module_that_holds_it(tmp_path: Path) -> None:
    upstream = open_wave_encoder(f"hf:{save_encoder(tmp_path / 'model', 'hubert')}")
    parameter = next(upstream.encoders[0].parameters())
    assert parameter.device.type == "cpu"
    torch.nn.Sequential(upstream).to("meta")
    assert {each.device.type for each in upstream.encoders[0].parameters()} == {"meta"}


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("run-by-a-pickle"),))


def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_encoder(tmp_path / "model", "hubert")
    (folder / "model.safetensors").unlink()
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Harmful()}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be opened by transformers"):
        open_wave_encoder(f"hf:{folder}")
    assert not (tmp_path / "run-by-a-pickle").exists()


def test_what_is_no_speech_encoder_is_an_error_of_one_line(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig, AutoModel

    def refused(folder: Path | str, text: str) -> None:
        with pytest.raises((InputError, ConfigError), match=text) as caught:
            open_wave_encoder(f"hf:{folder}")
        assert "\n" not in str(caught.value)

    refused(tmp_path / "nowhere", "there is no folder .*nowhere: expected a speech encoder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty has no config.json: expected a speech encoder")
    refused(model_folder, "is a model of aalbert, which reads stored features: name it without")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text = AutoModel.from_config(AutoConfig.for_model("bert", **sizes, intermediate_size=8))
    text.save_pretrained(tmp_path / "text")
    refused(tmp_path / "text", "text is a 'bert' model: expected a speech encoder that reads waves")
    spectra = AutoConfig.for_model("audio-spectrogram-transformer", **sizes, intermediate_size=8)
    AutoModel.from_config(spectra).save_pretrained(tmp_path / "spectra")
    refused(tmp_path / "spectra", "is a 'audio-spectrogram-transformer' model: expected a speech")
    squeezed = save_encoder(tmp_path / "sew", "sew", conv_dim=(8,) * 13)
    refused(squeezed, "an encoder whose frames are not those of its convolutions, at one rate, can")
    folder = save_encoder(tmp_path / "model", "hubert")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    refused(folder, r"model has no weights \(model.safetensors\): expected a speech encoder")
    weights.write_bytes(content[:200])
    refused(folder, "model cannot be opened by transformers")
    from safetensors.torch import load, save

    tensors = load(content)
    del tensors["encoder.layer_norm.weight"]
    weights.write_bytes(save(tensors, {"format": "pt"}))
    refused(folder, "lacks 1 of the weights that its config.json describes, such as encoder.layer")
    for kernel, reason in (('"x"', "Field 'conv_kernel' with value 'x'"), ("[9]", "but is `len")):
        (folder / "config.json").write_text(f'{{"model_type": "sew", "conv_kernel": {kernel}}}')
        refused(folder, f"model cannot be opened by transformers .*{reason}")
    (folder / "config.json").write_text('{"model_type": "unknown-to-it"}')
    refused(folder, "model cannot be opened by transformers")
    monkeypatch.setattr(transformers_encoder, "find_spec", lambda name: None)
    refused(folder, r"needs a package that is not installed: pip install 'aalbert\[hf\]'")


def test_a_model_on_the_hub_is_pinned_and_opens_again_without_a_network(
    hub: FakeHub, tmp_path: Path
) -> None:
    folder = save_encoder(tmp_path / "model", "wav2vec2")
    repository = Repository()
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    commit = repository.commit({**files, "tf_model.h5": bytes(99)})
    hub.repositories["user/speech"] = repository
    name = lasting_encoder_name("hf:user/speech")
    assert name == f"hf:user/speech@{commit}"
    assert lasting_encoder_name("hf:user/speech@main") == name
    opened = open_wave_encoder(name)
    assert not any("tf_model" in request for request in hub.requests)
    hub.fails = True
    again = reopen_wave_encoder(opened.config)
    local = open_wave_encoder(f"hf:{folder}")
    assert local.config.weights_xxh3 == again.config.weights_xxh3
    assert torch.equal(again(waves(), LENGTHS)[0][-1], local(waves(), LENGTHS)[0][-1])
    with pytest.raises(InputError, match="the Hugging Face hub cannot be asked for"):
        open_wave_encoder("hf:user/other")


def test_without_a_description_of_preprocessing_waves_are_normalised(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "model", "wav2vec2", normalise=False)
    assert not open_wave_encoder(f"hf:{folder}").config.normalised
    (folder / "preprocessor_config.json").unlink()
    config = open_wave_encoder(f"hf:{folder}").config
    assert config.normalised and config.sample_rate == 16_000


class Recurrent(nn.Module):
    """A frame every 320 samples, then a recurrent layer of two directions."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, wave: Tensor) -> list[Tensor]:
        outputs, _ = self.layer(wave[: len(wave) // 320 * 320].reshape(1, -1, 320))
        return [outputs[0]]


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_work_of_recurrent_layers_is_counted_however_they_compute(
    kind: type[nn.LSTM | nn.GRU | nn.RNN], gates: int, dtype: torch.dtype
) -> None:
    layer = kind(320, 16, num_layers=2, bidirectional=True, batch_first=True)
    config = WaveUpstreamConfig(
        name="s3prl:recurrent",
        weights_xxh3="",
        software="",
        architecture="recurrent",
        parameters=1,
        states=1,
        width=32,
        sample_rate=16_000,
        frames=WaveFrames(least_samples=320, stride_samples=320, first_centre=160),
    )
    upstream = WaveUpstream(config, Recurrent(layer)).to(dtype)
    # Two directions of gates, from the inputs and the last outputs; the first layer reads samples.
    frame = 2 * gates * 16 * ((320 + 16) + (32 + 16))
    with default_dtype(dtype):
        assert counted_macs_per_second(upstream, 1.0) == 50 * frame


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def test_work_grows_with_the_applied_layers(tmp_path: Path) -> None:
    def macs(layers: int) -> int:
        folder = save_encoder(tmp_path / str(layers), "wav2vec2", num_hidden_layers=layers)
        upstream: WaveUpstream = open_wave_encoder(f"hf:{folder}")
        return counted_macs_per_second(upstream, 1.0)

    # Of 49 frames: four projections, two of the feed-forward network, scores and weighted sums.
    layer = 49 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 49 * 49 * 16
    assert macs(4) - macs(2) == 2 * layer
