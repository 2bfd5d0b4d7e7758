"""Small checkpoints in the layouts of other systems, and the results of those systems.

Written from the description of the layouts; the Transformer is a plain one in float64, with
separate projections and an explicit softmax.
"""

import math
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """The sizes of a small Transformer."""

    inputs: int = 20
    width: int = 16
    layers: int = 3
    heads: int = 2
    hidden: int = 24
    outputs: int = 20
    shared: bool = True
    norms_first: bool = False
    shared_query_key: bool = False
    activation: str = "gelu"


def make_transformer(sizes: Sizes, seed: int = 0) -> Tensors:
    """Random tensors by s3prl's names, biases and layer norms included."""
    generator = torch.Generator().manual_seed(seed)

    def linear(rows: int, columns: int) -> Tensors:
        weight = torch.randn(rows, columns, generator=generator) / columns**0.5
        return {"weight": weight, "bias": torch.randn(rows, generator=generator) / 4}

    def norm() -> Tensors:
        noise = torch.randn(2, sizes.width, generator=generator) / 4
        return {"weight": 1 + noise[0], "bias": noise[1]}

    def layer() -> Tensors:
        parts = {
            **{f"attention.self.{part}": linear(sizes.width, sizes.width) for part in projections},
            "attention.output.dense": linear(sizes.width, sizes.width),
            "attention.output.LayerNorm": norm(),
            "intermediate.dense": linear(sizes.hidden, sizes.width),
            "output.dense": linear(sizes.width, sizes.hidden),
            "output.LayerNorm": norm(),
        }
        if sizes.norms_first:
            parts["attention.LayerNorm"] = parts["attention.output.LayerNorm"]
            parts["LayerNorm"] = parts["output.LayerNorm"]
        return flatten(parts)

    projections = ["query", "value"] if sizes.shared_query_key else ["query", "key", "value"]
    first = layer()
    layers = [first if sizes.shared or not index else layer() for index in range(sizes.layers)]
    norms = range(sizes.layers + 1 if sizes.norms_first else 0)
    return flatten(
        {
            "input_representations.spec_transform": linear(sizes.width, sizes.inputs),
            "input_representations.LayerNorm": norm(),
            **{f"encoder.layer.{index}": each for index, each in enumerate(layers)},
            **{f"encoder.LayerNorm.{index}": norm() for index in norms},
        }
    )


