"""The ground that every room stands on: files, locks, stores, settings, progress, words."""
