"""Batches for training: order, look-up, fill, slots (`loader` says how they follow)."""
