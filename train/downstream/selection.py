"""The selection of the best model by its measurements on the dev part."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from pytorch_lightning import Callback

from aalbert.common.text import figure
from aalbert.models.downstream import DownstreamModel
from aalbert.train.downstream.measures import measure_on_dev
from aalbert.train.loop.validation import Measurement

# The figures that models are selected by, compared from left to right; higher is better.
Quality = tuple[float, ...]


def quality_of(measurement: dict[str, Any]) -> Quality:
    """Return the quality of a measurement: by its measure, and then by a low loss."""
    measure = measure_on_dev(measurement)
    assert measure is not None
    return (measure.quality(measurement[measure.column]), -measurement.get("dev_loss", 0.0))


def best_measurement(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the best of a run's measurements on the dev part, the first of equals.

    It is empty for a run that was not measured there.
    """
    return max(filter(measure_on_dev, rows), key=quality_of, default={})


def describe_measurement(measurement: dict[str, Any]) -> str:
    """Return a measurement on the dev part in words."""
    measure = measure_on_dev(measurement)
    if measure is None:
        return "not measured on dev"
    value = figure(measurement[measure.column], share=measure.share)
    return f"best {measure.name} on dev {value}"


class BestModel(Callback):
    """A callback that measures on the dev part and keeps the weights that are best there.

    A frozen upstream is not kept with the head. Saved states include the best weights.
    """

    def __init__(self, model: DownstreamModel, measure: Callable[[], Measurement]) -> None:
        self.kept = model.head if model.frozen else model
        self.measure_dev = measure
        self.best: dict[str, Any] = {"quality": None, "weights": {}}

    def measure(self) -> Measurement:
        """Measure on the dev part, keep the weights if they are the best so far, return figures."""
        measurement = self.measure_dev()
        quality = quality_of(measurement)
        if self.best["quality"] is None or quality > tuple(self.best["quality"]):
            self.best = {"quality": quality, "weights": copy.deepcopy(self.kept.state_dict())}
        return measurement

    def restore(self) -> None:
        """Put the best weights into the model."""
        self.kept.load_state_dict(self.best["weights"])

    def state_dict(self) -> dict[str, Any]:
        """Return the best weights so far."""
        return self.best

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best weights from a saved state."""
        self.best = state_dict
