"""The command `aalbert inspect`: parts, costs and mix of a model, its attention to a recording.

It uses both `pipeline`, which computes features, and `train`, which draws the pictures.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aalbert.commands.console import AsJson, show
from aalbert.errors import ConfigError, require

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from aalbert.models.attention_similarity import AttentionSimilarity
    from aalbert.pipeline.embeddings.model import EmbeddingModel, Features

# In an attention map of longer speech, single frames are too small to be seen.
SECONDS_DRAWN = 4.0
RESULT_NAME = "inspection.json"
# Of the bar of the largest weight, in letters.
BAR_LENGTH = 30


def inspect(
    place: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A saved model, a run, an old checkpoint, or USER/MODEL on the hub.",
        ),
    ],
    audio: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the model's attention to this recording."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for pictures.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the parts and costs of a model, and the mix that a head learned; with --out, draw them.

    Example: aalbert inspect runs/pretrain --audio speech.flac --out pictures
    """
    from aalbert.pipeline.embeddings.load import from_pretrained

    require(audio is None or out is not None, "--audio needs --out, the folder for its pictures")
    model = from_pretrained(place)
    document = {"model": model.place, **describe(model)}
    if out is not None:
        require(
            audio is not None or model.layer_weights is not None,
            f"there is nothing to draw of {model.place} without --audio: only the run of a head "
            "that mixes layers has learned weights",
        )
        document |= draw(model, audio, out)
    show(document, as_json, "" if as_json else description_text(document))


def describe(model: "EmbeddingModel") -> dict[str, Any]:
    """Return layers, parameters, multiply-accumulates and memory of a model."""
    from dataclasses import asdict

    from aalbert.models.costs import (
        REFERENCE_SECONDS,
        count_memory,
        count_parts,
        macs_per_second,
        upstream_work,
    )

    upstream = model.upstream
    encoder, front_end = upstream.config.encoder, upstream.config.front_end
    if encoder is None:
        raise ConfigError("plain features have no layers to inspect: name a pretrained model")
    frames_per_second = 1000 / model.frame_shift_ms
    parameters = count_parts(model.model, upstream)
    return {
        "features": dict(upstream.config.features),
        "front_end": asdict(front_end),
        "encoder": asdict(encoder),
        "frame_shift_ms": model.frame_shift_ms,
        "parameters": asdict(parameters),
        "macs_per_second": macs_per_second(upstream.config),
        "attention_macs_per_second": round(
            upstream_work(upstream.config).attention / REFERENCE_SECONDS
        ),
        "memory_bytes": asdict(count_memory(parameters, upstream, frames_per_second)),
        "layer_weights": weights_of(model),
    }


def weights_of(model: "EmbeddingModel") -> list[float]:
    """Return the weight of every hidden state in the mix that a head learned; empty without one."""
    if model.layer_weights is None:
        return []
    return [round(weight, 6) for weight in model.layer_weights.tolist()]


def description_text(document: dict[str, Any]) -> str:
    """Return the description as text."""
    from aalbert.models.costs import REFERENCE_SECONDS

    encoder, parameters = document["encoder"], document["parameters"]
    front_end, memory = document["front_end"], document["memory_bytes"]
    shared = "one shared layer" if encoder["share_layers"] else "a layer each"
    parts = "\n".join(f"  {part:<24}{count:>14,}" for part, count in parameters["parts"].items())
    attention = document["attention_macs_per_second"] / document["macs_per_second"]
    lines = [
        f"{document['model']}: {encoder['layers']} layers ({shared}), width {encoder['width']}, "
        f"{encoder['heads']} heads, {encoder['norm']}-norm",
        f"reads {document['features']['kind']}, {front_end['feature_dims']} dims, "
        f"{front_end['deltas']} deltas, normalisation {front_end['normalisation']}, "
        f"{front_end['frames_stacked']} frames stacked: a state every "
        f"{document['frame_shift_ms']:g} ms",
        "",
        "parameters",
        parts,
        f"  {'stored':<24}{parameters['stored']:>14,}",
        f"  {'applied':<24}{parameters['applied']:>14,}  (a shared layer counted at every use)",
        "",
        f"multiply-accumulates  {document['macs_per_second'] / 1e9:.3f} G per second of audio in "
        f"utterances of {REFERENCE_SECONDS:g} s, {attention:.0%} of them attention between frames",
        f"memory                {memory['weights'] / 1e6:.1f} MB of float32 weights, "
        f"{memory['training'] / 1e6:.1f} MB with gradients and AdamW's moments,",
        f"                      {memory['states_per_second'] / 1e6:.2f} MB of hidden states "
        "per second of audio",
    ]
    if document["layer_weights"]:
        lines += ["", "learned mix of the hidden states", *mix_lines(document["layer_weights"])]
    if "attention_divergence_bits" in document:
        lines += ["", *similarity_lines(document)]
    if "pictures" in document:
        lines += ["", *document["pictures"]]
    return "\n".join(lines)


def mix_lines(weights: Sequence[float]) -> list[str]:
    """Return a line with a bar for every hidden state, the longest one for the largest weight."""
    names = ["input", *(f"layer {number}" for number in range(1, len(weights)))]
    return [
        f"  {name:<9}{weight:6.3f}  {'█' * round(BAR_LENGTH * weight / max(weights))}"
        for name, weight in zip(names, weights, strict=True)
    ]


