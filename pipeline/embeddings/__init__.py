"""Hidden states of recordings: a model is opened, audio is fed to it, files are written."""
