"""Containers of audio: how much each holds, and whether it is all there.

libsndfile reads a file that is cut off, or longer than its header says, without an error.
"""
