"""Small models with the settings of presets, and with what no preset has."""

from dataclasses import asdict, replace
from typing import Any

import torch

from aalbert.common.configuration import load_config
from aalbert.models import EncoderConfig, FrontEndConfig, PretrainedModel, UpstreamConfig
from aalbert.shards.format.feature_settings import (
    FbankSettings,
    FeatureSettings,
    LinearSettings,
    LogMelSettings,
    MfccSettings,
)
from aalbert.shards.format.wave_settings import WaveSettings
from aalbert.train.preset import read_preset
from aalbert.train.pretraining.config import PretrainConfig

PRESETS = ("tiny", "aalbert-paper", "aalbert-seed", "aalbert-3l", "mockingjay-3l", "tera-3l")
SIZES: dict[str, Any] = {"width": 16, "heads": 2, "feed_forward_width": 32, "initial_std": 0.2}
# What comes after so many encoder frames is cut.
CHUNK_FRAMES = 40
OTHERS: dict[str, tuple[FeatureSettings, FrontEndConfig, EncoderConfig]] = {
    "learned": (
        MfccSettings(amplitude="int16"),
        FrontEndConfig(deltas=2, delta_window=3, feature_dims=13),
        EncoderConfig(
            layers=2,
            positions="learned",
            position_frames=CHUNK_FRAMES,
            share_query_key=True,
            input_width=24,
            attention_dropout=0.3,
            **SIZES,
        ),
    ),
    "endless": (
        FbankSettings(mels=20, wave=WaveSettings(gain_db=6.0)),
        FrontEndConfig(normalisation="none", feature_dims=20),
        EncoderConfig(layers=2, norm="pre", activation="relu", share_layers=False, **SIZES),
    ),
    "linear": (
        LinearSettings(fft_size=512, wave=WaveSettings(loudness_db=-25.0)),
        FrontEndConfig(normalisation="global", frames_stacked=2, feature_dims=257),
        EncoderConfig(layers=2, positions="rotary", beyond_positions="continue", **SIZES),
    ),
}
SYSTEMS = (*PRESETS, *OTHERS)


def make_system(name: str) -> PretrainedModel:
    """Return an untrained model of a preset, of three layers and small, or one of `OTHERS`."""
    torch.manual_seed(5)
    settings, front_end, encoder = OTHERS[name] if name in OTHERS else preset_parts(name)
    config = UpstreamConfig(features=asdict(settings), front_end=front_end, encoder=encoder)
    model = PretrainedModel(config, mask_token=True).eval()
    model.upstream.front_end.mean.normal_(-8, 1)
    model.upstream.front_end.std.uniform_(1, 3)
    # Biases and layer norms are trained too.
    for parameter in model.upstream.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def preset_parts(name: str) -> tuple[FeatureSettings, FrontEndConfig, EncoderConfig]:
    """Return the features, the front end and the encoder of a preset."""
    config = load_config(PretrainConfig, preset=read_preset(name), environment={})
    features = (config.data.features or {}).get("logmel", {})
    encoder = replace(config.encoder, layers=3, position_frames=CHUNK_FRAMES, **SIZES)
    return LogMelSettings(**features), config.front_end, encoder
