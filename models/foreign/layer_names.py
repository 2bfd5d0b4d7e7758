"""The tensors of a Transformer: s3prl's and the AALBERT repository's names, and this package's.

Both foreign systems name the parts of a layer alike. Here queries, keys and values are one
projection, and a layer that is shared is there once.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from aalbert.errors import InputError, IntegrityError
from aalbert.models.encoder import EncoderConfig

Tensors = Mapping[str, Tensor]

# The parts of the input layer, of a layer, and of a head: here, and there.
INPUT_PARTS = {"projection": "spec_transform", "input_norm": "LayerNorm"}
LAYER_PARTS = {
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "expand": "intermediate.dense",
    "contract": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
HEAD_PARTS = {"dense": "dense", "norm": "LayerNorm", "output": "output"}
PROJECTIONS = ("attention.self.query", "attention.self.key", "attention.self.value")
# With norms before attention, s3prl lists these parts of a layer a second time.
SECOND_NAMES = {
    "attention.LayerNorm": "attention.output.LayerNorm",
    "LayerNorm": "output.LayerNorm",
}
ENDS = ("weight", "bias")
# What layer norms called these in TensorFlow, and so in checkpoints up to 2020.
OLD_ENDS = {"gamma": "weight", "beta": "bias"}
# Where one layer serves all, the first layouts give it no number.
LAYER_PATTERN = re.compile(r"encoder\.layer\.(?:(\d+)\.)?([a-zA-Z].*)")
STATE_NORM_PATTERN = re.compile(r"encoder\.LayerNorm\.(\d+)\.(weight|bias)")


def with_new_ends(tensors: Tensors) -> dict[str, Tensor]:
    """Return the same tensors, `weight` and `bias` in place of `gamma` and `beta`."""
    renamed = {}
    for name, tensor in tensors.items():
        start, dot, end = name.rpartition(".")
        renamed[start + dot + OLD_ENDS.get(end, end)] = tensor
    return renamed


def split_layers(tensors: Tensors) -> list[dict[str, Tensor]]:
    """Return the tensors of every layer that is listed, in order."""
    layers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := LAYER_PATTERN.fullmatch(name):
            layers.setdefault(int(match[1] or 0), {})[match[2]] = tensor
    if not layers or sorted(layers) != list(range(len(layers))):
        raise IntegrityError(f"its layers are numbered {sorted(layers)}, not from 0 on")
    return [layers[index] for index in range(len(layers))]


def are_equal(layers: Iterable[Tensors]) -> bool:
    """Say whether all layers have the same tensors."""
    first, *others = layers
    return all(
        other.keys() == first.keys()
        and all(torch.equal(first[name], other[name]) for name in first)
        for other in others
    )


def import_encoder(tensors: Tensors, config: EncoderConfig, inputs: str) -> dict[str, Tensor]:
    """Return the tensors of an encoder by our names; `inputs` names the foreign input layer.

    Raises `InputError` for tensors of no known layout, `IntegrityError` when some are missing
    or layers that should be one differ.
    """
    known = (LAYER_PATTERN, STATE_NORM_PATTERN, re.compile(re.escape(inputs) + r"\..+"))
    for name in tensors:
        if not any(pattern.fullmatch(name) for pattern in known):
            raise InputError(f"it has a tensor '{name}', which no known layout has")
    found = {
        name.removeprefix(f"{inputs}."): tensors[name] for name in tensors if known[2].match(name)
    }
    ours = import_parts(found, INPUT_PARTS, inputs)
    for index, layer in enumerate(distinct_layers(split_layers(tensors), config)):
        for name, tensor in import_layer(layer, config, f"layer {index}").items():
            ours[f"layers.{index}.{name}"] = tensor
    return ours | import_state_norms(tensors, config)


def distinct_layers(
    layers: list[dict[str, Tensor]], config: EncoderConfig
) -> list[dict[str, Tensor]]:
    """Return the layers to keep: all, or of shared ones the first."""
    if not config.share_layers and len(layers) != config.layers:
        raise IntegrityError(f"it has {len(layers)} layers, its settings say {config.layers}")
    if config.share_layers and len(layers) not in (1, config.layers):
        raise IntegrityError(
            f"it has {len(layers)} layers, its settings say {config.layers} shared"
        )
    if config.share_layers and not are_equal(layers):
        raise IntegrityError(
            f"its {len(layers)} layers should be one, as it shares them, but differ"
        )
    return layers[:1] if config.share_layers else layers


def import_layer(layer: Tensors, config: EncoderConfig, what: str) -> dict[str, Tensor]:
    """Return the tensors of one layer by our names."""
    if config.norm == "pre":
        layer = without_second_names(layer, what)
    projections = [name for name in PROJECTIONS if keeps_projection(name, config)]
    fused = {part: layer[part] for part in layer if part.rpartition(".")[0] in projections}
    rest = {part: layer[part] for part in layer if part not in fused}
    expected = {f"{name}.{end}" for name in projections for end in ENDS}
    check_names(fused, expected, what)
    ours = import_parts(rest, LAYER_PARTS, what)
    for end in ENDS:
        parts = [fused[f"{name}.{end}"] for name in projections]
        if len({part.shape for part in parts}) != 1:
            raise IntegrityError(f"{what}: the {end} of queries, keys and values differ in shape")
        ours[f"attention.query_key_value.{end}"] = torch.cat(parts)
    return ours


def keeps_projection(name: str, config: EncoderConfig) -> bool:
    """Say whether a layer has this projection: no keys where they are the queries."""
    return not (config.share_query_key and name.endswith("key"))


def without_second_names(layer: Tensors, what: str) -> dict[str, Tensor]:
    """Return a layer without the parts that are listed twice, which must be equal."""
    kept = dict(layer)
    for second, first in SECOND_NAMES.items():
        for end in ENDS:
            twin, original = kept.pop(f"{second}.{end}", None), layer.get(f"{first}.{end}")
            if twin is not None and (original is None or not torch.equal(twin, original)):
                raise IntegrityError(f"{what}: {second}.{end} and {first}.{end} should be one")
    return kept


def import_state_norms(tensors: Tensors, config: EncoderConfig) -> dict[str, Tensor]:
    """Return the layer norms of returned states by our names, where norms come before."""
    count = config.layers + 1 if config.norm == "pre" else 0
    found = {name for name in tensors if STATE_NORM_PATTERN.fullmatch(name)}
    if len(found) != count * len(ENDS):
        raise IntegrityError(
            f"it has {len(found)} tensors encoder.LayerNorm.*, with {config.layers} layers and "
            f"layer norm {config.norm} there are {count * len(ENDS)}"
        )
    places = range(count)
    check_names(found, {f"encoder.LayerNorm.{i}.{end}" for i in places for end in ENDS}, "encoder")
    return {
        f"state_norms.{i}.{end}": tensors[f"encoder.LayerNorm.{i}.{end}"]
        for i in places
        for end in ENDS
    }


def import_parts(tensors: Tensors, parts: Mapping[str, str], what: str) -> dict[str, Tensor]:
    """Return linear layers and layer norms by our names; there must be these and no others."""
    check_names(tensors, {f"{there}.{end}" for there in parts.values() for end in ENDS}, what)
    return {
        f"{here}.{end}": tensors[f"{there}.{end}"] for here, there in parts.items() for end in ENDS
    }


def import_head(tensors: Tensors) -> dict[str, Tensor]:
    """Return the tensors of a prediction head by our names."""
    return import_parts(with_new_ends(tensors), HEAD_PARTS, "a head")


def check_names(found: Iterable[str], expected: Iterable[str], what: str) -> None:
    """Refuse tensors that are missing, or that no known layout has."""
    missing, unknown = sorted({*expected} - {*found}), sorted({*found} - {*expected})
    if missing:
        raise IntegrityError(f"{what} lacks {', '.join(missing)}")
    if unknown:
        raise InputError(f"{what} has {', '.join(unknown)}, which no known layout has")


def export_encoder(tensors: Tensors, config: EncoderConfig) -> dict[str, Tensor]:
    """Return the tensors of an encoder by s3prl's names; a shared layer under every number."""
    theirs = export_parts(tensors, "", INPUT_PARTS, "input_representations.")
    for number in range(config.layers):
        here = f"layers.{0 if config.share_layers else number}."
        there = f"encoder.layer.{number}."
        for end in ENDS:
            fused = tensors[f"{here}attention.query_key_value.{end}"]
            for name, part in zip(PROJECTIONS, fused.chunk(len(PROJECTIONS)), strict=True):
                theirs[f"{there}{name}.{end}"] = part
        theirs |= export_parts(tensors, here, LAYER_PARTS, there)
        if config.norm == "pre":
            for second, first in SECOND_NAMES.items():
                for end in ENDS:
                    theirs[f"{there}{second}.{end}"] = theirs[f"{there}{first}.{end}"]
    for number in range(config.layers + 1 if config.norm == "pre" else 0):
        for end in ENDS:
            theirs[f"encoder.LayerNorm.{number}.{end}"] = tensors[f"state_norms.{number}.{end}"]
    return theirs


def export_parts(
    tensors: Tensors, here: str, parts: Mapping[str, str], there: str
) -> dict[str, Tensor]:
    """Return linear layers and layer norms by s3prl's names."""
    return {
        f"{there}{their_name}.{end}": tensors[f"{here}{our_name}.{end}"]
        for our_name, their_name in parts.items()
        for end in ENDS
    }
