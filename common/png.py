"""Figures of matplotlib as PNG files; matplotlib is not imported here, a figure comes with it."""

import io
from typing import Any


def png_bytes(figure: Any, dots_per_inch: int) -> bytes:
    """Return a figure as the bytes of a PNG file, with all its texts as they are written.

    Names of classes, speakers, utterances and runs come from data. Left to itself, matplotlib reads
    what is between two dollar signs as mathematics, and raises `ValueError` where it is none.
    """
    for text in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch)
    return buffer.getvalue()
