"""The settings that name a way of the loop: precision, what follows a bad gradient, loggers."""

from typing import Literal

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
# What a run does when a gradient is not finite.
Policy = Literal["stop", "skip"]
LoggerName = Literal["tensorboard", "wandb"]
