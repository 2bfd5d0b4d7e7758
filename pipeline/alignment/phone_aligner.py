"""The phones of a recording whose words are known, by pocketsphinx and the model of its wheel.

The words are aligned first, with a choice among their pronunciations and silence between them, and
then the phones within the words. Every recording has a decoder of its own, with a dictionary of its
words alone, since one that has aligned others before may give other phones.
"""

import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aalbert.common.pronunciations import Pronunciations
from aalbert.errors import ConfigError
from aalbert.pipeline.alignment.phone_set import PHONES, SILENCE

SAMPLE_RATE = 16_000
LABEL_SHIFT_MS = 10.0
SAMPLES_PER_LABEL = 160
MODEL = "en-us"


class NotAlignedError(Exception):
    """A recording and its words cannot be aligned; the text is the reason."""


def import_pocketsphinx() -> ModuleType:
    """Return the module; `ConfigError` with the command that installs it when it is missing."""
    try:
        import pocketsphinx
    except ImportError as error:
        raise ConfigError(
            f"aligning needs pocketsphinx ({error}): pip install 'aalbert[align]'"
        ) from error
    module: ModuleType = pocketsphinx
    return module


def dictionary_path() -> str:
    """Return the path of the pronunciations that pocketsphinx has."""
    path: str = import_pocketsphinx().get_model_path(f"{MODEL}/cmudict-en-us.dict")
    return path


def software() -> str:
    """Return the name and the version of the software, and its model, for records."""
    return f"pocketsphinx {version('pocketsphinx')}, model {MODEL}"


def align_phones(
    wave: NDArray[np.float32], words: Sequence[str], pronunciations: Mapping[str, Pronunciations]
) -> list[str]:
    """Return the phone of every 10 ms of a wave `(samples,)` at 16 kHz in which words are spoken.

    Label `i` is that of the window whose centre is nearest to the middle of its 10 ms: window `i`
    of 25.6 ms has its centre 12.8 ms after the start of label `i`, so label `i` takes that of
    window `i - 1`. Raises `NotAlignedError` when the words do not fit into the wave.
    """
    samples = np.rint(wave * 32_768).clip(-32_768, 32_767).astype("<i2").tobytes()
    try:
        windows = align_windows(samples, words, pronunciations)
    except RuntimeError as error:
        raise NotAlignedError(f"cannot be aligned: {error}") from error
    labels = len(wave) // SAMPLES_PER_LABEL
    if not windows or not labels:
        raise NotAlignedError("cannot be aligned: the words do not fit into the recording")
    padded = [windows[0], *windows, *[windows[-1]] * labels]
    return padded[:labels]


def align_windows(
    samples: bytes, words: Sequence[str], pronunciations: Mapping[str, Pronunciations]
) -> list[str]:
    """Return the phone of every window of 16-bit samples; none when the words do not fit."""
    decoder = make_decoder(words, pronunciations)
    decoder.set_align_text(" ".join(words))
    process(decoder, samples)
    if decoder.hyp() is None:
        return []
    decoder.set_alignment()
    process(decoder, samples)
    # Noises between words, such as breath, have phones of their own.
    return [
        phone.name if phone.name in PHONES else SILENCE
        for word in decoder.get_alignment()
        for phone in word
        for _ in range(phone.duration)
    ]


def make_decoder(words: Sequence[str], pronunciations: Mapping[str, Pronunciations]) -> Any:
    """Return a decoder that knows these words alone.

    Its search of the best path through all hypotheses (`bestpath`) is off: it moves the borders of
    words, and then the phones of every sixth utterance do not fit into them.
    """
    pocketsphinx = import_pocketsphinx()
    lines = [
        f"{word}({number}) {' '.join(phones)}\n" if number > 1 else f"{word} {' '.join(phones)}\n"
        for word in sorted(set(words))
        for number, phones in enumerate(pronunciations[word], start=1)
    ]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".dict") as dictionary:
        dictionary.writelines(lines)
        dictionary.flush()
        return pocketsphinx.Decoder(
            hmm=pocketsphinx.get_model_path(f"{MODEL}/{MODEL}"),
            dict=dictionary.name,
            lm=None,
            bestpath=False,
            loglevel="FATAL",
        )


def process(decoder: Any, samples: bytes) -> None:
    """Let a decoder process a whole recording."""
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()
