import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
import yaml

from aalbert.common.files import file_digest
from aalbert.common.store import Store
from aalbert.errors import InputError, IntegrityError
from aalbert.models import (
    DownstreamModel,
    EncoderConfig,
    FrontEndConfig,
    HeadConfig,
    PretrainedModel,
    TargetConfig,
    UpstreamConfig,
)
from aalbert.models.checkpoint import FILE_NAMES
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


def test_a_flipped_bit_in_the_weights_is_detected(model: PretrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"model\.safetensors .* not what was written"):
        PretrainedModel.from_pretrained(tmp_path)


def test_a_header_that_is_not_safetensors_is_refused_even_with_its_checksum(
    model: PretrainedModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes((2**60).to_bytes(8, "little") + weights.read_bytes()[8:])
    document = json.loads((tmp_path / "config.json").read_text())
    document["weights_xxh3"] = file_digest(weights)
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="is not a safetensors file") as caught:
        PretrainedModel.from_pretrained(tmp_path)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "change",
    [
        {"upstream": {}},
        {"upstream": None},
        {"targets": [{"feature": "logmel", "bins": 8}]},
        {"targets": [{"feature": "logmel", "dims": -8}]},
        {"targets": [{"feature": "logmel", "dims": "8"}]},
        {"upstream/training": None},
        {"upstream/encoder": None},
        {"upstream/encoder/layers": 10**9},
        {"upstream/encoder/layers": 2.5},
        {"upstream/encoder/width": 10**9},
        {"upstream/encoder/width": 10**30},
        {"upstream/encoder/norm": "both"},
        {"upstream/encoder/later_setting": 1},
        {"upstream/front_end/delta_window": 10**9 + 1},
    ],
)
def test_a_foreign_configuration_is_an_error_with_a_message(
    model: PretrainedModel, tmp_path: Path, change: dict[str, Any]
) -> None:
    model.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    for place, value in change.items():
        *groups, name = place.split("/")
        inner = document
        for group in groups:
            inner = inner[group]
        inner[name] = value
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(
        IntegrityError,
        match=r"config\.json of .* does not describe a model|config\.json is damaged",
    ):
        PretrainedModel.from_pretrained(tmp_path)


ENCODER, FRONT_END = ("upstream", "encoder"), ("upstream", "front_end")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("kind",), []),
        (("weights_xxh3",), 5),
        (("more",), 1),
        (("mask_token",), "no"),
        (("targets",), {}),
        (("targets", 0, "dims"), 10**13),
        (("targets", 0, "feature"), "a.b"),
        (("upstream", "features"), []),
        (("upstream", "features"), {}),
        (("upstream", "training"), [1]),
        (ENCODER, None),
        ((*ENCODER, "layers"), "2"),
        ((*ENCODER, "layers"), 10**7),
        ((*ENCODER, "width"), 16.0),
        ((*ENCODER, "width"), 10**8),
        ((*ENCODER, "width"), 10**12),
        ((*ENCODER, "heads"), True),
        ((*ENCODER, "activation"), "tanh"),
        ((*ENCODER, "more"), 1),
        ((*FRONT_END, "frames_stacked"), 10**9),
        ((*FRONT_END, "delta_window"), 10**9 + 1),
        ((*FRONT_END, "normalisation"), "all"),
    ],
)
def test_values_that_no_model_has_are_named_before_memory_is_taken(
    model: PretrainedModel, tmp_path: Path, place: tuple[Any, ...], value: object
) -> None:
    model.save_pretrained(tmp_path)
    found = document = json.loads((tmp_path / "config.json").read_text())
    for name in place[:-1]:
        found = found[name]
    found[place[-1]] = value
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match=r"damaged|does not describe|configuration differ"):
        PretrainedModel.from_pretrained(tmp_path)


def test_weights_of_other_sizes_are_refused(model: PretrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    document["upstream"]["encoder"]["width"] = 32
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(
        IntegrityError, match="weights and configuration differ about .*size mismatch"
    ):
        PretrainedModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["width", "feed_forward_width", "input_width"])
def test_sizes_are_compared_with_the_weights_before_a_model_is_made(
    model: PretrainedModel, tmp_path: Path, name: str
) -> None:
    model.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    document["upstream"]["encoder"][name] = 10**8
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="weights and configuration differ about 'upstream"):
        PretrainedModel.from_pretrained(tmp_path)