def make_head(sizes: Sizes, seed: int = 1) -> Tensors:
    """Random tensors of a prediction head."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "dense.weight": (sizes.width, sizes.width),
        "dense.bias": (sizes.width,),
        "LayerNorm.weight": (sizes.width,),
        "LayerNorm.bias": (sizes.width,),
        "output.weight": (sizes.outputs, sizes.width),
        "output.bias": (sizes.outputs,),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def flatten(parts: dict[str, Tensors]) -> Tensors:
    return {f"{part}.{name}": tensor for part, own in parts.items() for name, tensor in own.items()}


class Reference:
    """A reference Transformer of these tensors, in float64."""

    def __init__(self, sizes: Sizes, tensors: Tensors, head: Tensors) -> None:
        self.sizes = sizes
        self.tensors = {name: tensor.double() for name, tensor in tensors.items()}
        self.head = {name: tensor.double() for name, tensor in head.items()}

    def states(self, inputs: Tensor) -> list[Tensor]:
        """Hidden states `(frames, width)` of inputs `(frames, dims)`."""
        width = self.sizes.width
        frames = len(inputs)
        positions = torch.tensor(
            [
                [
                    (math.cos if j % 2 else math.sin)(p / 10_000 ** (2 * (j // 2) / width))
                    for j in range(width)
                ]
                for p in range(frames)
            ],
            dtype=torch.float64,
        )
        embedded = self.linear("input_representations.spec_transform", inputs.double()) + positions
        stream = [self.norm("input_representations.LayerNorm", embedded)]
        for index in range(self.sizes.layers):
            stream.append(self.layer(f"encoder.layer.{index}", stream[-1]))
        if not self.sizes.norms_first:
            return stream
        return [self.norm(f"encoder.LayerNorm.{i}", state) for i, state in enumerate(stream)]

    def predict(self, state: Tensor) -> Tensor:
        """The prediction of the head from the last state."""
        hidden = self.activate(state @ self.head["dense.weight"].T + self.head["dense.bias"])
        normed = layer_norm(hidden, self.head["LayerNorm.weight"], self.head["LayerNorm.bias"])
        return normed @ self.head["output.weight"].T + self.head["output.bias"]

    def layer(self, name: str, hidden: Tensor) -> Tensor:
        attention_norm, output_norm = (
            f"{name}.attention.output.LayerNorm",
            f"{name}.output.LayerNorm",
        )
        if self.sizes.norms_first:
            hidden = hidden + self.attend(name, self.norm(attention_norm, hidden))
            return hidden + self.transform(name, self.norm(output_norm, hidden))
        hidden = self.norm(attention_norm, hidden + self.attend(name, hidden))
        return self.norm(output_norm, hidden + self.transform(name, hidden))

    def attend(self, name: str, hidden: Tensor) -> Tensor:
        size = self.sizes.width // self.sizes.heads
        key = "query" if self.sizes.shared_query_key else "key"
        parts = [
            self.linear(f"{name}.attention.self.{part}", hidden) for part in ("query", key, "value")
        ]
        contexts = []
        for head in range(self.sizes.heads):
            queries, keys, values = (part[:, head * size : (head + 1) * size] for part in parts)
            contexts.append((queries @ keys.T / size**0.5).softmax(-1) @ values)
        return self.linear(f"{name}.attention.output.dense", torch.cat(contexts, -1))

    def transform(self, name: str, hidden: Tensor) -> Tensor:
        return self.linear(
            f"{name}.output.dense", self.activate(self.linear(f"{name}.intermediate.dense", hidden))
        )

    def activate(self, hidden: Tensor) -> Tensor:
        if self.sizes.activation == "relu":
            return hidden.clamp(min=0)
        return hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))

    def linear(self, name: str, hidden: Tensor) -> Tensor:
        return hidden @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, name: str, hidden: Tensor) -> Tensor:
        return layer_norm(hidden, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])


def layer_norm(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = hidden - hidden.mean(-1, keepdim=True)
    return weight * centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt() + bias


# The layouts.


def transformer_group(sizes: Sizes) -> dict[str, Any]:
    """The settings of a Transformer, as every generation of s3prl has them."""
    return {
        "input_dim": -1,
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.hidden,
        "hidden_act": sizes.activation,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": "1e-12",
    }


def upstream_config(sizes: Sizes) -> dict[str, Any]:
    """The settings of s3prl since 2021, for log mels."""
    feature = {"feat_type": "mel", "channel": 0, "log": True, "delta": 0, "cmvn": True}
    return {
        "transformer": {
            **transformer_group(sizes),
            "share_layer": sizes.shared,
            "pre_layer_norm": sizes.norms_first,
        },
        "task": {"sequence_length": 1500, "mask_proportion": 0.15},
        "audio": {
            "target_level": -25,
            "win_ms": 25,
            "hop_ms": 10,
            "n_freq": 201,
            "n_mels": sizes.inputs,
            "n_mfcc": 13,
            "input": feature,
            "target": {**feature, "channel": 1},
        },
    }


def s3prl_2022(sizes: Sizes, tensors: Tensors, head: Tensors) -> dict[str, Any]:
    return {
        "SpecHead": head,
        "Transformer": tensors,
        "Upstream_Config": upstream_config(sizes),
        "Config": {"runner": {"total_steps": 10}},
        "Optimizer": {"state": {0: {"step": 5, "exp_avg": torch.zeros(3)}}, "param_groups": []},
        "Step": 1000,
        "Args": Namespace(upstream="audio_albert"),
    }


def s3prl_2021(sizes: Sizes, tensors: Tensors, head: Tensors) -> dict[str, Any]:
    document = s3prl_2022(sizes, tensors, head)
    document["Config"], document["Runner"] = document.pop("Upstream_Config"), document["Config"]
    return document


def s3prl_2020(sizes: Sizes, tensors: Tensors, head: Tensors) -> dict[str, Any]:
    group = {
        **transformer_group(sizes),
        "downsample_rate": 1,
        "share_layer": sizes.shared,
        "pre_layer_norm": sizes.norms_first,
        "prune_headids": "None",
        "max_input_length": 0,
        "mask_proportion": 0.15,
    }
    return {
        "SpecHead": head,
        "Transformer": tensors,
        "Optimizer": {},
        "Global_step": 1000,
        "Settings": {
            "Config": {"transformer": group, "dataloader": {"data_path": "data/libri_fbank_cmvn"}},
            "Paras": Namespace(run="transformer"),
        },
    }


def s3prl_2019(sizes: Sizes, tensors: Tensors, head: Tensors) -> dict[str, Any]:
    """Mockingjay; with `gamma` and `beta`, and AlbertNew's one layer without a number if shared."""
    groups = ["mockingjay", "albertmockingjay", "albertmockingjayVariant"]
    own = groups[2 if sizes.shared_query_key else 1 if sizes.shared else 0]
    other = {**transformer_group(sizes), "num_hidden_layers": 77}
    config = {**dict.fromkeys(groups, other), own: transformer_group(sizes)}
    names = {
        name.replace("layer.0.", "layer.") if sizes.shared else name: tensor
        for name, tensor in tensors.items()
        if not (sizes.shared and name.startswith("encoder.layer.") and ".layer.0." not in name)
    }
    return {
        "SpecHead": old_norms(head),
        "Mockingjay": old_norms(names),
        "Optimizer": {},
        "Global_step": 1000,
        "Settings": {"Config": config, "Paras": Namespace(run="mockingjay")},
    }


