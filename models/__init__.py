"""What a checkpoint holds: front end, encoder, heads, and how they are saved and loaded."""
