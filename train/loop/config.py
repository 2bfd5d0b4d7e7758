"""Settings that both jobs have: the precision of their steps, and the loggers."""

from typing import Literal

# As Lightning names them: float32; products in bfloat16 or float16, weights and sums in float32.
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
LoggerName = Literal["tensorboard", "wandb", "mlflow", "comet", "csv"]
