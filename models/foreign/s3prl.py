"""s3prl's checkpoints of Audio ALBERT, Mockingjay and TERA, of all versions since 2019.

| version | top-level keys | settings of the model |
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

from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.models.encoder import LAYER_NORM_EPSILON
from aalbert.models.encoder_config import MOST_LAYERS, EncoderConfig
from aalbert.models.foreign.audio import read_audio
from aalbert.models.foreign.foreign_model import ForeignHead, ForeignModel
from aalbert.models.foreign.layer_names import (
    are_equal,
    import_encoder,
    import_head,
    rename_old_suffixes,
    split_layers,
)
from aalbert.models.foreign.plain_values import Settings, facts, is_step

# A function that reads the tensors under one key of a checkpoint.
ReadTensors = Callable[[Mapping[str, Any], str], dict[str, Tensor]]
# The groups of audio settings; in 2020 there is one only if features were not read from files.
AUDIO = ("audio", "online")
# The groups of settings in AlbertNew, which contains all three. The second is used for a model
# whose layer names have no number, the third for one that also has no keys.
ALBERT_NEW = ("mockingjay", "albertmockingjay", "albertmockingjayVariant")

# The settings of the training that are kept as facts about the model.
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
    """The keys of a checkpoint of one s3prl version: tensors, settings, number of steps."""

    name: str
    tensors: str
    config: Settings
    steps: str


def find_layout(document: Mapping[str, Any]) -> CheckpointLayout:
    """Return the layout of a checkpoint, by the same keys as s3prl's builder.

    Raises `InputError` when no version matches.
    """
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
    """Read a checkpoint; raise `InputError` or `IntegrityError` with the reason if that fails."""
    layout = find_layout(document)
    tensors = rename_old_suffixes(read_tensors(document, layout.tensors))
    transformer = transformer_settings(layout.config, tensors)
    encoder = encoder_config(transformer, sequence_length(layout.config, transformer), tensors)
    group = next((layout.config.group(name) for name in AUDIO if name in layout.config), None)
    audio = None if group is None else read_audio(group)
    heads: tuple[ForeignHead, ...] = ()
    if "SpecHead" in document:
        target = audio.target if audio else stored_target(layout.config)
        tensors_of_head = import_head(read_tensors(document, "SpecHead"))
        heads = (ForeignHead(tensors=tensors_of_head, **target),)
    return ForeignModel(
        layout=layout.name,
        encoder=encoder,
        encoder_tensors=import_encoder(tensors, encoder, "input_representations"),
        heads=heads,
        features=audio.features if audio else None,
        front_end={
            **(audio.front_end if audio else {}),
            "frames_stacked": transformer.whole("downsample_rate", 1, least=1),
        },
        training=training_facts(document, layout, transformer),
        notes=() if audio else (features_note(layout.config),),
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
    """Return the sizes of the encoder; 0 for `longest` means that audio is never cut.

    s3prl converts `share_layer` and `pre_layer_norm` by `bool`, which makes the text "False" true.
    So only true and false are accepted here; for any other value the tensors decide.
    """
    layers = split_layers(tensors)
    shared = transformer.values.get("share_layer")
    if not isinstance(shared, bool):
        shared = are_equal(layers)
    norms_first = transformer.values.get("pre_layer_norm")
    if not isinstance(norms_first, bool):
        norms_first = any(name.startswith("encoder.LayerNorm.") for name in tensors)
    check_epsilon(transformer, "layer_norm_eps")
    if transformer.value("prune_headids", "None") not in ("None", ""):
        raise transformer.refusal("prune_headids", "None: pruned heads cannot be imported")
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


def check_epsilon(settings: Settings, name: str) -> None:
    """Raise `InputError` for layer norms with another epsilon than this package's."""
    if settings.real(name, LAYER_NORM_EPSILON) != LAYER_NORM_EPSILON:
        raise settings.refusal(name, f"{LAYER_NORM_EPSILON}, as it is here")


def make_config(**sizes: Any) -> EncoderConfig:
    """Return a configuration; raise `InputError`, an error of the checkpoint, if it is invalid.

    Raises `IntegrityError` for more layers than could ever be computed.
    """
    if sizes["layers"] > MOST_LAYERS:
        raise IntegrityError(
            f"its settings say {sizes['layers']:.3g} layers, no model has more than {MOST_LAYERS:,}"
        )
    if sizes["activation"] not in ("gelu", "relu"):
        raise InputError(f"its activation is '{sizes['activation']}', expected gelu or relu")
    try:
        return EncoderConfig(**sizes)
    except ConfigError as error:
        raise InputError(f"its settings are invalid: {error}") from error


def sequence_length(config: Settings, transformer: Settings) -> int:
    """Return the number of encoder frames after which positions restart, 0 for never."""
    if "task" in config:
        return config.group("task").whole("sequence_length", 0)
    # This setting counts frames before stacking.
    return transformer.whole("max_input_length", 0) // transformer.whole(
        "downsample_rate", 1, least=1
    )


def stored_target(config: Settings) -> dict[str, Any]:
    """Return the target of a model that read stored features: these, or linear spectrograms."""
    groups = [config.values.get(name) for name in ("solver", "runner")]
    duo = any(isinstance(group, Mapping) and group.get("duo_feature") is True for group in groups)
    return {"feature": "linear", "deltas": 0} if duo else {}


def features_note(config: Settings) -> str:
    """Return the note that a checkpoint does not contain its feature settings."""
    loader = config.values.get("dataloader")
    path = loader.get("data_path") if isinstance(loader, Mapping) else None
    source = f"it read '{path}'" if isinstance(path, str) else "it read them from files"
    return f"it does not contain the settings of its features; {source}"


def training_facts(
    document: Mapping[str, Any], layout: CheckpointLayout, transformer: Settings
) -> dict[str, Any]:
    """Return the facts about the training that the checkpoint contains as plain values."""
    task = layout.config.values.get("task", transformer.values)
    found = {"steps": steps} if is_step(steps := document.get(layout.steps)) else {}
    if isinstance(task, Mapping):
        found |= {name: task.get(name) for name in (*TASK_FACTS, "mask_consecutive")}
    return facts(found)
