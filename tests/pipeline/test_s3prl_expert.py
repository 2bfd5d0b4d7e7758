import importlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

import aalbert
from aalbert.cli import main
from aalbert.common.s3prl_stubs import SOX_MODULE, add_stubs
from aalbert.errors import ConfigError
from aalbert.pipeline import s3prl_expert
from aalbert.pipeline.audio.decode import read_audio
from aalbert.pipeline.s3prl_expert import UpstreamExpert
from tests.examples import examples_of
from tests.models.systems import make_system


def voices(seconds: Sequence[float]) -> list[Tensor]:
    generator = np.random.default_rng(6)
    waves = [generator.standard_normal(round(length * 16_000)) * 0.1 for length in seconds]
    return [torch.from_numpy(wave.astype(np.float32)) for wave in waves]


def test_the_expert_gives_the_hidden_states_of_the_model(model_folder: Path) -> None:
    waves = voices([0.5, 0.8])
    expert = UpstreamExpert(str(model_folder), refresh=False).eval()
    with torch.no_grad():
        found = expert(waves)
    expected = aalbert.from_pretrained(model_folder).extract(waves)
    assert len(found["hidden_states"]) == 3
    assert torch.equal(found["last_hidden_state"], found["hidden_states"][-1])
    for place, states in enumerate(expected):
        for number, state in enumerate(states):
            padded = found["hidden_states"][number][place, : len(state)]
            torch.testing.assert_close(padded, state, rtol=0, atol=1e-5)
    assert expert.get_downsample_rates("hidden_states") == 320


def test_a_configuration_beside_the_checkpoint_is_refused(model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="model_config is x.yaml: the checkpoint holds all"):
        UpstreamExpert(str(model_folder), "x.yaml")


def test_stubs_for_removed_parts_of_torchaudio_do_nothing_or_raise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("set_audio_backend", "sox_effects"):
        monkeypatch.setattr(torchaudio, name, None, raising=False)
        monkeypatch.delattr(torchaudio, name)
    monkeypatch.setitem(sys.modules, SOX_MODULE, ModuleType("anything"))
    add_stubs()
    assert torchaudio.set_audio_backend("sox_io") is None
    effects = importlib.import_module(SOX_MODULE)
    assert effects is torchaudio.sox_effects
    for effect in (effects.apply_effects_tensor, effects.apply_effects_file):
        with pytest.raises(NotImplementedError, match="sox_effects is not in torchaudio"):
            effect("speech.wav", [["gain"]])


@pytest.fixture(scope="module")
def upstream(model_folder: Path) -> Any:
    """The model as s3prl itself loads it."""
    with warnings.catch_warnings():
        # s3prl and what it imports use much that is deprecated.
        warnings.simplefilter("ignore")
        pytest.importorskip("s3prl", reason="`make test-s3prl` installs s3prl")
        s3prl_expert.register()
        from s3prl.nn import S3PRLUpstream

        return S3PRLUpstream("aalbert", path_or_url=str(model_folder)).eval()


@pytest.mark.slow
def test_s3prl_loads_the_expert_and_mixes_its_layers(upstream: Any, model_folder: Path) -> None:
    from s3prl.nn import Featurizer

    assert upstream.num_layers == 3
    assert upstream.hidden_sizes == [16] * 3
    assert upstream.downsample_rates == [320] * 3
    waves = voices([0.5, 0.8])
    with torch.no_grad():
        states, lengths = upstream(
            torch.nn.utils.rnn.pad_sequence(waves, batch_first=True),
            torch.tensor([len(wave) for wave in waves]),
        )
        mixed, _ = Featurizer(upstream)(states, lengths)
    assert [each.tolist() for each in lengths] == [[25, 40]] * 3
    expected = aalbert.from_pretrained(model_folder).extract(waves)
    for place, own in enumerate(expected):
        for number in range(3):
            torch.testing.assert_close(
                states[number][place, : own.shape[1]], own[number], rtol=0, atol=1e-5
            )
        torch.testing.assert_close(mixed[place, : own.shape[1]], own.mean(dim=0), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_s3prl_runs_on_real_speech(upstream: Any, shared: Path, model_folder: Path) -> None:
    files = sorted((shared / "data/LibriSpeech/test-clean").rglob("*.flac"))[:3]
    waves = [torch.from_numpy(read_audio(file, 16_000).wave) for file in files]
    with torch.no_grad():
        states, lengths = upstream(
            torch.nn.utils.rnn.pad_sequence(waves, batch_first=True),
            torch.tensor([len(wave) for wave in waves]),
        )
    model = aalbert.from_pretrained(model_folder)
    for place, wave in enumerate(waves):
        own = model.extract(wave)
        frames = min(own.shape[1], int(lengths[-1][place]))
        assert abs(own.shape[1] - int(lengths[-1][place])) <= 1
        torch.testing.assert_close(states[-1][place, :frames], own[-1, :frames], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "aalbert-paper", "aalbert-seed"])
def test_s3prl_uses_a_folder_that_was_written_for_it(
    upstream: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3prl.nn import Featurizer

    monkeypatch.chdir(tmp_path)
    make_system(name).save_pretrained("runs/pretrain")
    command, use = [each["code"] for each in examples_of("export.md") if "s3prl" in each["about"]]
    assert main(command.split()[1:]) == 0
    given: dict[str, Any] = {}
    exec(compile(use, "export.md", "exec"), given)
    opened, model = given["upstream"].eval(), aalbert.from_pretrained("runs/pretrain")
    assert opened.num_layers == 4 and opened.hidden_sizes == [16] * 4
    waves = voices([1.0, 1.6])
    with torch.no_grad():
        states, lengths = opened(
            torch.nn.utils.rnn.pad_sequence(waves, batch_first=True),
            torch.tensor([len(wave) for wave in waves]),
        )
        Featurizer(opened)(states, lengths)
    for place, wave in enumerate(waves):
        own = model.extract(wave)
        frames = min(own.shape[1], int(lengths[-1][place]))
        assert abs(own.shape[1] - int(lengths[-1][place])) <= 1
        found = torch.stack([state[place, :frames] for state in states])
        torch.testing.assert_close(found, own[:, :frames], rtol=0, atol=1e-4)
