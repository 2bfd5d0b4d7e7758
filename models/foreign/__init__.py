"""Checkpoints of other systems: s3prl and the AALBERT repository."""
