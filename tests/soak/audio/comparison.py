"""What tells two decodings of a file apart."""

from dataclasses import replace

import numpy as np
import soxr

from tests.soak.audio.reader import Decoded

# Relative to the largest sample. Decoders of MP3 round differently; those of Microsoft's ADPCM
# round a division up or down, and what they have decoded leads to the next sample.
TOLERANCES = {"MP3": 1e-4, "MS_ADPCM": 2e-2}
EXACT = 1e-6
# The bodies of these have no checksum, so that damage there cannot be seen, and no decoder is right
# about it: values overflow, and a frame of MP3 may need one that is gone. Their number is right.
NO_CHECKSUM = ("MP3", "GSM", "ADPCM", "ALAC")
# ffmpeg takes the padding of the last packet off twice, and leaves out packets that it cannot
# decode; libsndfile gives as many samples as the table of packets has.
ALAC_SAMPLES = 24_001
ALAC_PADDING = 575
# ffmpeg leaves out frames of MP3 whose description of their data contradicts itself, others decode
# silence, as long as the frame.
MP3_LEFT_OUT = range(576, 10 * 576, 576)
# It decodes a frame that only describes the file as one of silence when its flags are damaged.
MP3_DESCRIBING = (576, 1152)
# It decodes groups of four bytes of ADPCM only, each of eight samples.
ADPCM_GROUP = 8
# It knows no more channels.
FFMPEG_CHANNELS = 64
# Two files end to end. Where the second has lost its header, and as many frames are gone as are
# there twice, there are as many samples as the first header counts.
JOINED_FLAC, JOINED_SAMPLES = "cat_two.flac", 96_001
# ffmpeg gives what the codec computes at, libsndfile the rate of the recording.
OPUS_RATE = 48_000
OPUS_CORRELATION = 0.98


def difference(name: str, found: Decoded, expected: Decoded | None, *, damaged: bool) -> str | None:
    """What is not as ffmpeg decodes it in a file of a form; None for nothing that counts."""
    form = name.upper()
    if "ALAC" in form and damaged:
        count = len(found.wave)
        return None if count == ALAC_SAMPLES else f"{count} samples, written were {ALAC_SAMPLES}"
    if expected is None:
        nothing = f"{len(found.wave)} samples, ffmpeg decodes nothing"
        return nothing if found.channels <= FFMPEG_CHANNELS else None
    if "OPUS" in form:
        return difference_of_opus(found, expected)
    if (found.rate, found.channels) != (expected.rate, expected.channels):
        return f"{found.rate} Hz, channels {found.channels}; {expected.rate}, {expected.channels}"
    if "MP3" in form and damaged and (len(found.wave) - len(expected.wave)) in MP3_LEFT_OUT:
        return None
    if "MP3" in form and damaged and len(expected.wave) - len(found.wave) in MP3_DESCRIBING:
        expected = replace(expected, wave=expected.wave[len(expected.wave) - len(found.wave) :])
        damaged = False
    wave = found.wave[:-ALAC_PADDING] if "ALAC" in form else found.wave
    if "ADPCM" in form and damaged and abs(len(wave) - len(expected.wave)) < ADPCM_GROUP:
        return None
    if name == JOINED_FLAC and damaged and len(wave) == JOINED_SAMPLES < len(expected.wave):
        return None
    if len(wave) != len(expected.wave):
        return f"{len(wave)} samples; {len(expected.wave)}"
    if damaged and any(each in form for each in NO_CHECKSUM):
        return None
    limit = next((limit for each, limit in TOLERANCES.items() if each in form), EXACT)
    largest = float(np.abs(wave - expected.wave).max())
    return f"{largest:.3g} apart" if largest > limit * max(1.0, np.abs(wave).max()) else None


def difference_of_opus(found: Decoded, expected: Decoded) -> str | None:
    """The same where the rates differ, and so the filters between them."""
    wave = soxr.resample(expected.wave, OPUS_RATE, found.rate)
    shared = min(len(wave), len(found.wave))
    if expected.rate != OPUS_RATE or abs(len(wave) - len(found.wave)) > 1:
        return f"{len(found.wave)} samples; {len(wave)}"
    correlation = float(np.corrcoef(wave[:shared], found.wave[:shared])[0, 1])
    return None if correlation > OPUS_CORRELATION else f"a correlation of {correlation:.3f}"
