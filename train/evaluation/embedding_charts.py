"""Charts of embeddings on their two planes."""

import numpy as np

from aalbert.common.text import visible
from aalbert.train.evaluation.embedding_planes import EmbeddingPlanes, Plane
from aalbert.train.report.charts import (
    Axis,
    Chart,
    Floats,
    Key,
    Point,
    linear_axis,
    series_shape,
    series_style,
)


def embedding_charts(planes: EmbeddingPlanes) -> tuple[Chart, Chart]:
    """Draw the principal components, and t-SNE, with a colour and a shape for every label."""
    first, second = (f"{100 * share:.0f} % of the variance" for share in planes.shares)
    return (
        plane_chart(
            planes.principal,
            planes,
            (f"first principal component, {first}", f"second principal component, {second}"),
        ),
        plane_chart(planes.neighbours, planes, ("t-SNE, first axis", "t-SNE, second axis")),
    )


def plane_chart(points: Plane, planes: EmbeddingPlanes, axes: tuple[str, str]) -> Chart:
    """Draw the points of one of the planes; `axes` are the names of its directions."""
    places = {name: place for place, name in enumerate(sorted(set(planes.labels)))}
    x_axis, y_axis = (spread(points[:, side], axes[side]) for side in (0, 1))
    return Chart(
        description=f"embeddings: {axes[1]} over {axes[0]}",
        x=x_axis,
        y=y_axis,
        height=360,
        points=[
            Point(
                x=x_axis.at(across),
                y=round(100 - y_axis.at(up), 2),
                text=visible(label),
                style=f"{series_style(places[label])} faint",
                shape=series_shape(places[label]),
            )
            for (across, up), label in zip(points.tolist(), planes.labels, strict=True)
        ],
        keys=[
            Key(visible(name), series_style(place), series_shape(place))
            for name, place in places.items()
        ],
    )


def spread(values: Floats, label: str) -> Axis:
    """Return an axis without ticks around values that have no unit."""
    margin = 0.04 * float(np.ptp(values)) or 1.0
    axis = linear_axis(label, float(values.min()) - margin, float(values.max()) + margin)
    return Axis(label, (), axis.place)
