"""The selection of the best model by its measurements on the dev part."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from pytorch_lightning import Callback

from aalbert.models.downstream import DownstreamModel
from aalbert.train.loop.validation import Measurement

# The figures that models are selected by, compared from left to right; higher is better.
Quality = tuple[float, ...]


def quality_of(measurement: dict[str, Any]) -> Quality:
    """Return the quality of a measurement: low EER, or high accuracy, and then a low loss."""
    if "dev_eer" in measurement:
        return (-measurement["dev_eer"],)
    return (measurement["dev_accuracy"], -measurement["dev_loss"])


def best_measurement(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the best of a run's measurements on the dev part, the first of equals.

    It is empty for a run that was not measured there.
    """
    measured = [
        row for row in rows if "dev_eer" in row or {"dev_accuracy", "dev_loss"} <= row.keys()
    ]
    return max(measured, key=quality_of, default={})


def describe_measurement(measurement: dict[str, Any]) -> str:
    """Return a measurement on the dev part in words."""
    if not measurement:
        return "not measured on dev"
    if "dev_eer" in measurement:
        return f"equal error rate on dev {100 * measurement['dev_eer']:.1f} %"
    return f"best accuracy on dev {100 * measurement['dev_accuracy']:.1f} %"


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
