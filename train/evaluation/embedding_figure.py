"""The figure of embeddings on their two planes."""

import numpy as np
from matplotlib.figure import Figure

from aalbert.common.png import drawable
from aalbert.train.evaluation.embedding_planes import EmbeddingPlanes
from aalbert.train.report.figures import WIDTH, tidy

# Matplotlib's ten colours, each with a marker, so that none is told by its colour alone.
MARKERS = "os^Dv<>Phd"


def embedding_figure(planes: EmbeddingPlanes) -> Figure:
    """Draw the principal components above t-SNE, with a colour and a marker for every label."""
    names = sorted(set(planes.labels))
    figure = Figure(figsize=(WIDTH, 8.2), layout="constrained")
    panels = figure.subplots(2, 1)
    labels = np.array(planes.labels)
    for axes, points in zip(panels, (planes.principal, planes.neighbours), strict=True):
        groups = [
            axes.scatter(
                *points[labels == name].T,
                s=16,
                color=f"C{number % 10}",
                marker=MARKERS[number % len(MARKERS)],
                alpha=0.8,
                linewidths=0,
            )
            for number, name in enumerate(names)
        ]
        axes.set(xticks=[], yticks=[])
        tidy(axes)
    first, second = (f"{100 * share:.0f} %" for share in planes.shares)
    panels[0].set_title("principal components", fontsize=10, loc="left")
    panels[0].set_xlabel(f"first component ({first} of the variance)")
    panels[0].set_ylabel(f"second component ({second})")
    panels[1].set_title("t-SNE", fontsize=10, loc="left")
    figure.legend(
        groups,
        [drawable(name) for name in names],
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    return figure
