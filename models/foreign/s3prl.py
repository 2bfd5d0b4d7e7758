"""s3prl's checkpoints of Audio ALBERT, Mockingjay and TERA, from the first to the present ones.

| from | top-level keys | the model's settings are in |
|---|---|---|
| 2019, Mockingjay and AlbertNew | `SpecHead`, `Mockingjay`, `Settings` | `Settings.Config` |
| 2020, v0.1 | `SpecHead`, `Transformer`, `Settings` | `Settings.Config.transformer` |
| 2021, v0.2 | `SpecHead`, `Transformer`, `Config` | `Config.transformer`, `.task`, `.audio` |
| 2022 | `SpecHead`, `Transformer`, `Upstream_Config` | `Upstream_Config`, likewise |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aalbert.errors import ConfigError, InputError
from aalbert.models.encoder import LAYER_NORM_EPSILON, EncoderConfig
from aalbert.models.foreign.audio import read_audio
from aalbert.models.foreign.foreign_model import ForeignHead, ForeignModel
from aalbert.models.foreign.layer_names import (
    are_equal,
    import_encoder,
    import_head,
    split_layers,
    with_new_ends,
)
from aalbert.models.foreign.plain_values import Settings

# Reads the tensors of one key of a checkpoint.
ReadTensors = Callable[[Mapping[str, Any], str], dict[str, Tensor]]
PRE_NORM = "pre_layer_norm"
HEADS = ("SpecHead",)  # some files hold no head
# The group of audio settings; in 2020 there is one only where features were not read from files.
AUDIO = ("audio", "online")
# The groups of AlbertNew's settings, which has all three at once: without a number in the names
# of its layer a model is of the second, without keys of the third.
ALBERT_NEW = ("mockingjay", "albertmockingjay", "albertmockingjayVariant")

# What a checkpoint tells of its training.
TASK_FACTS = (
    "loss",
    "mask_proportion",
    "mask_consecutive_min",
    "mask_consecutive_max",
    "mask_allow_overlap",
    "mask_bucket_ratio",
    "mask_frequency",
    "noise_proportion",
)


@dataclass(frozen=True)
class CheckpointLayout:
    """Where a generation of s3prl keeps what a model needs."""

    name: str
    tensors: str
    config: Settings
    steps: str


def find_layout(document: Mapping[str, Any]) -> CheckpointLayout:
    """Recognise the generation of a checkpoint, as s3prl's own builder does."""
    if "Settings" in document:
        config = Settings("Settings", document["Settings"]).group("Config")
        if "Mockingjay" in document:
            return CheckpointLayout(
                "s3prl 2019 (Mockingjay, AlbertNew)", "Mockingjay", config, "Global_step"
            )
        return CheckpointLayout("s3prl 2020 (v0.1)", "Transformer", config, "Global_step")
    config = Settings("Config", document.get("Config", {}))
    if "transformer" in config:
        return CheckpointLayout("s3prl 2021 (v0.2)", "Transformer", config, "Step")
    config = Settings("Upstream_Config", document.get("Upstream_Config", {}))
    if "transformer" in config:
        return CheckpointLayout("s3prl since 2022", "Transformer", config, "Step")
    raise InputError(
        f"it has the keys {', '.join(map(str, document))}, but neither Config nor Upstream_Config "
        "has a 'transformer'"
    )


def read_s3prl(document: Mapping[str, Any], read_tensors: ReadTensors) -> ForeignModel:
    """Read a checkpoint; raises `InputError` or `IntegrityError` that names what is wrong."""
    layout = find_layout(document)
    tensors = with_new_ends(read_tensors(document, layout.tensors))
    transformer = transformer_settings(layout.config, tensors)
    encoder = encoder_config(transformer, sequence_length(layout.config, transformer), tensors)
    audio = next((layout.config.group(name) for name in AUDIO if name in layout.config), None)
    reading = None if audio is None else read_audio(audio)
    heads = [import_head(read_tensors(document, name)) for name in HEADS if name in document]
    return ForeignModel(
        layout=layout.name,
        encoder=encoder,
        encoder_tensors=import_encoder(tensors, encoder, "input_representations"),
        heads=tuple(
            ForeignHead(
                tensors=head, **(reading.target if reading else stored_target(layout.config))
            )
            for head in heads
        ),
        features=reading.features if reading else None,
        front_end={
            **(reading.front_end if reading else {}),
            "frames_stacked": transformer.whole("downsample_rate", 1, least=1),
        },
        training=training_facts(document, layout, transformer),
        notes=() if reading else (features_note(layout.config),),
    )


