"""Tags that players write before and after the audio of any file."""

from aalbert.pipeline.audio.recording import Recording

ID3_HEADER_BYTES = 10
ID3_V1_BYTES = 128
APE_TAG_BYTES = 32


def skip_tags(recording: Recording, position: int) -> int:
    """Return the position after the tags, if any, that begin at one."""
    while True:
        head = recording.read(position, APE_TAG_BYTES)
        if head.startswith(b"ID3") and len(head) >= ID3_HEADER_BYTES:
            # Its size has 28 bits, seven in each of four bytes.
            highest, high, low, lowest = head[6:10]
            position += ID3_HEADER_BYTES + (highest << 21 | high << 14 | low << 7 | lowest)
        elif head.startswith(b"APETAGEX") and len(head) == APE_TAG_BYTES:
            position += APE_TAG_BYTES + int.from_bytes(head[12:16], "little")
        elif head.startswith(b"TAG") and recording.size - position >= ID3_V1_BYTES:
            position += ID3_V1_BYTES
        else:
            return min(position, recording.size)
