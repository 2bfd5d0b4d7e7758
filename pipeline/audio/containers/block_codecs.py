"""Codecs of WAV that code samples in blocks: GSM 6.10 and two of ADPCM.

libsndfile takes a byte of padding behind the last block for one more of them, and decodes a block
of ADPCM that begins with an impossible state.
"""

from dataclasses import dataclass

import numpy as np

from aalbert.pipeline.audio.containers.chunks import Chunk
from aalbert.pipeline.audio.recording import Recording, UnusableAudioError

GSM = 0x31
GSM_BLOCK_BYTES, GSM_BLOCK_SAMPLES = 65, 320


@dataclass(frozen=True)
class Adpcm:
    """How a block begins: bytes and samples of every channel, and the states that there are.

    The state of a channel is a byte at `first_state`, that of the next one `state_step` bytes
    behind it. After them a sample has half a byte.
    """

    head_bytes: int
    head_samples: int
    first_state: int
    state_step: int
    states: int

    def samples(self, size: int, channels: int) -> int:
        """Return the samples per channel in a block, or a beginning of one, of this many bytes."""
        coded = size - self.head_bytes * channels
        return self.head_samples + 2 * coded // channels if coded >= 0 else 0


# By the number of the coding in `fmt `: Microsoft's, and that of the Interactive Multimedia
# Association.
ADPCM = {
    0x02: Adpcm(head_bytes=7, head_samples=2, first_state=0, state_step=1, states=7),
    0x11: Adpcm(head_bytes=4, head_samples=1, first_state=2, state_step=4, states=89),
}


def count_block_samples(
    recording: Recording, data: Chunk, coding: int, channels: int, block: int
) -> int | None:
    """Return the samples per channel of blocks of `block` bytes; None for an unknown coding.

    Raises `UnusableAudioError` for a block that no encoder writes.
    """
    if coding == GSM:
        return data.size // GSM_BLOCK_BYTES * GSM_BLOCK_SAMPLES
    if coding not in ADPCM:
        return None
    adpcm = ADPCM[coding]
    whole, rest = divmod(data.size, block)
    if block <= adpcm.head_bytes * channels:
        raise UnusableAudioError(f"has blocks of {block} bytes, which hold no sample of ADPCM")
    content = np.frombuffer(recording.content, np.uint8, whole * block, data.start)
    offsets = adpcm.first_state + adpcm.state_step * np.arange(channels)
    wrong = (content.reshape(whole, block)[:, offsets] >= adpcm.states).any(axis=1)
    if wrong.any():
        raise UnusableAudioError(
            f"damaged: block {int(wrong.argmax())} of {whole} begins with no state of ADPCM"
        )
    return whole * adpcm.samples(block, channels) + adpcm.samples(rest, channels)
