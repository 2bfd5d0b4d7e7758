"""Phone labels of transcribed recordings, made by a machine."""
