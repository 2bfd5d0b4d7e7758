"""The container of a recording, by its first bytes."""

import struct
from collections.abc import Callable

from aalbert.pipeline.audio.containers.aiff import examine_aiff
from aalbert.pipeline.audio.containers.au import examine_au
from aalbert.pipeline.audio.containers.caf import examine_caf
from aalbert.pipeline.audio.containers.contents import NOTHING_KNOWN, Contents
from aalbert.pipeline.audio.containers.flac import examine_flac
from aalbert.pipeline.audio.containers.mp3 import examine_mp3
from aalbert.pipeline.audio.containers.ogg import examine_ogg
from aalbert.pipeline.audio.containers.riff import examine_riff
from aalbert.pipeline.audio.containers.sphere import examine_sphere
from aalbert.pipeline.audio.containers.wave64 import MAGIC as WAVE64_MAGIC
from aalbert.pipeline.audio.containers.wave64 import examine_wave64
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

Examine = Callable[[Recording], Contents]


def examine(recording: Recording) -> Contents:
    """Return what the container of a recording holds, once it is found to be whole.

    Raises `UnusableAudioError` for a file that is cut off, damaged, or goes on after its end.
    """
    try:
        return examiner_of(recording.header)(recording)
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise UnusableAudioError(f"has a header that cannot be read: {error}") from error


def examiner_of(header: bytes) -> Examine:
    """Return the function that knows the container that begins with these bytes."""
    kind, form = header[:4], header[8:12]
    if kind in (b"RIFF", b"RIFX", b"RF64") and form == b"WAVE":
        return examine_riff
    if kind == b"FORM" and form in (b"AIFF", b"AIFC"):
        return examine_aiff
    if header.startswith(WAVE64_MAGIC):
        return examine_wave64
    if kind in (b".snd", b"dns."):
        return examine_au
    if kind == b"caff":
        return examine_caf
    if header.startswith(b"NIST_1A"):
        return examine_sphere
    if kind == b"fLaC":
        return examine_flac
    if kind == b"OggS":
        return examine_ogg
    if header.startswith(b"ID3") or (len(header) > 1 and header[0] == 0xFF and header[1] >= 0xE0):
        return examine_mp3
    return lambda recording: NOTHING_KNOWN
