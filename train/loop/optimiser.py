"""The optimiser: its settings, weight decay by parameter, the learning rate of every step."""

from typing import Any

import torch


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
