"""Which measurement on the dev part is the best one."""

from collections.abc import Sequence
from typing import Any

# What a model is chosen by: compared from left to right, higher is better.
Quality = tuple[float, ...]


def quality_of(measurement: dict[str, Any]) -> Quality:
    """Return the quality of a measurement: low EER, or high accuracy, and then a low loss."""
    if "dev_eer" in measurement:
        return (-measurement["dev_eer"],)
    return (measurement["dev_accuracy"], -measurement["dev_loss"])


def best_measurement(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the best of a run's measurements on the dev part, the first of equals."""
    measured = [row for row in rows if "dev_accuracy" in row or "dev_eer" in row]
    return max(measured, key=quality_of)


def describe_measurement(measurement: dict[str, Any]) -> str:
    """Return a measurement on the dev part in words."""
    if "dev_eer" in measurement:
        return f"equal error rate on dev {100 * measurement['dev_eer']:.1f} %"
    return f"best accuracy on dev {100 * measurement['dev_accuracy']:.1f} %"
