"""The whole files that the fuzz damages: of every form, and the odd ones beside the project."""

import io
from pathlib import Path

import numpy as np
import soundfile

from tests.pipeline.audio.containers.test_completeness import FORMS, IDS, RATE, wave, written

# Forms that the test of completeness has not: block codecs, whose samples no header counts.
BLOCK_CODINGS = ("GSM610", "MS_ADPCM", "IMA_ADPCM")
FORM_NAMES = [*IDS, *(f"WAV-{coding}" for coding in BLOCK_CODINGS), "MP3-STEREO"]


def synthesised() -> dict[str, bytes]:
    """A file of every form that libsndfile writes, by container and coding."""
    forms = [*FORMS, *(("WAV", coding) for coding in BLOCK_CODINGS)]
    contents = [*(written(form) for form in forms), stereo_mp3()]
    return dict(zip(FORM_NAMES, contents, strict=True))


def stereo_mp3() -> bytes:
    """An MP3 of two channels at 44.1 kHz and a variable bitrate."""
    stream = io.BytesIO()
    channels = np.stack([wave(3 * RATE), wave(3 * RATE, seed=1)], axis=1)
    soundfile.write(stream, channels, 44_100, format="MP3", bitrate_mode="VARIABLE")
    return stream.getvalue()


def recorded(shared: Path) -> dict[str, bytes]:
    """The odd files of `../shared`, by name, where it is beside the project."""
    folders = (shared / "data" / "edge_cases", shared / "cases" / "audio")
    return {path.name: path.read_bytes() for each in folders for path in sorted(each.glob("*.*"))}
