"""A dataset for reading: local or behind a URL, checked against what a model needs."""
