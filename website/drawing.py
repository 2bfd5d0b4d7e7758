"""Boxes and arrows as SVG, readable on a light page and on a dark one.

Every word stands in a box with its own ground, and lines have a grey between the two pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from aalbert.common.palette import ACCENT, ACCENT_AREA, ACCENT_ROW, CONTRAST, INK, PAPER

LINE = "#7b8794"
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
# The grounds of boxes and the ink on them.
PLAIN, STRONG, WARM = (ACCENT_ROW, INK), (ACCENT, PAPER), (CONTRAST, PAPER)
FRAME, HIDDEN, PREDICTED = ACCENT_AREA, PAPER, CONTRAST


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle; `x`, `y` is its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> tuple[float, float]:
        """The middle of the upper edge."""
        return self.x + self.width / 2, self.y

    @property
    def bottom(self) -> tuple[float, float]:
        """The middle of the lower edge."""
        return self.x + self.width / 2, self.y + self.height

    @property
    def left(self) -> tuple[float, float]:
        """The middle of the left edge."""
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> tuple[float, float]:
        """The middle of the right edge."""
        return self.x + self.width, self.y + self.height / 2


@dataclass
class Drawing:
    """A drawing of a size, whose parts are added one after another."""

    title: str
    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def box(self, box: Box, *lines: str, colours: tuple[str, str] = PLAIN) -> Box:
        """Add a box with lines of text, of which the first is bold; return it."""
        ground, ink = colours
        self.parts.append(
            f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" '
            f'rx="8" fill="{ground}" stroke="{ACCENT}"/>'
        )
        middle = box.x + box.width / 2
        first = box.y + box.height / 2 - 11 * (len(lines) - 1) + 6
        for number, line in enumerate(lines):
            weight = "600" if number == 0 else "400"
            self.parts.append(
                f'<text x="{middle:g}" y="{first + 22 * number:g}" fill="{ink}" '
                f'font-weight="{weight}">{escape(line)}</text>'
            )
        return box

    def frames(self, box: Box, grounds: Sequence[str]) -> Box:
        """Add a row of frames with these colours in a box; return it."""
        step = box.width / len(grounds)
        self.parts += [
            f'<rect x="{box.x + number * step + 1:g}" y="{box.y:g}" width="{step - 2:g}" '
            f'height="{box.height:g}" rx="2" fill="{ground}" stroke="{LINE}"/>'
            for number, ground in enumerate(grounds)
        ]
        return box

    def line(self, *points: tuple[float, float], head: str = "") -> None:
        """Add a line through points; `head` is what its end has."""
        path = " L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path d="M{path}" fill="none" stroke="{LINE}" stroke-width="2"{head}/>')

    def arrow(self, *points: tuple[float, float]) -> None:
        """Add a line through points, with a head at its end."""
        self.line(*points, head=' marker-end="url(#head)"')

    def svg(self) -> str:
        """Return the drawing as a file."""
        head = (
            '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{LINE}"/></marker>'
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
                f'width="{self.width}" height="{self.height}" role="img" font-family="{FONT}" '
                'font-size="16" text-anchor="middle">',
                f"<title>{escape(self.title)}</title>",
                f"<defs>{head}</defs>",
                *self.parts,
                "</svg>\n",
            ]
        )