def test_a_configuration_that_is_nested_without_end_is_refused(
    model: PretrainedModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text().rstrip().removesuffix("}")
    for levels in (500, 100_000):
        (tmp_path / "config.json").write_text(f'{text}, "x": {"[" * levels}{"]" * levels}}}')
        with pytest.raises(
            IntegrityError, match=r"config\.json is damaged \(nested more than 50 deep\)"
        ):
            PretrainedModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b'{"a":{"dtype":"F4","shape":[0],"data_offsets":[0,0]}}', "is not a safetensors file"),
        (
            b'{"a":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}',
            "is not a safetensors file",
        ),
        (b'{"__metadata__":' + b"[" * 10_000, "is not a safetensors file"),
        (b" " * (5 * 2**20), "its header has 5,242,880 bytes, no model's has"),
    ],
)
def test_a_header_that_no_model_has_is_refused(
    model: PretrainedModel, tmp_path: Path, header: bytes, message: str
) -> None:
    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(len(header).to_bytes(8, "little") + header)
    document = json.loads((tmp_path / "config.json").read_text())
    document["weights_xxh3"] = file_digest(weights)
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match=message):
        PretrainedModel.from_pretrained(tmp_path)


STATE = {"document": {}, "card": ""}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1], "it has no 'state_dict'"),
        ({"state_dict": {"model.a": 1}, "model": STATE}, "its 'model.a' is no tensor"),
        ({"state_dict": {}, "model": {"document": {}}}, "its 'model' has no card"),
        (
            {"state_dict": {}, "model": {**STATE, "document": {"x": torch.zeros(1)}}},
            "is no JSON document",
        ),
        (
            {
                "state_dict": dict.fromkeys([f"model.{n}" for n in range(99)], torch.zeros(9_999)),
                "model": STATE,
            },
            "its tensors take more bytes than the file's",
        ),
    ],
)
def test_a_state_that_no_run_wrote_is_refused(tmp_path: Path, document: Any, message: str) -> None:
    path = tmp_path / "step-00000001.ckpt"
    torch.save(document, path)
    path.with_name(f"{path.name}.xxh3").write_text(file_digest(path))
    with pytest.raises(IntegrityError, match=rf"ckpt is no state of a run: .*{message}"):
        PretrainedModel.from_pretrained(path)


@pytest.fixture
def memory() -> Iterator[str]:
    """The URL of a store in memory."""
    yield "memory://models/ours"
    fsspec.filesystem("memory").rm("/models", recursive=True)


