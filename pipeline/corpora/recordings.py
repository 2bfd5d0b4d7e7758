"""The recordings of utterances: files, or bytes within a file."""

from pathlib import Path

from aalbert.errors import InputError
from aalbert.pipeline.corpora.archive import read_member
from aalbert.pipeline.corpora.corpus import Utterance


def audio_of(utterance: Utterance) -> Path | bytes:
    """Return the file of an utterance's recording, or its bytes when they are within a file."""
    if utterance.offset is None:
        return utterance.path
    if utterance.index is not None:
        return read_member(utterance.path, utterance.index, utterance.offset, utterance.size)
    try:
        with utterance.path.open("rb") as stream:
            stream.seek(utterance.offset)
            return stream.read(utterance.size)
    except OSError as error:
        raise InputError(
            f"{utterance.path} cannot be read ({error.strerror}): run the command again"
        ) from error
