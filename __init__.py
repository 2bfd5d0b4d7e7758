"""Audio ALBERT: speech features computed once, a lite BERT pretrained on them, speakers identified.

The subpackages, from the bottom up: `shards` (features on disk) and `models`
(weights on disk), `pipeline` (audio to shards) and `train` (shards to weights
to reports), and the command line in `cli`.

`aalbert.from_pretrained` opens a model that computes hidden states of waves, `aalbert.load` a
trained run that predicts their classes or compares speakers. They are imported on first use, so
that `import aalbert` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aalbert.pipeline.embeddings.load import from_pretrained
    from aalbert.pipeline.embeddings.model import EmbeddingModel
    from aalbert.pipeline.prediction.predictor import Predictor, load

__version__ = "0.1.0"
__all__ = ["EmbeddingModel", "Predictor", "__version__", "from_pretrained", "load"]

MODULES = {
    "EmbeddingModel": "embeddings.model",
    "from_pretrained": "embeddings.load",
    "Predictor": "prediction.predictor",
    "load": "prediction.predictor",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it (PEP 562)."""
    if name not in MODULES:
        raise AttributeError(f"module 'aalbert' has no attribute '{name}'")
    return getattr(import_module(f"aalbert.pipeline.{MODULES[name]}"), name)
