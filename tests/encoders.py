"""Tiny encoders as `transformers` saves them, with random weights."""

from pathlib import Path

import torch

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


def save_encoder(folder: Path, kind: str, *, normalise: bool = True, **settings: object) -> Path:
    """Save a random encoder of a kind, such as `hubert`, with its preprocessing."""
    from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(5)
    config = AutoConfig.for_model(kind, **{**SIZES, **settings})
    AutoModel.from_config(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=normalise).save_pretrained(folder)
    return folder
