"""Batches for training: order, look-up, fill, slots (described in `loader`)."""
