"""Figures of matplotlib as PNG files, and names in them; matplotlib is imported to draw alone."""

import io
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any

from aalbert.common.text import visible

# A longer name would leave no room for what is drawn.
MOST_LETTERS = 28


def drawable(name: str) -> str:
    """Return a name from data as the text of a figure: short, and of letters that the font has.

    What is not printable and letters that the font lacks are written as escapes: boxes would make
    all such names alike. A long name keeps its beginning and its end.
    """
    glyphs = known_glyphs()
    letters = [
        each if ord(each) in glyphs else each.encode("unicode_escape").decode("ascii")
        for each in visible(unicodedata.normalize("NFC", name))
    ]
    if len("".join(letters)) <= MOST_LETTERS:
        return "".join(letters)
    start = fitting(letters, MOST_LETTERS * 2 // 3)
    end = fitting(letters[::-1], MOST_LETTERS // 3 - 1)
    return "".join([*start, "…", *end[::-1]])


def fitting(letters: Sequence[str], most: int) -> Sequence[str]:
    """Return the first letters, or escapes, that take no more than this room."""
    ends = accumulate(map(len, letters))
    return letters[: sum(end <= most for end in ends)]


@cache
def known_glyphs() -> frozenset[int]:
    """Return the characters that the font of figures has."""
    from matplotlib import font_manager

    return frozenset(
        font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).get_charmap()
    )


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
