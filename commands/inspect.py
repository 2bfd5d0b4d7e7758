"""The command `aalbert inspect`: parts and costs of a model, and its attention to a recording.

It uses both `pipeline`, which computes features, and `train`, which draws the pictures.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aalbert.commands.console import AsJson, show
from aalbert.errors import ConfigError, require

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from aalbert.pipeline.embeddings.model import EmbeddingModel, Features

# In an attention map of longer speech, single frames are too small to be seen.
SECONDS_DRAWN = 4.0
RESULT_NAME = "inspection.json"


def inspect(
    place: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A saved model, a run, an old checkpoint, or USER/MODEL on the hub.",
        ),
    ],
    audio: Annotated[
        Path | None, typer.Option(help="Draw the model's attention to this recording.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the pictures of --audio.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the parts and costs of a model; with --audio, draw its attention.

    Example: aalbert inspect runs/pretrain --audio speech.flac --out pictures
    """
    from aalbert.pipeline.embeddings.load import from_pretrained

    require(
        (audio is None) == (out is None), "--audio and --out go together: give both, or neither"
    )
    model = from_pretrained(place)
    document = {"model": model.place, **describe(model)}
    if audio is not None and out is not None:
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
    }


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
    if "pictures" in document:
        lines += ["", *similarity_lines(document), *document["pictures"]]
    return "\n".join(lines)


def similarity_lines(document: dict[str, Any]) -> list[str]:
    """Return lines on how similar the attention of neighbouring layers is."""
    found = document["attention_divergence_bits"]
    return [
        f"attention of layers {number} and {number + 1}: divergence {row[number]:.3f} bits "
        f"averaged over heads, {found['closest'][number - 1][number]:.3f} of the closest heads"
        for number, row in enumerate(found["averaged"][:-1], start=1)
    ]


def draw(model: "EmbeddingModel", audio: Path, out: Path) -> dict[str, Any]:
    """Draw attention, its similarity between layers, and a reconstruction into a folder.

    Raises `OutputInUseError` when the folder is not empty.
    """
    from aalbert.common.files import atomic_write, require_empty, write_json
    from aalbert.models.attention_similarity import compare_layers
    from aalbert.models.pretrained import PretrainedModel
    from aalbert.train.pretraining.config import MaskingConfig
    from aalbert.train.pretraining.figure import reconstruction_figure
    from aalbert.train.report.attention_figures import attention_figure, similarity_figure
    from aalbert.train.report.figures import to_png

    require_empty(out)
    features = read_features(model, audio)
    maps = attention_maps(model, features)
    similarity = compare_layers(maps)
    pictures: dict[str, Callable[[], Figure]] = {
        "attention.png": lambda: attention_figure(maps.numpy(), model.frame_shift_ms),
        "similarity.png": lambda: similarity_figure(
            similarity.averaged.numpy(), similarity.closest.numpy()
        ),
    }
    pretrained = model.model
    if can_reconstruct(pretrained):
        assert isinstance(pretrained, PretrainedModel)
        read = {pretrained.config.features["kind"]: features.astype("float16")}
        pictures["reconstruction.png"] = lambda: reconstruction_figure(
            pretrained, read, MaskingConfig()
        )
    for name, make in pictures.items():
        with atomic_write(out / name) as stream:
            stream.write(to_png(make()))
    result = {
        "audio": str(audio),
        "attention_divergence_bits": {
            "averaged": similarity.averaged.tolist(),
            "closest": similarity.closest.tolist(),
        },
        "pictures": [str(out / name) for name in pictures],
    }
    write_json(out / RESULT_NAME, result)
    return result


def read_features(model: "EmbeddingModel", audio: Path) -> "Features":
    """Return the features of the first seconds of a recording; `InputError` if there are none."""
    from aalbert.errors import InputError
    from aalbert.pipeline.audio.decode import read_audio
    from aalbert.pipeline.audio.recording import UnusableAudioError

    try:
        features = model.features_of(read_audio(audio, model.sample_rate).wave)
    except UnusableAudioError as error:
        raise InputError(f"{audio} {error}") from error
    return features[: round(SECONDS_DRAWN * 1000 / model.settings.frame_shift_ms)]


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
