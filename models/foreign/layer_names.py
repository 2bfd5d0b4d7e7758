"""The names of a Transformer's tensors in s3prl and the AALBERT repository, and in this package.

Both foreign systems use the same names for the parts of a layer. In this package, queries, keys
and values are one projection, and a shared layer is stored once.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from aalbert.errors import InputError, IntegrityError
from aalbert.models.encoder_config import EncoderConfig

Tensors = Mapping[str, Tensor]

# The parts of the input layer, of a layer, and of a head: our names and the foreign names.
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
DUPLICATE_NAMES = {
    "attention.LayerNorm": "attention.output.LayerNorm",
    "LayerNorm": "output.LayerNorm",
}
SUFFIXES = ("weight", "bias")
# The names of a layer norm's parameters in TensorFlow, and so in checkpoints up to 2020.
OLD_SUFFIXES = {"gamma": "weight", "beta": "bias"}
# In the first layouts a shared layer has no number.
# Every number has one spelling.
NUMBER = r"(0|[1-9][0-9]{0,3})"
LAYER_PATTERN = re.compile(rf"encoder\.layer\.(?:{NUMBER}\.)?([a-zA-Z].*)")
STATE_NORM_PATTERN = re.compile(rf"encoder\.LayerNorm\.{NUMBER}\.(weight|bias)")
# Layers that are not shared may share a few tensors, not most of their weights.
MOST_BYTES_PER_STORED = 4


def rename_old_suffixes(tensors: Tensors) -> dict[str, Tensor]:
    """Return the same tensors with `weight` and `bias` instead of `gamma` and `beta`."""
    renamed = {}
    for name, tensor in tensors.items():
        start, dot, suffix = name.rpartition(".")
        renamed[start + dot + OLD_SUFFIXES.get(suffix, suffix)] = tensor
    return renamed


def split_layers(tensors: Tensors) -> list[dict[str, Tensor]]:
    """Return the tensors of each listed layer, in order."""
    layers: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := LAYER_PATTERN.fullmatch(name):
            layers.setdefault(int(match[1] or 0), {})[match[2]] = tensor
    if not layers or sorted(layers) != list(range(len(layers))):
        raise IntegrityError(f"its layers are numbered {sorted(layers)}, not from 0 on")
    return [layers[index] for index in range(len(layers))]


def are_equal(layers: Iterable[Tensors]) -> bool:
    """Return whether all layers have equal tensors."""
    first, *others = layers
    return all(
        other.keys() == first.keys() and all(is_same(first[name], other[name]) for name in first)
        for other in others
    )


def is_same(left: Tensor, right: Tensor) -> bool:
    """Return whether two tensors are equal; those of a shared layer are often one object."""
    return left is right or torch.equal(left, right)


def import_encoder(tensors: Tensors, config: EncoderConfig, inputs: str) -> dict[str, Tensor]:
    """Return the tensors of an encoder with our names; `inputs` is the foreign input layer's name.

    Raises `InputError` for tensors of no known layout, `IntegrityError` when some are missing
    or shared layers differ.
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
    """Return the layers to keep: all, or the first of shared layers."""
    if not config.share_layers and len(layers) != config.layers:
        raise IntegrityError(f"it has {len(layers)} layers, its settings say {config.layers}")
    if config.share_layers and len(layers) not in (1, config.layers):
        raise IntegrityError(
            f"it has {len(layers)} layers, its settings say {config.layers} shared"
        )
    if config.share_layers and not are_equal(layers):
        raise IntegrityError(
            f"its {len(layers)} layers should be equal, as it shares them, but differ"
        )
    if config.share_layers:
        return layers[:1]
    check_separate([tensor for layer in layers for tensor in layer.values()])
    return layers


def check_separate(tensors: list[Tensor]) -> None:
    """Raise `IntegrityError` when the tensors of separate layers are mostly the same bytes."""
    storages = {each.data_ptr(): each for each in map(Tensor.untyped_storage, tensors)}
    size = sum(each.nbytes for each in tensors)
    stored = sum(each.nbytes() for each in storages.values())
    if size > MOST_BYTES_PER_STORED * stored:
        raise IntegrityError(
            f"its layers share their tensors, its settings say that they do not: they take "
            f"{size:,} bytes, {stored:,} are stored"
        )


def import_layer(layer: Tensors, config: EncoderConfig, what: str) -> dict[str, Tensor]:
    """Return the tensors of one layer with our names."""
    if config.norm == "pre":
        layer = without_duplicates(layer, what)
    # With one projection for queries and keys there is none for keys.
    projections = [
        name for name in PROJECTIONS if not (config.share_query_key and name.endswith("key"))
    ]
    fused = {part: layer[part] for part in layer if part.rpartition(".")[0] in projections}
    rest = {part: layer[part] for part in layer if part not in fused}
    expected = {f"{name}.{suffix}" for name in projections for suffix in SUFFIXES}
    check_names(fused, expected, what)
    ours = import_parts(rest, LAYER_PARTS, what)
    for suffix in SUFFIXES:
        parts = [fused[f"{name}.{suffix}"] for name in projections]
        if len({part.shape for part in parts}) != 1:
            raise IntegrityError(
                f"{what}: the {suffix} of queries, keys and values differ in shape"
            )
        ours[f"attention.query_key_value.{suffix}"] = torch.cat(parts)
    return ours


