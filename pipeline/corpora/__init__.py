"""A file per corpus: what is on disk becomes utterances with keys, splits and speakers."""
