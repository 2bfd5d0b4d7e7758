"""Every byte of a dataset compared with what its index and manifest say."""
