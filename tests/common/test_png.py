import io

import matplotlib
import pytest
from matplotlib.figure import Figure

from aalbert.common.png import drawable, png_bytes

# No mathematics, mathematics, and an escaped sign, as matplotlib reads them.
NAMES = [r"$\bad$", "$x^2$", r"5\$"]


def figure_with(name: str) -> Figure:
    """A name in every place that a text of a figure can have."""
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes, other = figure.subplots(1, 2, sharex=True)
    axes.plot([0, 1], [0, 1], label=name)
    axes.set_xticks([0, 1], [name, name])
    axes.set(xlabel=name, ylabel=name)
    axes.set_title(name, loc="left")
    axes.annotate(name, (0.5, 0.5))
    axes.legend()
    image = other.imshow([[0, 1], [1, 0]])
    figure.colorbar(image, ax=other, label=name)
    figure.suptitle(name)
    figure.supxlabel(name)
    figure.legend(loc="outside lower center")
    return figure


@pytest.mark.parametrize("name", NAMES)
def test_names_in_a_figure_are_drawn_as_they_are_written(name: str) -> None:
    with matplotlib.rc_context({"text.parse_math": False}):
        expected = io.BytesIO()
        figure_with(name).savefig(expected, format="png", dpi=80)
    assert png_bytes(figure_with(name), 80) == expected.getvalue()
    assert matplotlib.rcParams["text.parse_math"] is True


def test_left_to_itself_a_figure_fails_on_such_a_name() -> None:
    with pytest.raises(ValueError, match=r"\\bad"):
        figure_with(r"$\bad$").savefig(io.BytesIO(), format="png")


def test_a_name_is_drawn_short_and_in_letters_that_the_font_has() -> None:
    assert drawable("$x^2$ שלום") == "$x^2$ שלום"
    assert drawable("日") == r"\u65e5" and drawable("a\nb\udcff") == r"a\nb\udcff"
    assert drawable("a" * 20 + "b" * 220 + "c" * 20) == f"{'a' * 18}…{'c' * 8}"
    # An escape is never cut.
    assert drawable("日" * 9) == r"\u65e5\u65e5\u65e5…\u65e5"
