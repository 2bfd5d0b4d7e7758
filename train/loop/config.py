"""Settings that both jobs have: the precision of their steps, and the loggers."""

import math
from dataclasses import dataclass
from typing import Literal

from aalbert.errors import require, require_positive

# As Lightning names them: float32; products in bfloat16 or float16, weights and sums in float32.
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
LoggerName = Literal["tensorboard", "wandb", "mlflow", "comet", "csv"]


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW with a linear warm-up and a linear decay of the learning rate.

    The warm-up takes `warmup_steps`, or `warmup_proportion` of all steps if that is None.
    """

    learning_rate: float = 2e-4
    warmup_proportion: float = 0.07
    warmup_steps: int | None = None
    weight_decay: float = 0.01
    gradient_clip: float = 5.0

    def __post_init__(self) -> None:
        require_positive("optimiser.", self, "learning_rate", "gradient_clip")
        require(
            0 <= self.warmup_proportion < 1,
            f"optimiser.warmup_proportion {self.warmup_proportion} must be in [0, 1)",
        )
        require(
            self.warmup_steps is None or self.warmup_steps >= 0,
            f"optimiser.warmup_steps {self.warmup_steps} must not be negative",
        )
        require(
            0 <= self.weight_decay < math.inf,
            f"optimiser.weight_decay {self.weight_decay} must not be negative",
        )

    def count_warmup_steps(self, steps: int) -> int:
        """Return the number of warm-up steps of a run with so many steps in all.

        Raises `ConfigError` for a warm-up that is longer than the run.
        """
        if self.warmup_steps is None:
            return share_of_steps(self.warmup_proportion, steps)
        require(
            self.warmup_steps < steps,
            f"optimiser.warmup_steps {self.warmup_steps} leave none of {steps} steps at the full "
            "learning rate: use fewer, or --set optimiser.warmup_steps=null for "
            f"optimiser.warmup_proportion {self.warmup_proportion}",
        )
        return self.warmup_steps


def share_of_steps(proportion: float, steps: int) -> int:
    """Return a proportion of the steps below 1 in steps, never all of them."""
    return min(round(proportion * steps), steps - 1)
