"""The figures over hidden states: the weights of a learned mix, and the axis that names states."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from aalbert.common.palette import ACCENT, SOFT_INK
from aalbert.train.report.figures import WIDTH, tidy


def layer_figure(weights: Sequence[float]) -> Figure:
    """Draw the weight of each hidden state in the mix that a head reads, beside even weights."""
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(weights)), weights, color=ACCENT)
    even = 1 / len(weights)
    axes.axhline(even, color=SOFT_INK, linewidth=0.8, linestyle=":")
    place = axes.get_yaxis_transform()
    axes.text(1.01, even, "even", transform=place, fontsize=7, va="center", color=SOFT_INK)
    axes.set(ylabel="weight in the mix", ylim=(0, 1.1 * max(weights)))
    name_states(axes, len(weights))
    tidy(axes)
    return figure


def name_states(axes: Any, states: int) -> None:
    """Name the hidden states below an axis on which they are 0, 1, ..."""
    axes.set_xticks(range(states), range(states) if states > 1 else ["features"], fontsize=8)
    axes.set_xlabel("hidden state (0: the encoder's input)" if states > 1 else "")
    axes.set_xlim(-0.6, states - 0.4)
