"""Downstream tasks: config, build, module, run, and the labels they learn."""
