"""The views of a dataset for people: descriptions, statistics, single utterances, pictures."""
