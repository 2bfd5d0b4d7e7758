"""The optimiser: its settings, weight decay by parameter, the learning rate of every step."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from aalbert.errors import require, require_positive


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


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the weights with decay, and biases and layer norms without, as in BERT."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def learning_rate_factor(step: int, *, warmup_steps: int, steps: int, decay: bool = True) -> float:
    """Return the factor of the peak learning rate for a step, counted from 0.

    It rises linearly to 1 over `warmup_steps`, then falls linearly to 0 at `steps`; without
    `decay` it stays at 1.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (steps - step) / max(1, steps - warmup_steps)) if decay else 1.0