def transformer_settings(config: Settings, tensors: Mapping[str, Tensor]) -> Settings:
    """Return the group that describes the Transformer."""
    if "transformer" in config:
        return config.group("transformer")
    numbered = any(name.startswith("encoder.layer.0.") for name in tensors)
    keys = any(name.endswith("self.key.weight") for name in tensors)
    return config.group(ALBERT_NEW[0 if numbered else 1 if keys else 2])


def encoder_config(
    transformer: Settings, longest: int, tensors: Mapping[str, Tensor]
) -> EncoderConfig:
    """Return the sizes of the encoder; 0 for `longest` means that it takes any length at once.

    Whether layers are shared, and where norms are, s3prl reads with `bool`, for which the text
    "False" is true. So only true and false count here, and for anything else the tensors.
    """
    layers = split_layers(tensors)
    shared, norms_first = transformer.values.get("share_layer"), transformer.values.get(PRE_NORM)
    if not isinstance(shared, bool):
        shared = are_equal(layers)
    if not isinstance(norms_first, bool):
        norms_first = any(name.startswith("encoder.LayerNorm.") for name in tensors)
    check_supported(transformer)
    dropout = transformer.real("hidden_dropout_prob", 0.1)
    attention_dropout = transformer.real("attention_probs_dropout_prob", dropout)
    return make_config(
        layers=transformer.whole("num_hidden_layers"),
        share_layers=shared,
        share_query_key="attention.self.key.weight" not in layers[0],
        width=transformer.whole("hidden_size"),
        heads=transformer.whole("num_attention_heads"),
        feed_forward_width=transformer.whole("intermediate_size"),
        activation=transformer.text("hidden_act"),
        norm="pre" if norms_first else "post",
        dropout=dropout,
        attention_dropout=None if attention_dropout == dropout else attention_dropout,
        initial_std=transformer.real("initializer_range", 0.02),
        **({"position_frames": longest, "beyond_positions": "restart"} if longest else {}),
    )


def check_supported(transformer: Settings) -> None:
    """Refuse what this package's encoder does not have."""
    check_epsilon(transformer, "layer_norm_eps")
    if transformer.value("prune_headids", "None") not in ("None", ""):
        raise transformer.refusal("prune_headids", "None: pruned heads cannot be imported")


def check_epsilon(settings: Settings, name: str) -> None:
    """Refuse layer norms with another epsilon than this package's."""
    if settings.real(name, LAYER_NORM_EPSILON) != LAYER_NORM_EPSILON:
        raise settings.refusal(name, f"{LAYER_NORM_EPSILON}, as it is here")


def make_config(**sizes: Any) -> EncoderConfig:
    """Return a configuration; one that cannot be is an error of the checkpoint, not of the user."""
    if sizes["activation"] not in ("gelu", "relu"):
        raise InputError(f"its activation is '{sizes['activation']}', expected gelu or relu")
    try:
        return EncoderConfig(**sizes)
    except ConfigError as error:
        raise InputError(f"its settings cannot be: {error}") from error


def sequence_length(config: Settings, transformer: Settings) -> int:
    """Return the frames after which positions begin anew, 0 for never."""
    if "task" in config:
        return config.group("task").whole("sequence_length", 0)
    # Counted before frames are stacked.
    return transformer.whole("max_input_length", 0) // transformer.whole(
        "downsample_rate", 1, least=1
    )


def stored_target(config: Settings) -> dict[str, Any]:
    """Return the target of a model that read stored features: these, or linear spectrograms."""
    groups = [config.values.get(name) for name in ("solver", "runner")]
    two = any(isinstance(group, Mapping) and group.get("duo_feature") is True for group in groups)
    return {"feature": "linear", "deltas": 0} if two else {}


def features_note(config: Settings) -> str:
    """Say that a checkpoint does not tell its features, and what it tells instead."""
    loader = config.values.get("dataloader")
    path = loader.get("data_path") if isinstance(loader, Mapping) else None
    read = f"it read '{path}'" if isinstance(path, str) else "it read them from files"
    return f"it does not hold how its features were computed; {read}"


def training_facts(
    document: Mapping[str, Any], layout: CheckpointLayout, transformer: Settings
) -> dict[str, Any]:
    """Return how the model was trained, as far as it is told in plain values."""
    task = layout.config.values.get("task", transformer.values)
    facts = {"steps": document.get(layout.steps)}
    for name in (*TASK_FACTS, "mask_consecutive"):
        facts[name] = task.get(name) if isinstance(task, Mapping) else None
    return {name: value for name, value in facts.items() if isinstance(value, int | float | str)}
