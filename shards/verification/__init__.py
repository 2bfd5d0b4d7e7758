"""The verification of a dataset: every byte compared with its index and manifest."""
