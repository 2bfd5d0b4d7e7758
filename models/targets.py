"""What a model learns to reconstruct."""

from dataclasses import dataclass

from aalbert.errors import require
from aalbert.models.front_end import FrontEndConfig, Normalisation


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """A stored feature to reconstruct, with deltas and a normalisation of its own.

    `dims` are those that are stored.
    """

    feature: str
    dims: int
    deltas: int = 0
    normalisation: Normalisation = "utterance"

    def __post_init__(self) -> None:
        require(self.dims > 0, f"target.dims {self.dims} must be above 0")

    def front_end(self, frames_stacked: int) -> FrontEndConfig:
        """Return how the stored feature becomes the target of encoder frames."""
        return FrontEndConfig(
            feature_dims=self.dims,
            deltas=self.deltas,
            normalisation=self.normalisation,
            frames_stacked=frames_stacked,
        )
