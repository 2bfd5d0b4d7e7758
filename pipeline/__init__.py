"""Offline work: corpora, audio, features, and the run that writes them as shards."""
