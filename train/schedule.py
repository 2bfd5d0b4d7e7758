"""Learning rates as functions of the step."""


def linear_warmup_and_decay(step: int, *, warmup_steps: int, steps: int) -> float:
    """Return the factor of the peak learning rate for step `step`, counted from 0.

    It rises linearly to 1 over `warmup_steps`, then falls linearly to 0 at `steps`.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (steps - step) / max(1, steps - warmup_steps))
