"""What trained heads say of new recordings: their classes, or whether two are of one speaker."""
