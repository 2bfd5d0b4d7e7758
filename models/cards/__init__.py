"""The model cards that are saved with models: a header for the hub, and text for people."""
