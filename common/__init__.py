"""Utilities for all subpackages: files, locks, stores, configuration, progress, text."""