def test_a_model_at_a_url_is_saved_fetched_once_and_read_back(
    model: PretrainedModel, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(memory)
    names = fsspec.filesystem("memory").ls("/models/ours", detail=False)
    assert sorted(name.rsplit("/", 1)[1] for name in names) == sorted(FILE_NAMES)
    copy = PretrainedModel.from_pretrained(memory)
    for name, expected in model.state_dict().items():
        assert torch.equal(copy.state_dict()[name], expected)
    monkeypatch.setattr(Store, "get", None)
    PretrainedModel.from_pretrained(memory + "/")


def test_a_run_at_a_url_stands_for_its_export_and_a_changed_one_is_fetched_again(
    model: PretrainedModel, memory: str
) -> None:
    model.save_pretrained(f"{memory}/export")
    PretrainedModel.from_pretrained(memory)
    with torch.no_grad():
        model.upstream.front_end.mean.add_(1)
    model.save_pretrained(f"{memory}/export")
    copy = PretrainedModel.from_pretrained(memory)
    assert torch.equal(copy.upstream.front_end.mean, model.upstream.front_end.mean)


def test_a_changed_byte_in_a_store_is_detected(model: PretrainedModel, memory: str) -> None:
    model.save_pretrained(memory)
    weights = bytearray(fsspec.filesystem("memory").cat("/models/ours/model.safetensors"))
    weights[-3] ^= 4
    fsspec.filesystem("memory").pipe("/models/ours/model.safetensors", bytes(weights))
    with pytest.raises(IntegrityError, match="not what was written"):
        PretrainedModel.from_pretrained(memory)


def test_a_damaged_copy_in_the_cache_is_fetched_again(
    model: PretrainedModel, memory: str, tmp_path: Path
) -> None:
    model.save_pretrained(memory)
    PretrainedModel.from_pretrained(memory)
    [copy] = (tmp_path / "user-cache").rglob("model.safetensors")
    copy.write_bytes(copy.read_bytes()[:-1])
    PretrainedModel.from_pretrained(memory)


def test_a_url_without_a_model_is_named(memory: str) -> None:
    fsspec.filesystem("memory").pipe("/models/ours/other.txt", b"")
    with pytest.raises(InputError, match=r"memory://models/ours has no config\.json, nor has"):
        PretrainedModel.from_pretrained(memory)


def test_heads_and_mask_token_are_saved_with_what_they_reconstruct(tmp_path: Path) -> None:
    targets = (
        TargetConfig(feature="linear", dims=5, normalisation="none"),
        TargetConfig(feature="fbank", dims=4, deltas=2),
    )
    config = UpstreamConfig(
        features={"kind": "logmel"},
        front_end=FrontEndConfig(feature_dims=8, frames_stacked=2),
        encoder=EncoderConfig(layers=2, width=16, heads=2, feed_forward_width=32),
    )
    model = PretrainedModel(config, targets, mask_token=True).eval()
    model.save_pretrained(tmp_path)
    copy = PretrainedModel.from_pretrained(tmp_path)
    assert copy.targets == targets
    inputs, lengths = torch.randn(2, 5, 16), torch.tensor([5, 3])
    predicted = copy(inputs, lengths)
    assert {kind: tuple(value.shape) for kind, value in predicted.items()} == {
        "linear": (2, 5, 10),
        "fbank": (2, 5, 24),
    }
    for kind, expected in model(inputs, lengths).items():
        assert torch.equal(predicted[kind], expected)
    assert model.mask_token is not None and copy.mask_token is not None
    assert torch.equal(copy.mask_token, model.mask_token)
    stored = {"linear": torch.randn(2, 10, 5), "fbank": torch.randn(2, 10, 4)}
    wanted = model.prepare_targets(stored, torch.tensor([10, 6]))
    assert torch.equal(wanted["linear"][0], stored["linear"][0].reshape(5, 10))
    assert wanted["fbank"].shape == (2, 5, 24)


def test_a_shared_layer_is_stored_once(tmp_path: Path) -> None:
    sizes = []
    for layers in (1, 12):
        config = UpstreamConfig(
            features={"kind": "logmel"},
            front_end=FrontEndConfig(feature_dims=8),
            encoder=EncoderConfig(layers=layers, width=16, heads=2, feed_forward_width=32),
        )
        PretrainedModel(config).save_pretrained(tmp_path / str(layers))
        sizes.append((tmp_path / str(layers) / "model.safetensors").stat().st_size)
    assert sizes[0] == sizes[1]


def test_the_card_says_what_it_is_for_and_how_it_was_trained(
    model: PretrainedModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    header, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(header)["tags"][-1] == "audio-albert"
    assert "- steps: 7" in text and "## Use" in text and "licence" in text
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in text


def test_an_unknown_format_version_is_refused(model: PretrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**document, "format_version": 99}))
    with pytest.raises(IntegrityError, match="version 99, this aalbert reads .* version 1"):
        PretrainedModel.from_pretrained(tmp_path)


def test_a_path_without_a_model_is_an_error_that_names_what_was_expected(tmp_path: Path) -> None:
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
    with pytest.raises(
        InputError,
        match="holds a 'downstream' model, expected a 'pretrained' one: name a run of 'aalbert pre",
    ):
        PretrainedModel.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path / "pretrained")
    with pytest.raises(InputError, match="expected a 'downstream' one: name a run of 'aalbert dow"):
        DownstreamModel.from_pretrained(tmp_path / "pretrained")


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
        features={"kind": "logmel"}, front_end=FrontEndConfig(feature_dims=8, normalisation="none")
    )
    features, lengths = torch.randn(1, 9, 8), torch.tensor([9])
    states, state_lengths = Upstream(config)(features, lengths)
    assert len(states) == 1
    assert torch.equal(states[0], features)
    assert state_lengths.tolist() == [9]