def old_norms(tensors: Tensors) -> Tensors:
    """The same tensors, with `gamma` and `beta` in layer norms."""
    ends = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    return {
        next(
            (name.removesuffix(new) + old for new, old in ends.items() if name.endswith(new)), name
        ): tensor
        for name, tensor in tensors.items()
    }


def lightning(
    sizes: Sizes, tensors: Tensors, heads: list[Tensors], *, stacked: int, mask_token: Tensor | None
) -> dict[str, Any]:
    """The AALBERT repository's layout, reading `sizes.inputs / stacked` dims per frame."""
    table = torch.tensor(
        [
            [
                (math.cos if j % 2 else math.sin)(p / 10_000 ** (2 * (j // 2) / sizes.width))
                for j in range(sizes.width)
            ]
            for p in range(30)
        ]
    )
    state = {
        "pretrained_model.extractor." + name.replace("input_representations", "input_reps"): tensor
        for name, tensor in tensors.items()
    }
    state["pretrained_model.extractor.input_reps.position_embed.weight"] = table
    for place, head in enumerate(heads):
        state |= {f"pretrained_heads.{place}.{name}": tensor for name, tensor in head.items()}
    if mask_token is not None:
        state["mask_token_embedding.weight"] = torch.stack(
            [torch.zeros_like(mask_token), mask_token]
        )
    state["tradition_feat_extractor.extracter._window"] = torch.hann_window(400)
    model = {
        "common": {
            "share_across_layer": sizes.shared,
            "num_layers": sizes.layers,
            "hidden_dim": sizes.width,
            "norm_eps": 1e-12,
            "dropout": 0.0,
            "act_fn": sizes.activation,
            "init_range": 0.02,
        },
        "transform": {"input_dim": sizes.inputs // stacked, "downsample_rate": stacked},
        "position_embedding": {"max_timestep": 30, "trainable": False},
        "attention": {"attention_head": sizes.heads},
        "fully_connected": {"intermediate_dim": sizes.hidden},
    }
    training = {
        "masking_strategy": {"mask_proportion": 0.15, "mask_consecutive": 1},
        "datarc": {
            "input": {"feature_type": "mel", "config_path": Path("input_config.yaml")},
            "target": [{"feature_type": kind} for kind in ("linear", "mel")[: len(heads)]],
        },
    }
    return {
        "epoch": 3,
        "global_step": 500,
        "pytorch-lightning_version": "1.2.0",
        "callbacks": {Namespace: {"best": Path("x.ckpt")}},
        "state_dict": state,
        "hyper_parameters": {
            "args": Namespace(upstream="aalbert"),
            "model_config": {"model": model},
            "training_config": training,
        },
    }


# The layouts of s3prl's checkpoints, by the year in which they began.
GENERATIONS = {
    "2019": s3prl_2019,
    "2020": s3prl_2020,
    "2021": s3prl_2021,
    "2022": s3prl_2022,
}