def similarity_lines(document: dict[str, Any]) -> list[str]:
    """Return lines on how similar the attention of neighbouring layers is."""
    found = document["attention_divergence_bits"]
    return [
        f"attention of layers {number} and {number + 1}: divergence {row[number]:.3f} bits "
        f"averaged over heads, {found['closest'][number - 1][number]:.3f} of the closest heads"
        for number, row in enumerate(found["averaged"][:-1], start=1)
    ]


def draw(model: "EmbeddingModel", audio: Path | None, out: Path) -> dict[str, Any]:
    """Draw a learned mix, and what a model makes of a recording, into a folder.

    Raises `OutputInUseError` when the folder is not empty.
    """
    from aalbert.common.files import atomic_write, require_empty, write_json
    from aalbert.models.attention_similarity import compare_attention
    from aalbert.train.report.figures import to_png
    from aalbert.train.report.layer_figures import layer_figure

    require_empty(out)
    pictures: dict[str, Callable[[], Figure]] = {}
    result: dict[str, Any] = {"layer_weights": weights_of(model)}
    if model.layer_weights is not None:
        pictures["layers.png"] = lambda: layer_figure(weights_of(model))
    if audio is not None:
        features = read_features(model, audio)
        maps = attention_maps(model, features)
        found = compare_attention(maps)
        result |= {"audio": str(audio), "attention_divergence_bits": divergences(found)}
        pictures |= attention_pictures(model, maps, found) | reconstruction_picture(model, features)
    for name, make in pictures.items():
        with atomic_write(out / name) as stream:
            stream.write(to_png(make()))
    result["pictures"] = [str(out / name) for name in pictures]
    write_json(out / RESULT_NAME, result)
    return result


def divergences(found: "AttentionSimilarity") -> dict[str, Any]:
    """Return divergences of attention as lists, `(layers, layers)` and of all pairs of heads."""
    return {
        "averaged": found.averaged.tolist(),
        "closest": found.closest.tolist(),
        "heads": found.heads.tolist(),
    }


def attention_pictures(
    model: "EmbeddingModel", maps: "torch.Tensor", found: "AttentionSimilarity"
) -> "dict[str, Callable[[], Figure]]":
    """Return what draws attention maps and their similarity, by the names of files."""
    from aalbert.train.report.attention_figures import (
        attention_figure,
        head_similarity_figure,
        similarity_figure,
    )

    return {
        "attention.png": lambda: attention_figure(maps.numpy(), model.frame_shift_ms),
        "similarity.png": lambda: similarity_figure(found.averaged.numpy(), found.closest.numpy()),
        "heads.png": lambda: head_similarity_figure(found.heads.numpy()),
    }


def reconstruction_picture(
    model: "EmbeddingModel", features: "Features"
) -> "dict[str, Callable[[], Figure]]":
    """Return what draws a reconstruction, by the name of its file; empty if there can be none."""
    from aalbert.models.pretrained import PretrainedModel
    from aalbert.train.pretraining.config import MaskingConfig
    from aalbert.train.pretraining.figure import reconstruction_figure

    pretrained = model.model
    if not can_reconstruct(pretrained):
        return {}
    assert isinstance(pretrained, PretrainedModel)
    read = {pretrained.config.features["kind"]: features.astype("float16")}
    return {"reconstruction.png": lambda: reconstruction_figure(pretrained, read, MaskingConfig())}


def read_features(model: "EmbeddingModel", audio: Path) -> "Features":
    """Return the features of the first seconds of a recording; `InputError` if there are none."""
    from aalbert.errors import InputError
    from aalbert.pipeline.audio.decode import read_audio
    from aalbert.pipeline.audio.recording import UnusableAudioError

    try:
        features = model.features_of(read_audio(audio, model.sample_rate).wave)
    except UnusableAudioError as error:
        raise InputError(f"{audio} {error}") from error
    return features[: frames_drawn(model)]


def frames_drawn(model: "EmbeddingModel") -> int:
    """Return how many frames of features are drawn: no more than are encoded at once."""
    drawn = round(SECONDS_DRAWN * 1000 / model.settings.frame_shift_ms)
    encoder = model.upstream.config.encoder
    if encoder is None or encoder.chunk_frames is None:
        return drawn
    return min(drawn, encoder.chunk_frames * model.upstream.config.front_end.frames_stacked)


def attention_maps(model: "EmbeddingModel", features: "Features") -> "torch.Tensor":
    """Return the attention `(layers, heads, frames, frames)` of features `(frames, dims)`."""
    import torch

    with torch.no_grad():
        maps = model.upstream.attention_maps(
            torch.from_numpy(features).unsqueeze(0), torch.tensor([len(features)])
        )
    return maps[:, 0]


def can_reconstruct(model: "torch.nn.Module") -> bool:
    """Return whether a model predicts the feature that it reads, and nothing else."""
    from aalbert.models.pretrained import PretrainedModel

    return isinstance(model, PretrainedModel) and all(
        target.feature == model.config.features["kind"]
        and target.dims == model.config.front_end.feature_dims
        and target.deltas == 0
        for target in model.targets
    )
