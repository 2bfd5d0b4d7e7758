"""Audio ALBERT: speech features computed once, a lite BERT pretrained on them, speakers identified.

The subpackages, from the bottom up: `shards` (features on disk) and `models`
(weights on disk), `pipeline` (audio to shards) and `train` (shards to weights
to reports), and the command line in `cli`.

`aalbert.from_pretrained` opens a model that computes hidden states of waves, `aalbert.load` a
trained run that predicts their classes or compares speakers. They are imported on first use, so
that `import aalbert` stays fast.
"""

from typing import TYPE_CHECKING

from aalbert.common.lazy_names import import_on_use

if TYPE_CHECKING:
    from aalbert.pipeline.embeddings.load import from_pretrained
    from aalbert.pipeline.embeddings.model import EmbeddingModel
    from aalbert.pipeline.prediction.predictor import Predictor, load

__version__ = "0.1.0"
__all__ = ["EmbeddingModel", "Predictor", "__version__", "from_pretrained", "load"]

MODULES = {
    "EmbeddingModel": "pipeline.embeddings.model",
    "from_pretrained": "pipeline.embeddings.load",
    "Predictor": "pipeline.prediction.predictor",
    "load": "pipeline.prediction.predictor",
}

__getattr__ = import_on_use(__name__, MODULES)
