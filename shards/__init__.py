"""The data contract: features on disk, their index and manifest, and the loader that reads them."""
