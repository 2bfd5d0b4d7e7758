"""The data contract: features on disk, their index and manifest, and the loader that reads them.

The names below are imported when they are first used. Only the loader needs PyTorch, whose import
takes seconds; workers of `prepare` write shards without it.
"""

from typing import TYPE_CHECKING

from aalbert.common.lazy_names import import_on_use

if TYPE_CHECKING:
    from aalbert.shards.format.manifest import Manifest
    from aalbert.shards.loading.batch import Batch
    from aalbert.shards.loading.config import LoaderConfig, OrderConfig
    from aalbert.shards.loading.loader import Loader
    from aalbert.shards.loading.order import choose_static_lengths
    from aalbert.shards.loading.webdataset_pipeline import webdataset_pipeline
    from aalbert.shards.reading.dataset import Dataset, Selection

__all__ = [
    "Batch",
    "Dataset",
    "Loader",
    "LoaderConfig",
    "Manifest",
    "OrderConfig",
    "Selection",
    "choose_static_lengths",
    "webdataset_pipeline",
]

MODULES = {
    "Batch": "loading.batch",
    "Dataset": "reading.dataset",
    "Loader": "loading.loader",
    "LoaderConfig": "loading.config",
    "Manifest": "format.manifest",
    "OrderConfig": "loading.config",
    "Selection": "reading.dataset",
    "choose_static_lengths": "loading.order",
    "webdataset_pipeline": "loading.webdataset_pipeline",
}

__getattr__ = import_on_use(__name__, MODULES)
