import json
from pathlib import Path

import pytest
import torch

from aalbert.errors import InputError, IntegrityError
from aalbert.models import (
    DownstreamModel,
    EncoderConfig,
    FrontEndConfig,
    HeadConfig,
    PretrainedModel,
    UpstreamConfig,
)
from aalbert.models.upstream import Upstream


@pytest.fixture
def model() -> PretrainedModel:
    config = UpstreamConfig(
        features={"kind": "logmel", "mels": 8},
        front_end=FrontEndConfig(feature_dims=8, normalisation="global"),
        encoder=EncoderConfig(layers=2, width=16, heads=2, feed_forward_width=32),
        training={"steps": 7},
    )
    model = PretrainedModel(config)
    model.upstream.front_end.mean.copy_(torch.randn(8))
    return model.eval()


def test_a_model_read_back_computes_the_same(model: PretrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    copy = PretrainedModel.from_pretrained(tmp_path)
    features, lengths = torch.randn(2, 9, 8), torch.tensor([9, 4])
    assert copy.config == model.config
    for ours, theirs in zip(
        model.upstream(features, lengths)[0], copy.upstream(features, lengths)[0], strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_run_folder_stands_for_its_export(model: PretrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "export")
    PretrainedModel.from_pretrained(tmp_path)


def test_saving_twice_gives_the_same_bytes(model: PretrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "a")
    model.save_pretrained(tmp_path / "b")
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_flipped_bit_in_the_weights_is_noticed(model: PretrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"model\.safetensors .* not what was written"):
        PretrainedModel.from_pretrained(tmp_path)


def test_an_unknown_format_version_is_refused(model: PretrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**document, "format_version": 99}))
    with pytest.raises(IntegrityError, match="version 99, this aalbert reads .* version 1"):
        PretrainedModel.from_pretrained(tmp_path)


def test_what_is_no_model_is_named_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder .*nowhere"):
        PretrainedModel.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no config\.json, nor has .*export"):
        PretrainedModel.from_pretrained(tmp_path)
    (tmp_path / "states.ckpt").touch()
    with pytest.raises(
        InputError, match=r"states\.ckpt is a file: 'aalbert convert' makes a model"
    ):
        PretrainedModel.from_pretrained(tmp_path / "states.ckpt")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="is not finished: continue it with --resume"):
        PretrainedModel.from_pretrained(tmp_path)


def test_a_classifier_is_no_pretrained_model(model: PretrainedModel, tmp_path: Path) -> None:
    DownstreamModel(model.upstream, ["a", "b"], "last", HeadConfig()).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds a 'downstream' model, expected a 'pre"):
        PretrainedModel.from_pretrained(tmp_path)


def test_a_classifier_read_back_scores_the_same(model: PretrainedModel, tmp_path: Path) -> None:
    classifier = DownstreamModel(model.upstream, ["a", "b", "c"], "weighted", HeadConfig()).eval()
    classifier.save_pretrained(tmp_path)
    copy = DownstreamModel.from_pretrained(tmp_path)
    features, lengths = torch.randn(2, 9, 8), torch.tensor([9, 4])
    assert copy.classes == ["a", "b", "c"]
    assert torch.equal(classifier(features, lengths), copy(features, lengths))


def test_a_frozen_upstream_gets_no_gradient_and_no_dropout(model: PretrainedModel) -> None:
    classifier = DownstreamModel(model.upstream, ["a", "b"], "weighted", HeadConfig()).train()
    features, lengths = torch.randn(2, 9, 8), torch.tensor([9, 4])
    assert torch.equal(classifier(features, lengths), classifier(features, lengths))
    classifier(features, lengths).sum().backward()
    assert all(parameter.grad is None for parameter in classifier.upstream.parameters())
    assert all(parameter.grad is not None for parameter in classifier.head.parameters())


def test_an_upstream_without_an_encoder_gives_its_features() -> None:
    config = UpstreamConfig(
        features={}, front_end=FrontEndConfig(feature_dims=8, normalisation="none")
    )
    features, lengths = torch.randn(1, 9, 8), torch.tensor([9])
    states, state_lengths = Upstream(config)(features, lengths)
    assert len(states) == 1
    assert torch.equal(states[0], features)
    assert state_lengths.tolist() == [9]
