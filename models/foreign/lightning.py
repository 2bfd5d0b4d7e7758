"""Checkpoints of the AALBERT repository, which were written by PyTorch Lightning 1.2.

They contain the settings of model and training under `hyper_parameters`, but only the name of the
file with the feature settings. The repository ships one such file (`input_config.yaml`):
80 log mels of an FFT of 2046, in windows of 25 ms every 10 ms, normalised per utterance, with
one order of deltas for AALBERT and none for Mockingjay.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from aalbert.errors import InputError, IntegrityError
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.foreign.audio import KINDS
from aalbert.models.foreign.foreign_model import ForeignHead, ForeignModel
from aalbert.models.foreign.layer_names import NUMBER, import_encoder, import_head
from aalbert.models.foreign.plain_values import Settings, facts, is_step
from aalbert.models.foreign.s3prl import ReadTensors, check_epsilon, make_config
from aalbert.models.positions import sinusoids

ENCODER = "pretrained_model.extractor."
HEAD_PATTERN = re.compile(rf"pretrained_heads\.{NUMBER}\.(.+)")
MASK_TOKEN = "mask_token_embedding.weight"
# Windows and filters of the feature extractor, which are computed again here.
FEATURE_EXTRACTOR = "tradition_feat_extractor."
SHIPPED_FEATURES: Mapping[str, Any] = {
    "kind": "logmel",
    "sample_rate": 16_000,
    "fft_size": 2046,
    "window_length_ms": 25.0,
    "frame_shift_ms": 10.0,
    "mels": 80,
}
FEATURES_NOTE = (
    "it contains only the name of the file with its feature settings: those that the AALBERT "
    "repository ships (80 mels, FFT of 2046) are assumed, --set changes them"
)
LEARNED_NOTE = (
    "beyond {frames} encoder frames it only restarted its learned positions; here audio is cut "
    "into chunks there, which are encoded separately"
)
# Sinusoids in float32 and in float64 agree within this tolerance; learned positions do not.
POSITION_TOLERANCE = 1e-3


def read_lightning(document: Mapping[str, Any], read_tensors: ReadTensors) -> ForeignModel:
    """Read a checkpoint; raise `InputError` or `IntegrityError` with the reason if that fails."""
    settings = Settings("hyper_parameters", document.get("hyper_parameters"))
    model = settings.group("model_config").group("model")
    training = settings.group("training_config")
    tensors = read_tensors(document, "state_dict")
    for name in tensors:
        known = name.startswith((ENCODER, FEATURE_EXTRACTOR, MASK_TOKEN))
        if not known and not HEAD_PATTERN.match(name):
            raise InputError(f"it has a tensor '{name}', which the AALBERT repository's never have")
    encoder_tensors = {
        name.removeprefix(ENCODER): tensor
        for name, tensor in tensors.items()
        if name.startswith(ENCODER)
    }
    positions = encoder_tensors.pop("input_reps.position_embed.weight", None)
    encoder, learned = read_sizes(model, positions)
    notes = [FEATURES_NOTE]
    imported = import_encoder(encoder_tensors, encoder, "input_reps")
    if learned is not None:
        imported["positions.weight"] = learned
        notes.append(LEARNED_NOTE.format(frames=len(learned)))
    transform = model.group("transform")
    return ForeignModel(
        layout="AALBERT repository (Lightning)",
        encoder=encoder,
        encoder_tensors=imported,
        heads=read_heads(tensors, training),
        features=SHIPPED_FEATURES,
        front_end={
            "deltas": max(transform.whole("input_dim") // SHIPPED_FEATURES["mels"], 1) - 1,
            "frames_stacked": transform.whole("downsample_rate", least=1),
        },
        mask_token=read_mask_token(tensors),
        training=training_facts(document, training),
        notes=tuple(notes),
    )


def read_sizes(model: Settings, positions: Tensor | None) -> tuple[EncoderConfig, Tensor | None]:
    """Return the sizes of the encoder, and its position table if it is learned."""
    common = model.group("common")
    check_epsilon(common, "norm_eps")
    width = common.whole("hidden_dim")
    if positions is not None and positions.shape[1:] != (width,):
        raise IntegrityError(
            f"its position table has the shape {tuple(positions.shape)}, its settings say a width "
            f"of {width}"
        )
    learned = None if positions is None or are_sinusoids(positions) else positions
    position_settings: dict[str, Any] = {}
    if learned is not None:
        position_settings = {
            "positions": "learned",
            "position_frames": len(learned),
            "beyond_positions": "restart",
        }
    config = make_config(
        layers=common.whole("num_layers"),
        share_layers=common.flag("share_across_layer"),
        width=width,
        heads=model.group("attention").whole("attention_head"),
        feed_forward_width=model.group("fully_connected").whole("intermediate_dim"),
        activation=common.text("act_fn"),
        dropout=common.real("dropout"),
        initial_std=common.real("init_range"),
        **position_settings,
    )
    return config, learned


def are_sinusoids(table: Tensor) -> bool:
    """Return whether a position table `(frames, width)` is the sinusoidal one."""
    if table.shape[1] % 2:
        return False
    return bool((table - sinusoids(*table.shape)).abs().max() < POSITION_TOLERANCE)


def read_heads(tensors: Mapping[str, Tensor], training: Settings) -> tuple[ForeignHead, ...]:
    """Return the heads in order; their features are the targets in the training settings."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := HEAD_PATTERN.fullmatch(name):
            found.setdefault(int(match[1]), {})[match[2]] = tensor
    targets = training.group("datarc").value("target", None)
    kinds = [target_kind(target) for target in targets] if isinstance(targets, list) else []
    if sorted(found) != list(range(len(kinds))):
        raise IntegrityError(f"it has heads {sorted(found)} for {len(kinds)} targets")
    return tuple(
        ForeignHead(tensors=import_head(found[number]), feature=kind)
        for number, kind in enumerate(kinds)
    )


def target_kind(target: Any) -> str:
    """Return this package's name for the feature of a target."""
    name = target if isinstance(target, str) else Settings("target", target).text("feature_type")
    if name not in KINDS:
        raise InputError(f"a target is '{name}', expected {' or '.join(KINDS)}")
    return KINDS[name]


def read_mask_token(tensors: Mapping[str, Tensor]) -> Tensor | None:
    """Return the vector added to masked inputs: the second row of a table whose first is zero."""
    table = tensors.get(MASK_TOKEN)
    if table is None:
        return None
    if table.shape[0] != 2 or table[0].any():
        raise IntegrityError(f"{MASK_TOKEN} does not consist of a row of zeros and a mask token")
    return table[1]


def training_facts(document: Mapping[str, Any], training: Settings) -> dict[str, Any]:
    """Return the facts about the training that the checkpoint contains as numbers."""
    masking = training.group("masking_strategy")
    found = {"steps": steps} if is_step(steps := document.get("global_step")) else {}
    found |= {name: masking.values.get(name) for name in ("mask_proportion", "mask_consecutive")}
    return facts(found)
