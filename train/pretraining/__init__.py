"""Pretraining: config, build, module, run, and what a step consists of."""
