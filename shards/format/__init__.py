"""The format on disk: what a dataset consists of, read and written."""
