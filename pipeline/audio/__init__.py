"""Audio in, features out: files are decoded, waves conditioned, features computed."""
