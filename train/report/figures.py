"""Pictures of matplotlib in reports, and their conversion to PNG data inside a page."""

import base64
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aalbert.common.palette import INTENSITY_MAP
from aalbert.common.png import png_bytes

# The width of a phone's page in inches, of 96 CSS pixels with two dots each: pages show pictures at
# that width everywhere, so that their letters are as large as those of the page.
WIDTH, DOTS_PER_INCH = 3.73, 192
# The size of letters, in points, that is that of the notes of a page.
LETTERS = 11


def png_uri(png: bytes) -> str:
    """Return the bytes of a PNG file as `data:image/png;base64,...`."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def to_png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    return png_bytes(figure, DOTS_PER_INCH)


def draw_spectrogram(
    axes: Any, frames: NDArray[np.float32], frame_shift_ms: float, limits: tuple[float, float]
) -> Any:
    """Draw frames `(frames, dims)` over seconds, with the colours between two values."""
    seconds = len(frames) * frame_shift_ms / 1000
    return axes.imshow(
        frames.T,
        origin="lower",
        aspect="auto",
        cmap=INTENSITY_MAP,
        vmin=limits[0],
        vmax=limits[1],
        extent=(0, seconds, 0, frames.shape[1]),
        # In between, numbers would be made up, and a file three times as large.
        interpolation="nearest",
    )


def tidy(axes: Any) -> None:
    """Hide the top and right spines of axes."""
    axes.spines[["top", "right"]].set_visible(False)
