"""Around every training step: trainer, ranks, optimiser, checkpoints, signals, logs."""
