"""The command `aalbert extract`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aalbert.commands.console import AsJson, Out, show
from aalbert.commands.machine import DeviceOption, ThreadsOption, use_machine
from aalbert.commands.options import (
    AudioArgument,
    DryRunOption,
    MaxSkippedOption,
    SplitsOption,
    listed_places,
)
from aalbert.errors import ConfigError

if TYPE_CHECKING:
    from aalbert.pipeline.embeddings.model import Layers

LayersOption = Annotated[
    str,
    typer.Option(
        metavar="LAYERS",
        help="last, a number (0 is the projected input), all, mean (of all), or weighted (by "
        "the mix of a downstream run).",
    ),
]
ModelPlace = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Folder or URL of a saved model or a run, or USER/MODEL on the hub.",
        show_default=False,
    ),
]


def extract(
    inputs: AudioArgument,
    model: ModelPlace,
    out: Out,
    layers: LayersOption = "last",
    pooling: Annotated[
        Literal["none", "mean", "mean+std"],
        typer.Option(help="Pooling over frames: none, mean, or mean and standard deviation."),
    ] = "none",
    format: Annotated[
        Literal["npy", "safetensors", "shards"],
        typer.Option(
            help="One .npy file per recording, safetensors files, or WebDataset shards (float16)."
        ),
    ] = "npy",
    split: SplitsOption = None,
    dry_run: DryRunOption = False,
    device: DeviceOption = None,
    max_skipped: MaxSkippedOption = 0.001,
    threads: ThreadsOption = None,
    as_json: AsJson = False,
) -> None:
    """Compute the hidden states of recordings: embeddings, per frame or per utterance.

    Example: aalbert extract --model runs/pretrain recordings/ --out embeddings
    """
    from dataclasses import asdict, replace

    from aalbert.pipeline.embeddings.estimate import estimate_extraction
    from aalbert.pipeline.embeddings.extract import ExtractConfig, extract_embeddings
    from aalbert.pipeline.embeddings.inputs import find_inputs
    from aalbert.pipeline.embeddings.load import from_pretrained
    from aalbert.pipeline.embeddings.pieces import check_finished

    config = ExtractConfig(layers=parse_layers(layers), pooling=pooling, format=format)
    use_machine(device, threads)
    opened = from_pretrained(model, device=None)
    found = replace(find_inputs(opened, listed_places(inputs), split or ()), places=inputs)
    if dry_run:
        expected = estimate_extraction(opened, found, config)
        show({"out": str(out), **asdict(expected)}, as_json, f"{out}: {expected.describe()}")
        return
    record = extract_embeddings(opened, found, out, config)
    text = (
        f"{out}: {record['utterances']:,} utterances, {record['hours']:.2f} hours, layers "
        f"{record['layers']}, width {record['width']}, {record['skipped']} inputs skipped"
    )
    show({"out": str(out), **record}, as_json, text)
    check_finished(out, record, max_skipped, "embeddings")


def parse_layers(text: str) -> "Layers":
    """Parse `--layers`; `ConfigError` when it is neither a known word nor a number."""
    words: dict[str, Layers] = {
        "last": "last",
        "all": "all",
        "mean": "mean",
        "weighted": "weighted",
    }
    try:
        return words[text] if text in words else int(text)
    except ValueError as error:
        raise ConfigError(
            f"--layers is '{text}': use last, all, mean, weighted or a number such as 2"
        ) from error
