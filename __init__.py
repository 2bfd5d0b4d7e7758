"""Audio ALBERT: speech features computed once, a lite BERT pretrained on them, speakers identified.

The subpackages, from the bottom up: `shards` (features on disk) and `models`
(weights on disk), `pipeline` (audio to shards) and `train` (shards to weights
to reports), and the command line in `cli`.

`aalbert.from_pretrained` opens a model that computes hidden states of waves; it is imported
on first use, so that `import aalbert` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aalbert.pipeline.embeddings.load import from_pretrained
    from aalbert.pipeline.embeddings.model import EmbeddingModel

__version__ = "0.1.0"
__all__ = ["EmbeddingModel", "__version__", "from_pretrained"]

MODULES = {"EmbeddingModel": "model", "from_pretrained": "load"}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it (PEP 562)."""
    if name not in MODULES:
        raise AttributeError(f"module 'aalbert' has no attribute '{name}'")
    return getattr(import_module(f"aalbert.pipeline.embeddings.{MODULES[name]}"), name)
