"""Models of this package in the layout that s3prl has had since 2022.

What s3prl's Transformer or features cannot be is refused; `notes` say what is left out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aalbert.common.files import atomic_write
from aalbert.errors import require
from aalbert.models.encoder import LAYER_NORM_EPSILON
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.foreign.audio_export import can_predict, check_writable, write_audio
from aalbert.models.foreign.layer_names import HEAD_PARTS, export_encoder, export_parts
from aalbert.models.foreign.plain_values import is_step
from aalbert.models.foreign.s3prl import TASK_FACTS
from aalbert.models.foreign.s3prl_limits import require_layout
from aalbert.models.pretrained import PretrainedModel, TargetConfig


def export_s3prl(model: PretrainedModel, path: Path) -> tuple[str, ...]:
    """Write a model as an s3prl checkpoint, and return what is not as it was.

    Equal models give equal bytes. Raises `LayoutError` for what s3prl does not have.
    """
    document, notes = s3prl_document(model)
    with atomic_write(path) as stream:
        torch.save(document, stream)
    return notes


def s3prl_document(model: PretrainedModel) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the checkpoint that s3prl's builder reads, and notes."""
    config, encoder = model.config, model.config.encoder
    assert encoder is not None
    check_encoder(encoder)
    check_writable(config.features, config.front_end)
    target, notes = choose_target(model)
    audio, audio_notes = write_audio(config.features, config.front_end, target)
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    steps = config.training.get("steps", 0)
    require(is_step(steps), f"training.steps is {steps!r:.40}: expected a number of steps")
    document = {
        "Transformer": export_encoder(starting_with(tensors, "upstream.encoder."), encoder),
        "Upstream_Config": {
            "transformer": write_transformer(encoder),
            "task": write_task(encoder, config.training),
            "audio": audio,
        },
        "Config": {},
        "Step": steps,
    }
    if target is not None:
        document["SpecHead"] = export_parts(tensors, f"heads.{target.feature}.", HEAD_PARTS, "")
    return document, notes + audio_notes


def starting_with(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    """Return the tensors whose names start so, without that start."""
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def check_encoder(encoder: EncoderConfig) -> None:
    """Refuse an encoder that s3prl does not have."""
    require_layout(not encoder.share_query_key, "s3prl has no encoder.share_query_key")
    require_layout(
        encoder.input_width is None,
        f"s3prl has no encoder.input_width {encoder.input_width}, only one matrix from the input "
        "to encoder.width",
    )
    require_layout(
        encoder.positions == "sinusoidal",
        f"s3prl has no encoder.positions {encoder.positions}, only sinusoidal",
    )


def choose_target(model: PretrainedModel) -> tuple[TargetConfig | None, tuple[str, ...]]:
    """Return the target whose head is kept, and notes: s3prl has one head and no mask token."""
    features, front_end = model.config.features, model.config.front_end
    able = [target for target in model.targets if can_predict(features, front_end, target)]
    kept = next((target for target in able if target.feature == features["kind"]), None)
    kept = kept or next(iter(able), None)
    notes = [
        f"the head that predicts {target.feature} ({target.dims} dims) is left out: s3prl has one, "
        "for what it computes beside the input"
        for target in model.targets
        if target is not kept
    ]
    if model.mask_token is not None:
        notes.append("the mask token is left out: s3prl masks with zeros")
    return kept, tuple(notes)


def write_transformer(encoder: EncoderConfig) -> dict[str, Any]:
    """Return s3prl's settings of a Transformer."""
    return {
        "input_dim": -1,
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.layers,
        "num_attention_heads": encoder.heads,
        "intermediate_size": encoder.feed_forward_width,
        "hidden_act": encoder.activation,
        "hidden_dropout_prob": encoder.dropout,
        "attention_probs_dropout_prob": encoder.probability_dropout,
        "initializer_range": encoder.weight_std,
        "layer_norm_eps": LAYER_NORM_EPSILON,
        "share_layer": encoder.share_layers,
        "pre_layer_norm": encoder.norm == "pre",
    }


def write_task(encoder: EncoderConfig, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return s3prl's settings of a training, as far as they are known."""
    return {
        "sequence_length": encoder.chunk_frames or 0,
        "position_encoding_size": encoder.width,
        **{name: training[name] for name in TASK_FACTS if name in training},
    }
