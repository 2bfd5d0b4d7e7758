"""The command `aalbert export`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aalbert.commands.console import AsJson, show


def export(
    place: Annotated[
        str, typer.Argument(metavar="MODEL", help="A saved model, a run, or an old checkpoint.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="File to write.", show_default=False)
    ],
    to: Annotated[
        Literal["onnx"], typer.Option("--to", help="The format of the file.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Write a model as a file that reads waves without this package.

    Needs pip install 'aalbert[onnx]'.

    Example: aalbert export runs/pretrain --to onnx --out model.onnx
    """
    from aalbert.pipeline.onnx_export import export_onnx

    document = export_onnx(place, out)
    show(document, as_json, "" if as_json else summary_text(document))


def summary_text(document: dict[str, Any]) -> str:
    """Return the summary for people."""
    lines = [
        f"{document['source']}: ONNX, opset {document['opset']}",
        f"reads    waves (batch, samples), {document['sample_rate']:,} Hz, floats in [-1, 1), at "
        f"least {document['shortest_samples']:,} samples",
        f"gives    {', '.join(document['outputs'])}: {document['states']} states of width "
        f"{document['width']}, a frame every {document['frame_shift_ms']:g} ms",
    ]
    if document["classes"]:
        lines.append(f"classes  {len(document['classes']):,}, in the metadata of the file")
    return "\n".join([*lines, f"written: {document['out']}, {document['bytes'] / 2**20:.1f} MiB"])
