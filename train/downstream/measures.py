"""What tasks are measured by: the name of each measure, its column on dev, and how it is stated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure of a task, which is called `name`, and on the dev part is the column `column`.

    A share is stated in percent, another number as it is.
    """

    name: str
    column: str
    higher_is_better: bool
    share: bool = True

    def quality(self, value: float) -> float:
        """Return a value such that higher is better."""
        return value if self.higher_is_better else -value


ACCURACY = Measure(name="accuracy", column="dev_accuracy", higher_is_better=True)
FRAME_ACCURACY = Measure(name="frame accuracy", column="dev_accuracy", higher_is_better=True)
EQUAL_ERROR_RATE = Measure(name="equal error rate", column="dev_eer", higher_is_better=False)
MEAN_ABSOLUTE_ERROR = Measure(
    name="mean absolute error", column="dev_mae", higher_is_better=False, share=False
)
PHONE_ERROR_RATE = Measure(name="phone error rate", column="dev_per", higher_is_better=False)
# One for each column.
DEV_MEASURES = (ACCURACY, EQUAL_ERROR_RATE, MEAN_ABSOLUTE_ERROR, PHONE_ERROR_RATE)
DEV_COLUMNS = ("dev_loss", *(measure.column for measure in DEV_MEASURES))
# Of the further metrics of outcomes, those that are shares.
SENTIMENT_SHARES = (
    "accuracy negative/non-negative",
    "F1 negative/non-negative",
    "accuracy negative/positive",
    "F1 negative/positive",
    "7-class accuracy",
)
PHONE_ERRORS = ("substitutions", "deletions", "insertions")
FURTHER_SHARES = frozenset({"top-5 accuracy", *SENTIMENT_SHARES, *PHONE_ERRORS})


def measure_on_dev(measurement: Mapping[str, Any]) -> Measure | None:
    """Return the measure that a row of measurements has on the dev part, if it has one."""
    return next((each for each in DEV_MEASURES if each.column in measurement), None)
