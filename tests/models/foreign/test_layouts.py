"""Imported checkpoints of every layout compute the same as a plain Transformer of their tensors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.models import FrontEndConfig, PretrainedModel
from aalbert.models.foreign.detect import read_foreign
from aalbert.models.foreign.foreign_model import ForeignModel
from tests.models.foreign.transformers import (
    GENERATIONS,
    Reference,
    Sizes,
    lightning,
    make_head,
    make_transformer,
    s3prl_2019,
    s3prl_2020,
    s3prl_2022,
)

SHARED = Sizes()
SEPARATE = Sizes(shared=False)
FEATURES = {"kind": "logmel"}
Write = Callable[[Sizes, dict[str, Tensor], dict[str, Tensor]], dict[str, Any]]
every_generation = pytest.mark.parametrize("write", GENERATIONS.values(), ids=GENERATIONS)


def checkpoint(path: Path, document: dict[str, Any], zipped: bool = True) -> Path:
    torch.save(document, path, _use_new_zipfile_serialization=zipped)
    return path


def read(tmp_path: Path, document: dict[str, Any]) -> ForeignModel:
    return read_foreign(checkpoint(tmp_path / "states.ckpt", document))


def build(foreign: ForeignModel, feature_dims: int = 20) -> PretrainedModel:
    front_end = FrontEndConfig(**{**foreign.front_end, "feature_dims": feature_dims})
    return foreign.build({"kind": "logmel"}, front_end)


def check_same(model: PretrainedModel, reference: Reference, frames: int = 40) -> None:
    """Every state and the prediction agree, also in a batch with a longer utterance."""
    generator = torch.Generator().manual_seed(9)
    inputs = torch.randn(2, frames + 3, reference.sizes.inputs, generator=generator)
    assert model.upstream.encoder is not None
    with torch.no_grad():
        lengths = torch.tensor([frames, frames + 3])
        states = model.upstream.encoder(inputs, lengths)
        [prediction] = model(inputs, lengths).values()
    expected = reference.states(inputs[0, :frames])
    assert len(states) == len(expected) == reference.sizes.layers + 1
    for ours, theirs in zip(states, expected, strict=True):
        assert torch.allclose(ours[0, :frames].double(), theirs, atol=1e-5)
    assert torch.allclose(
        prediction[0, :frames].double(), reference.predict(expected[-1]), atol=1e-5
    )


@every_generation
@pytest.mark.parametrize("sizes", [SHARED, SEPARATE], ids=["shared", "separate"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_every_generation_computes_what_its_tensors_say(
    tmp_path: Path, write: Write, sizes: Sizes, zipped: bool
) -> None:
    tensors, head = make_transformer(sizes), make_head(sizes)
    path = checkpoint(tmp_path / "states.ckpt", write(sizes, tensors, head), zipped)
    model = build(read_foreign(path))
    check_same(model, Reference(sizes, tensors, head))
    assert model.upstream.encoder is not None
    assert len(model.upstream.encoder.layers) == (1 if sizes.shared else 3)
    assert model.config.training["steps"] == 1000


@pytest.mark.parametrize(
    "sizes",
    [
        replace(SEPARATE, norms_first=True),
        replace(SHARED, norms_first=True),
        replace(SHARED, activation="relu"),
        replace(SEPARATE, layers=1),
    ],
)
def test_variants_of_s3prl(tmp_path: Path, sizes: Sizes) -> None:
    tensors, head = make_transformer(sizes), make_head(sizes)
    model = build(read(tmp_path, s3prl_2022(sizes, tensors, head)))
    check_same(model, Reference(sizes, tensors, head))


@every_generation
def test_names_of_parallel_training_are_known(tmp_path: Path, write: Write) -> None:
    tensors, head = make_transformer(SHARED), make_head(SHARED)
    document = write(SHARED, tensors, head)
    for key, group in document.items():
        if isinstance(group, dict) and all(isinstance(each, Tensor) for each in group.values()):
            document[key] = {f"module.{name}": each for name, each in group.items()}
    check_same(build(read(tmp_path, document)), Reference(SHARED, tensors, head))


def test_queries_that_are_keys_too(tmp_path: Path) -> None:
    sizes = replace(SHARED, shared_query_key=True)
    tensors, head = make_transformer(sizes), make_head(sizes)
    model = build(read(tmp_path, s3prl_2019(sizes, tensors, head)))
    check_same(model, Reference(sizes, tensors, head))
    assert model.config.encoder is not None and model.config.encoder.share_query_key


def test_stacked_frames_are_those_of_the_settings(tmp_path: Path) -> None:
    document = s3prl_2020(SHARED, make_transformer(SHARED), make_head(SHARED))
    document["Settings"]["Config"]["transformer"]["downsample_rate"] = 2
    model = build(read(tmp_path, document), feature_dims=10)
    assert model.config.front_end.frames_stacked == 2
    assert model.targets[0].dims == 10


def test_a_target_beside_stored_features_is_the_linear_spectrogram(tmp_path: Path) -> None:
    sizes = replace(SHARED, outputs=1025)
    document = s3prl_2019(sizes, make_transformer(sizes), make_head(sizes))
    document["Settings"]["Config"]["solver"] = {"duo_feature": True}
    [target] = build(read(tmp_path, document)).targets
    assert (target.feature, target.dims, target.deltas) == ("linear", 1025, 0)


@pytest.mark.parametrize(("outputs", "dims", "deltas"), [(20, 10, 1), (10, 10, 0)])
def test_a_head_may_predict_deltas_or_not(
    tmp_path: Path, outputs: int, dims: int, deltas: int
) -> None:
    sizes = replace(SHARED, outputs=outputs)
    foreign = read(tmp_path, s3prl_2020(sizes, make_transformer(sizes), make_head(sizes)))
    model = foreign.build(FEATURES, FrontEndConfig(feature_dims=10, deltas=1))
    [target] = model.targets
    assert (target.dims, target.deltas) == (dims, deltas)


def test_features_of_2020_that_were_not_read_from_files(tmp_path: Path) -> None:
    document = s3prl_2020(SHARED, make_transformer(SHARED), make_head(SHARED))
    audio = s3prl_2022(SHARED, {}, {})["Upstream_Config"]["audio"]
    document["Settings"]["Config"]["online"] = audio
    foreign = read(tmp_path, document)
    assert foreign.features is not None
    assert (foreign.features["mels"], foreign.features["wave"]) == (20, {"loudness_db": -25})
    del audio["target_level"]
    foreign = read(tmp_path, document)
    assert foreign.features is not None
    assert foreign.features["wave"] == {"loudness_db": None}


def test_long_audio_is_cut_as_s3prl_cuts_it(tmp_path: Path) -> None:
    """Chunks of `torch.chunk` of at most `sequence_length` frames, encoded separately."""
    document = s3prl_2022(SHARED, make_transformer(SHARED), make_head(SHARED))
    document["Upstream_Config"]["task"]["sequence_length"] = 16
    model = build(read(tmp_path, document))
    reference = Reference(SHARED, make_transformer(SHARED), make_head(SHARED))
    inputs = torch.randn(37, 20)
    assert model.upstream.encoder is not None
    with torch.no_grad():
        last = model.upstream.encoder(inputs.unsqueeze(0), torch.tensor([37]))[-1][0]
    pieces = [reference.states(piece)[-1] for piece in inputs.chunk(3)]
    assert torch.allclose(last.double(), torch.cat(pieces), atol=1e-5)


def test_without_a_sequence_length_nothing_is_cut(tmp_path: Path) -> None:
    document = s3prl_2022(SHARED, make_transformer(SHARED), make_head(SHARED))
    document["Upstream_Config"]["task"]["sequence_length"] = 0
    encoder = read(tmp_path, document).encoder
    assert encoder.chunk_frames is None


@pytest.mark.parametrize("text", ["False", "True"])
@pytest.mark.parametrize("sizes", [SHARED, SEPARATE], ids=["shared", "separate"])
def test_a_text_for_share_layer_does_not_count(tmp_path: Path, sizes: Sizes, text: str) -> None:
    tensors, head = make_transformer(sizes), make_head(sizes)
    document = s3prl_2022(sizes, tensors, head)
    document["Upstream_Config"]["transformer"]["share_layer"] = text
    document["Upstream_Config"]["transformer"]["pre_layer_norm"] = text
    foreign = read(tmp_path, document)
    assert foreign.encoder.share_layers == sizes.shared
    check_same(build(foreign), Reference(sizes, tensors, head))


def test_a_head_may_be_missing(tmp_path: Path) -> None:
    document = s3prl_2022(SHARED, make_transformer(SHARED), make_head(SHARED))
    del document["SpecHead"]
    assert build(read(tmp_path, document)).targets == ()


@pytest.mark.parametrize("stacked", [1, 2])
def test_a_checkpoint_of_the_aalbert_repository(tmp_path: Path, stacked: int) -> None:
    sizes = replace(SHARED, inputs=80 * stacked, outputs=12 * stacked)
    tensors, head = make_transformer(sizes), make_head(sizes)
    token = torch.randn(80 * stacked)
    document = lightning(sizes, tensors, [head], stacked=stacked, mask_token=token)
    foreign = read(tmp_path, document)
    model = build(foreign, feature_dims=80)
    check_same(model, Reference(sizes, tensors, head))
    assert torch.equal(model.mask_token, token)  # type: ignore[arg-type]
    assert [(target.feature, target.dims) for target in model.targets] == [("linear", 12)]
    assert model.config.front_end.frames_stacked == stacked
    assert "name of the file with its feature settings" in foreign.notes[0]


def test_two_heads_predict_two_features(tmp_path: Path) -> None:
    sizes = replace(SEPARATE, inputs=80, outputs=12)
    tensors = make_transformer(sizes)
    heads = [make_head(sizes), make_head(replace(sizes, outputs=80), seed=5)]
    document = lightning(sizes, tensors, heads, stacked=1, mask_token=None)
    model = build(read(tmp_path, document), feature_dims=80)
    inputs = torch.randn(1, 30, 80)
    with torch.no_grad():
        predictions = model(inputs, torch.tensor([30]))
    assert list(predictions) == ["linear", "logmel"]
    for prediction, head in zip(predictions.values(), heads, strict=True):
        reference = Reference(sizes, tensors, head)
        expected = reference.predict(reference.states(inputs[0])[-1])
        assert torch.allclose(prediction[0].double(), expected, atol=1e-5)


def test_learned_positions_are_kept(tmp_path: Path) -> None:
    sizes = replace(SHARED, inputs=80)
    tensors = make_transformer(sizes)
    document = lightning(sizes, tensors, [make_head(sizes)], stacked=1, mask_token=None)
    table = torch.randn(30, sizes.width)
    document["state_dict"]["pretrained_model.extractor.input_reps.position_embed.weight"] = table
    foreign = read(tmp_path, document)
    assert foreign.encoder.positions == "learned"
    assert "beyond 30 encoder frames" in foreign.notes[1]
    model = build(foreign, feature_dims=80)
    inputs = torch.randn(1, 25, 80)
    assert model.upstream.encoder is not None
    with torch.no_grad():
        first = model.upstream.encoder(inputs, torch.tensor([25]))[0][0]
    reference = Reference(sizes, tensors, {})
    projected = reference.linear("input_representations.spec_transform", inputs[0].double())
    expected = reference.norm("input_representations.LayerNorm", projected + table[:25])
    assert torch.allclose(first.double(), expected, atol=1e-5)


def change(document: dict[str, Any], path: str, value: Any) -> None:
    *groups, name = path.split("/")
    for group in groups:
        document = document[group]
    if value is KeyError:
        del document[name]
    else:
        document[name] = value


TRANSFORMER = "Upstream_Config/transformer"
AUDIO = "Upstream_Config/audio"


@pytest.mark.parametrize(
    ("place", "value", "error", "message"),
    [
        ("Transformer", KeyError, InputError, "its layout is not known: it has the keys SpecHead,"),
        ("Transformer", [1], InputError, "'Transformer' is not a group of named tensors"),
        ("Upstream_Config", KeyError, InputError, "neither Config nor Upstream_Config has a"),
        (
            f"{TRANSFORMER}/hidden_size",
            KeyError,
            InputError,
            "transformer has no 'hidden_size', only",
        ),
        (
            f"{TRANSFORMER}/hidden_size",
            "wide",
            InputError,
            "hidden_size is 'wide', expected a number",
        ),
        (f"{TRANSFORMER}/hidden_size", 16.5, InputError, "is 16.5, expected a whole number"),
        (f"{TRANSFORMER}/hidden_size", True, InputError, "is True, expected a number"),
        (f"{TRANSFORMER}/hidden_size", 2**40, IntegrityError, "have width 16 and 24, its settings"),
        (
            f"{TRANSFORMER}/num_attention_heads",
            5,
            InputError,
            "settings are invalid: encoder.width 16",
        ),
        (f"{TRANSFORMER}/num_hidden_layers", 9, IntegrityError, "3 layers, its settings say 9"),
        (f"{TRANSFORMER}/hidden_act", "swish", InputError, "'swish', expected gelu or relu"),
        (
            f"{TRANSFORMER}/layer_norm_eps",
            1e-5,
            InputError,
            "layer_norm_eps is 1e-05, expected 1e-12",
        ),
        (f"{TRANSFORMER}/prune_headids", "0,1", InputError, "pruned heads cannot be imported"),
        (
            f"{TRANSFORMER}/pre_layer_norm",
            True,
            IntegrityError,
            "it has 0 tensors encoder.LayerNorm",
        ),
        (
            f"{AUDIO}/target/delta",
            -1,
            InputError,
            "delta is -1, expected a whole number of at least 0",
        ),
        (f"{TRANSFORMER}/downsample_rate", 0, InputError, "a whole number of at least 1"),
        ("SpecHead/output.bias", torch.zeros(0), IntegrityError, "no weights"),
        (f"{AUDIO}/input/feat_type", "phase", InputError, "'phase', expected mel or linear"),
        (f"{AUDIO}/input/log", False, InputError, "log is false: features here are logarithms"),
        (f"{AUDIO}/input/cmvn", "False", InputError, "cmvn is 'False', expected true or false"),
        (f"{AUDIO}/target_level", "loud", InputError, "target_level is 'loud', expected a number"),
        (
            "Transformer/encoder.layer.1.output.dense.bias",
            torch.zeros(16),
            IntegrityError,
            "its 3 layers should be equal, as it shares them, but differ",
        ),
        (
            "Transformer/encoder.layer.1.output.dense.bias",
            KeyError,
            IntegrityError,
            "should be equal, as it shares them, but differ",
        ),
        (
            "Transformer/encoder.pooler.bias",
            torch.zeros(2),
            InputError,
            "tensor 'encoder.pooler.bias'",
        ),
        ("SpecHead/output.bias", KeyError, IntegrityError, "a head lacks output.bias"),
        (
            "SpecHead/extra.bias",
            torch.zeros(2),
            InputError,
            "a head has extra.bias, which no known",
        ),
        ("SpecHead/output.bias", torch.zeros(7), IntegrityError, "a head|'heads.logmel.output"),
        (
            "SpecHead/output.bias",
            torch.full((20,), torch.nan),
            IntegrityError,
            "holds NaN or infinity",
        ),
        ("SpecHead/output.bias", torch.zeros(20, dtype=torch.long), IntegrityError, "no weights"),
        ("SpecHead/output.bias", torch.tensor(1.0), IntegrityError, "no weights"),
    ],
)
def test_an_inconsistent_checkpoint_is_an_error(
    tmp_path: Path, place: str, value: Any, error: type[Exception], message: str
) -> None:
    document = s3prl_2022(SHARED, make_transformer(SHARED), make_head(SHARED))
    change(document, place, value)
    with pytest.raises(error, match=message):
        build(read(tmp_path, document))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encoder.layer.1.attention.self.key.weight", "layer 1 lacks attention.self.key.weight"),
        ("encoder.layer.2.intermediate.dense.bias", "layer 2 lacks intermediate.dense.bias"),
        ("input_representations.LayerNorm.bias", "input_representations lacks LayerNorm.bias"),
    ],
)
def test_a_missing_tensor_is_named(tmp_path: Path, name: str, message: str) -> None:
    document = s3prl_2022(SEPARATE, make_transformer(SEPARATE), make_head(SEPARATE))
    del document["Transformer"][name]
    with pytest.raises(IntegrityError, match=message):
        read(tmp_path, document)


NORMS_FIRST = replace(SHARED, norms_first=True)
LAYER = "Transformer/encoder.layer.0"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (f"{LAYER}.LayerNorm.weight", torch.zeros(16), "LayerNorm.weight should be equal"),
        (f"{LAYER}.output.LayerNorm.weight", KeyError, "LayerNorm.weight should be equal"),
        (f"{LAYER}.attention.self.key.bias", torch.zeros(9), "queries, keys and values differ"),
        (f"{LAYER}.attention.self.key.weight", torch.zeros(16), "queries, keys and values differ"),
        ("Transformer/encoder.LayerNorm.3.bias", KeyError, "it has 7 tensors encoder.LayerNorm"),
        (f"{TRANSFORMER}/num_hidden_layers", 999, "it has 8 tensors encoder.LayerNorm"),
        (f"{TRANSFORMER}/num_hidden_layers", 10**9, r"say 1e\+09 layers, no model has more than"),
    ],
)
def test_an_inconsistent_layer_is_an_error(
    tmp_path: Path, place: str, value: Any, message: str
) -> None:
    tensors = make_transformer(NORMS_FIRST)
    tensors = {name: part for name, part in tensors.items() if ".layer.1" not in name}
    tensors = {name: part for name, part in tensors.items() if ".layer.2" not in name}
    document = s3prl_2022(NORMS_FIRST, tensors, make_head(NORMS_FIRST))
    change(document, place, value)
    with pytest.raises(IntegrityError, match=message):
        read(tmp_path, document)


def test_features_of_other_dims_are_refused_with_the_calculation(tmp_path: Path) -> None:
    foreign = read(tmp_path, s3prl_2022(SHARED, make_transformer(SHARED), make_head(SHARED)))
    message = (
        r"reads 20 numbers per encoder frame, these settings give 160: 80 dims x 2 with deltas"
    )
    with pytest.raises(ConfigError, match=message):
        foreign.build(FEATURES, FrontEndConfig(feature_dims=80, deltas=1))


def test_lightning_of_another_system_is_an_error(tmp_path: Path) -> None:
    document = {"state_dict": {"wav2vec.weight": torch.zeros(2)}, "hyper_parameters": {}}
    with pytest.raises(InputError, match="hyper_parameters has no 'model_config', only nothing"):
        read(tmp_path, document)


def test_a_missing_file_and_a_list_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file .*nothing.ckpt: expected a checkpoint"):
        read_foreign(tmp_path / "nothing.ckpt")
    with pytest.raises(InputError, match=r"states.ckpt: it holds a list, not a checkpoint"):
        read(tmp_path, [1])  # type: ignore[arg-type]