def without_duplicates(layer: Tensors, what: str) -> dict[str, Tensor]:
    """Return a layer without the parts that are listed twice.

    Raises `IntegrityError` when the two are not equal.
    """
    kept = dict(layer)
    for duplicate, original in DUPLICATE_NAMES.items():
        for suffix in SUFFIXES:
            second, first = (
                kept.pop(f"{duplicate}.{suffix}", None),
                layer.get(f"{original}.{suffix}"),
            )
            if second is not None and (first is None or not is_same(second, first)):
                raise IntegrityError(
                    f"{what}: {duplicate}.{suffix} and {original}.{suffix} should be equal"
                )
    return kept


def import_state_norms(tensors: Tensors, config: EncoderConfig) -> dict[str, Tensor]:
    """Return the layer norms of returned states with our names; there are none with norm "post"."""
    count = config.layers + 1 if config.norm == "pre" else 0
    found = {name for name in tensors if STATE_NORM_PATTERN.fullmatch(name)}
    if len(found) != count * len(SUFFIXES):
        raise IntegrityError(
            f"it has {len(found)} tensors encoder.LayerNorm.*, with {config.layers} layers and "
            f"layer norm {config.norm} there are {count * len(SUFFIXES)}"
        )
    parts = [f"{number}.{suffix}" for number in range(count) for suffix in SUFFIXES]
    check_names(found, [f"encoder.LayerNorm.{part}" for part in parts], "encoder")
    return {f"state_norms.{part}": tensors[f"encoder.LayerNorm.{part}"] for part in parts}


def import_parts(tensors: Tensors, parts: Mapping[str, str], what: str) -> dict[str, Tensor]:
    """Return linear layers and layer norms with our names.

    Raises an error when parts are missing, or when there are others.
    """
    expected = {f"{foreign}.{suffix}" for foreign in parts.values() for suffix in SUFFIXES}
    check_names(tensors, expected, what)
    return {
        f"{our}.{suffix}": tensors[f"{foreign}.{suffix}"]
        for our, foreign in parts.items()
        for suffix in SUFFIXES
    }


def import_head(tensors: Tensors) -> dict[str, Tensor]:
    """Return the tensors of a prediction head with our names."""
    return import_parts(rename_old_suffixes(tensors), HEAD_PARTS, "a head")


def check_names(found: Iterable[str], expected: Iterable[str], what: str) -> None:
    """Raise `IntegrityError` for missing tensors, `InputError` for unknown ones."""
    missing, unknown = sorted({*expected} - {*found}), sorted({*found} - {*expected})
    if missing:
        raise IntegrityError(f"{what} lacks {', '.join(missing)}")
    if unknown:
        raise InputError(f"{what} has {', '.join(unknown)}, which no known layout has")


def export_encoder(tensors: Tensors, config: EncoderConfig) -> dict[str, Tensor]:
    """Return the tensors of an encoder with s3prl's names; a shared layer under every number."""
    theirs = export_parts(tensors, "", INPUT_PARTS, "input_representations.")
    for number in range(config.layers):
        ours = f"layers.{0 if config.share_layers else number}."
        their_layer = f"encoder.layer.{number}."
        for suffix in SUFFIXES:
            fused = tensors[f"{ours}attention.query_key_value.{suffix}"]
            for name, part in zip(PROJECTIONS, fused.chunk(len(PROJECTIONS)), strict=True):
                theirs[f"{their_layer}{name}.{suffix}"] = part
        theirs |= export_parts(tensors, ours, LAYER_PARTS, their_layer)
        if config.norm == "pre":
            for duplicate, original in DUPLICATE_NAMES.items():
                for suffix in SUFFIXES:
                    tensor = theirs[f"{their_layer}{original}.{suffix}"]
                    theirs[f"{their_layer}{duplicate}.{suffix}"] = tensor
    for number in range(config.layers + 1 if config.norm == "pre" else 0):
        for suffix in SUFFIXES:
            norm = tensors[f"state_norms.{number}.{suffix}"]
            theirs[f"encoder.LayerNorm.{number}.{suffix}"] = norm
    return theirs


def export_parts(
    tensors: Tensors, our_prefix: str, parts: Mapping[str, str], their_prefix: str
) -> dict[str, Tensor]:
    """Return linear layers and layer norms with s3prl's names."""
    return {
        f"{their_prefix}{theirs}.{suffix}": tensors[f"{our_prefix}{ours}.{suffix}"]
        for ours, theirs in parts.items()
        for suffix in SUFFIXES
    }
