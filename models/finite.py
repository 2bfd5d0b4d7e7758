"""A check that what a model computed is a number, wherever no loss would show that it is not."""

from torch import Tensor

from aalbert.errors import DivergedError


def require_finite(values: Tensor, name: str) -> None:
    """Raise `DivergedError` when what a model computed of the input `name` is not finite."""
    if not bool(values.isfinite().all()):
        raise DivergedError(
            f"what the model computes of '{name}' is not finite (NaN or infinity): its weights are "
            "damaged, or too large for 16 bits; use another checkpoint"
        )
