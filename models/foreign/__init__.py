"""Checkpoints of other systems: s3prl's, and those of the AALBERT repository."""
