"""The data contract: features on disk, their index and manifest, and the loader that reads them."""

from aalbert.shards.dataset import Dataset
from aalbert.shards.loader import Batch, Loader, LoaderConfig
from aalbert.shards.manifest import Manifest
from aalbert.shards.order import OrderConfig

__all__ = ["Batch", "Dataset", "Loader", "LoaderConfig", "Manifest", "OrderConfig"]
