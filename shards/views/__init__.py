"""What people look at: descriptions, statistics, single utterances, pictures."""
