"""No container is read in part: not when it is cut off, and not when it goes on after its end."""

import io
import struct
from pathlib import Path

import miniaudio
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from aalbert.pipeline.audio.decode import read_audio
from aalbert.pipeline.audio.recording import UnusableAudioError

RATE = 16_000
SAMPLES = 24_001
# Container and coding of every file that libsndfile writes and that says how long it is.
FORMS = [
    *(("WAV", coding) for coding in ("PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW")),
    *(("WAVEX", coding) for coding in ("PCM_16", "FLOAT")),
    *(("RF64", coding) for coding in ("PCM_16", "FLOAT")),
    *(("W64", coding) for coding in ("PCM_16", "PCM_24", "FLOAT")),
    *(("AIFF", coding) for coding in ("PCM_16", "PCM_24", "FLOAT")),
    *(("AU", coding) for coding in ("PCM_16", "FLOAT", "ALAW")),
    *(("CAF", coding) for coding in ("PCM_16", "PCM_24", "FLOAT", "ALAC_16")),
    ("NIST", "PCM_16"),
    *(("FLAC", coding) for coding in ("PCM_16", "PCM_24")),
    *(("OGG", coding) for coding in ("VORBIS", "OPUS")),
    ("MP3", "MPEG_LAYER_III"),
]
IDS = ["-".join(form) for form in FORMS]
every_form = pytest.mark.parametrize("form", FORMS, ids=IDS)
# Of these the samples have a size of their own, so that any byte that is missing shows.
COUNTED = [form for form in FORMS if form[0] not in ("OGG", "MP3", "FLAC")]


def wave(samples: int = SAMPLES, seed: int = 0) -> NDArray[np.float32]:
    """Noise under a slow envelope, so that no two parts of it are alike."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, samples)
    return (noise * np.linspace(0.2, 1, samples)).astype(np.float32)


def written(form: tuple[str, str], samples: int = SAMPLES, seed: int = 0) -> bytes:
    """The bytes of a file that libsndfile writes."""
    stream = io.BytesIO()
    container, coding = form
    soundfile.write(stream, wave(samples, seed), RATE, format=container, subtype=coding)
    return stream.getvalue()


def by_libsndfile(content: bytes) -> NDArray[np.float32]:
    # In one piece: MP3 decodes a little differently where it was sought in.
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        samples: NDArray[np.float32] = file.read(dtype="float32")
    return samples


@every_form
def test_a_whole_file_is_read_as_libsndfile_reads_it(form: tuple[str, str]) -> None:
    content = written(form)
    found = read_audio(content, RATE)
    np.testing.assert_array_equal(found.wave, by_libsndfile(content))
    assert len(found.wave) == SAMPLES


@every_form
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(
    form: tuple[str, str], share: float, tmp_path: Path
) -> None:
    content = written(form)
    cut = content[: int(share * len(content))]
    path = tmp_path / "a"
    path.write_bytes(cut)
    for source in (cut, path):
        with pytest.raises(UnusableAudioError):
            read_audio(source, RATE)


@pytest.mark.parametrize("form", COUNTED, ids=["-".join(form) for form in COUNTED])
def test_a_file_with_more_audio_than_it_announces_is_refused(form: tuple[str, str]) -> None:
    content = written(form)
    more = np.random.default_rng(1).integers(-9_000, 9_000, 8_000, dtype=np.int16).tobytes()
    for rest in (more, content, written(("FLAC", "PCM_16"))):
        with pytest.raises(UnusableAudioError, match="goes on after the end that its header annou"):
            read_audio(content + rest, RATE)


@every_form
@pytest.mark.parametrize(
    "tag",
    [b"TAG" + b"title".ljust(125), b"ID3\x04\0\0\0\0\0\x0a" + bytes(10), bytes(512)],
    ids=["ID3v1", "ID3v2", "zeros"],
)
def test_what_follows_the_audio_without_being_any_changes_nothing(
    form: tuple[str, str], tag: bytes
) -> None:
    content = written(form)
    np.testing.assert_array_equal(read_audio(content + tag, RATE).wave, by_libsndfile(content))


@pytest.mark.parametrize("coding", ["PCM_16", "PCM_24", "FLOAT"])
def test_chunks_behind_the_samples_of_a_wav_change_nothing(coding: str) -> None:
    content = written(("WAV", coding))
    text = b"LIST" + struct.pack("<I", 12) + b"INFOICMTnote"
    for size in (len(content) - 8, len(content) - 8 + len(text)):
        changed = content[:4] + struct.pack("<I", size) + content[8:] + text
        np.testing.assert_array_equal(read_audio(changed, RATE).wave, by_libsndfile(content))
    with pytest.raises(UnusableAudioError, match="cut off"):
        read_audio(content + text[:-3], RATE)


@pytest.mark.parametrize("coding", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize(
    ("whole", "data"),
    [
        (0, 0),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x7FFFF024, 0x7FFFF000),
        (0x80000024, 0x80000000),
        (0xFFFFFFFF, None),
        (0, None),
    ],
)
def test_a_wav_whose_writer_did_not_know_its_size_is_read_to_its_end(
    coding: str, whole: int, data: int | None
) -> None:
    content = written(("WAV", coding))
    place = content.index(b"data") + 4
    size = content[place : place + 4] if data is None else struct.pack("<I", data)
    changed = (
        content[:4] + struct.pack("<I", whole) + content[8:place] + size + content[place + 4 :]
    )
    np.testing.assert_array_equal(read_audio(changed, RATE).wave, by_libsndfile(content))
    if data is None:
        with pytest.raises(UnusableAudioError, match="cut off"):
            read_audio(changed[: len(changed) // 2], RATE)


@pytest.mark.parametrize("beyond", [8, 1])
def test_a_wav_whose_size_counts_its_header_or_padding_is_read(beyond: int) -> None:
    content = written(("WAV", "PCM_16"))
    changed = content[:4] + struct.pack("<I", len(content) - 8 + beyond) + content[8:]
    np.testing.assert_array_equal(read_audio(changed, RATE).wave, by_libsndfile(content))


def test_a_wav_of_more_than_4_gib_whose_sizes_wrapped_is_refused_unread(tmp_path: Path) -> None:
    content, path = written(("WAV", "PCM_16")), tmp_path / "a.wav"
    path.write_bytes(content)
    with path.open("r+b") as stream:
        # A hole on the disk, behind noise.
        stream.seek(len(content))
        stream.write(b"\x01\x80" * 100)
        stream.truncate(2**32 + len(content))
    with pytest.raises(UnusableAudioError, match="goes on after the end .* 4294967296 bytes more"):
        read_audio(path, RATE)


def without_total(content: bytes) -> bytes:
    """A FLAC as ffmpeg writes it to a pipe: no number of samples, no sizes, no MD5."""
    packed = int.from_bytes(content[18:26], "big") & ~((1 << 36) - 1)
    return content[:18] + packed.to_bytes(8, "big") + bytes(16) + content[42:]


@pytest.mark.parametrize("coding", ["PCM_16", "PCM_24"])
def test_a_flac_that_does_not_count_its_samples_is_read_whole_or_refused(coding: str) -> None:
    content = written(("FLAC", coding))
    piped = without_total(content)
    np.testing.assert_array_equal(read_audio(piped, RATE).wave, by_libsndfile(content))
    for share in (0.3, 0.5, 0.9, 0.999):
        with pytest.raises(UnusableAudioError):
            read_audio(piped[: int(share * len(piped))], RATE)
    damaged = bytearray(piped)
    damaged[len(piped) // 2] ^= 4
    with pytest.raises(UnusableAudioError):
        read_audio(bytes(damaged), RATE)


def test_two_flac_files_end_to_end_are_refused() -> None:
    one, other = written(("FLAC", "PCM_16")), written(("FLAC", "PCM_16"), 9_000, seed=5)
    with pytest.raises(UnusableAudioError, match="several FLAC files set end to end: split them"):
        read_audio(one + other, RATE)


@pytest.mark.parametrize("form", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_streams_one_after_another_are_read_all(form: tuple[str, str]) -> None:
    # libsndfile writes the same serial number into every Ogg; those of a chain differ.
    one, other = written(form), written(form, 9_000, seed=5)
    found = read_audio(one + other, RATE).wave
    np.testing.assert_array_equal(found, np.concatenate([by_libsndfile(one), by_libsndfile(other)]))
    assert len(found) == SAMPLES + 9_000
    part = read_audio(one + other, RATE, span=(1.4, 1.6)).wave
    np.testing.assert_array_equal(part, found[round(1.4 * RATE) : round(1.6 * RATE)])


def without_header(content: bytes) -> bytes:
    """An MP3 whose first frame, with the number of frames, was taken away."""
    return content[content.index(content[:2], content.index(b"LAME")) :]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("before", [b"", b"ID3\4\0\0\0\0\0\x0a" + bytes(10)], ids=["plain", "tag"])
def test_an_mp3_without_a_header_is_read_to_its_last_frame(mode: str, before: bytes) -> None:
    # Quiet, then loud: of variable bitrate, the first frames do not show how long it is.
    stream, samples = io.BytesIO(), np.concatenate([wave(60_000) / 500, wave(120_000)])
    soundfile.write(stream, samples, RATE, format="MP3", bitrate_mode=mode)
    content = before + without_header(stream.getvalue())
    frames = miniaudio.mp3_read_f32(content).num_frames
    assert len(read_audio(content, RATE).wave) == frames and 180_000 < frames < 183_000
    with pytest.raises(UnusableAudioError, match="cut off"):
        read_audio(content[:-50], RATE)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_whose_header_has_no_encoder_is_read_to_its_last_frame(mode: str) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, wave(120_000), RATE, format="MP3", bitrate_mode=mode)
    content = stream.getvalue()
    for name in (b"Xing", b"Info"):
        for written_name in (b"Xing", b"Info"):
            changed = content.replace(b"LAME", b"Some").replace(written_name, name)
            frames = miniaudio.mp3_read_f32(without_header(content)).num_frames
            assert abs(len(read_audio(changed, RATE).wave) - frames) <= 1152


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_every_flipped_bit_of_an_ogg_is_noticed(coding: str) -> None:
    content = written(("OGG", coding))
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(generator.integers(8))
        with pytest.raises(UnusableAudioError):
            read_audio(bytes(damaged), RATE)


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_an_ogg_that_lacks_whole_pages_is_refused(coding: str) -> None:
    content = written(("OGG", coding), 4 * SAMPLES)
    starts = [place for place in range(len(content)) if content[place : place + 4] == b"OggS"]
    assert len(starts) > 3
    for first, last in ((starts[-1], len(content)), (starts[2], starts[3])):
        with pytest.raises(UnusableAudioError, match="cut off|lacks pages"):
            read_audio(content[:first] + content[last:], RATE)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("RF64", b"RF64\xff\xff\xff\xffWAVEds64"),
        ("RF64 cut in its sizes", b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0\1\2\3"),
        ("SPHERE without a line", b"NIST_1A"),
        ("SPHERE without a number", b"NIST_1A\n   1024\nsample_count -i many\n"),
        ("AU", b".snd\0\0"),
        ("Core Audio", b"caff\0\1\0\0desc\0\0\0\0\0\0\0\x20"),
        ("Wave64", bytes.fromhex("726966662e91cf11a5d628db04c10000") + bytes(9)),
        ("AIFF", b"FORM\0\0\0\x20AIFFCOMM"),
        ("Ogg", b"OggS\0"),
        ("MPEG", b"\xff\xfb\x90"),
        ("FLAC", b"fLaC\0\0\0\x22"),
    ],
)
def test_a_header_that_is_cut_off_is_a_reason_and_no_crash(name: str, content: bytes) -> None:
    for rest in (b"", bytes(40), b"\xff" * 4_000):
        with pytest.raises(UnusableAudioError):
            read_audio(content + rest, RATE)


TAGS = [b"TAG" + b"title".ljust(125), b"ID3\x04\0\0\0\0\0\x0a" + bytes(10), bytes(512)]
MP3 = ("MP3", "MPEG_LAYER_III")


def changed(content: bytes, place: int, field: bytes) -> bytes:
    return content[:place] + field + content[place + len(field) :]


@pytest.mark.parametrize("tag", TAGS, ids=["ID3v1", "ID3v2", "zeros"])
def test_tags_behind_what_no_header_counts_change_nothing(tag: bytes) -> None:
    for content in (without_total(written(("FLAC", "PCM_16"))), without_header(written(MP3))):
        whole = read_audio(content, RATE).wave
        np.testing.assert_array_equal(read_audio(content + tag, RATE).wave, whole)


def test_a_file_behind_a_tag_is_examined_as_without_it() -> None:
    content = written(("WAV", "PCM_24"))
    np.testing.assert_array_equal(read_audio(TAGS[1] + content, RATE).wave, by_libsndfile(content))
    with pytest.raises(UnusableAudioError, match="cut off: .* the header says"):
        read_audio(TAGS[1] + content[:-9_000], RATE)


def flac_frames(content: bytes) -> list[int]:
    """Where the frames begin, by their numbers: one byte each, behind four of them all."""
    first = content.index(b"\xff\xf8")
    starts = [first]
    while (place := content.find(content[first : first + 4] + bytes([len(starts)]), 1)) >= 0:
        starts.append(place)
    return starts


@pytest.mark.parametrize("coding", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("total", [True, False], ids=["counted", "piped"])
def test_a_flac_that_lacks_a_whole_frame_is_refused(coding: str, total: bool) -> None:
    content = written(("FLAC", coding))
    content = content if total else without_total(content)
    _, second, third, *_ = flac_frames(content)
    with pytest.raises(UnusableAudioError, match="is read in part: 19905 of 24001 samples decode"):
        read_audio(content[:second] + content[third:], RATE)


@pytest.mark.parametrize("coding", ["PCM_16", "PCM_24"])
def test_a_part_of_a_flac_that_lacks_a_frame_is_refused_where_it_is_missing(coding: str) -> None:
    samples = 20 * 4_096
    content = written(("FLAC", coding), samples)
    whole = by_libsndfile(content)
    starts = flac_frames(content)
    assert len(starts) == 20
    cut = content[: starts[9]] + content[starts[10] :]
    for first, last in [(0, 4_096), (5, 36_863), (36_864, 40_960), (40_960, samples), (1, samples)]:
        span = (first / RATE, last / RATE)
        np.testing.assert_array_equal(read_audio(content, RATE, span=span).wave, whole[first:last])
        if last <= 9 * 4_096:
            np.testing.assert_array_equal(read_audio(cut, RATE, span=span).wave, whole[first:last])
        elif first < 10 * 4_096:
            with pytest.raises(
                UnusableAudioError, match="lacks frame 9 of FLAC, at sample 36864|cannot be"
            ):
                read_audio(cut, RATE, span=span)


def test_a_flac_whose_header_contradicts_its_frames_is_refused() -> None:
    content = written(("FLAC", "PCM_24"))
    with pytest.raises(UnusableAudioError, match="frames of 65535 samples, the first has 4096"):
        read_audio(changed(content, 8, b"\xff" * 4), RATE)
    with pytest.raises(UnusableAudioError, match="claims an impossible sample rate: 0 Hz"):
        read_audio(changed(content, 18, bytes(3)), RATE)


def test_an_mp3_with_more_or_fewer_frames_than_its_header_counts_is_refused() -> None:
    content = written(MP3)
    frames = without_header(content)
    header, size = content[: -len(frames)], frames.index(frames[:2], 2)
    for found, wrong in ((45, frames[:size] + frames), (43, frames[size:])):
        with pytest.raises(UnusableAudioError, match=f": {found} frames .* the header says 44"):
            read_audio(header + wrong, RATE)


@pytest.mark.parametrize("form", [("WAV", "PCM_16"), ("W64", "PCM_24"), ("CAF", "PCM_16")])
def test_a_second_chunk_of_samples_is_refused(form: tuple[str, str]) -> None:
    content = written(form)
    # In every one of these, the last chunk are the samples.
    with pytest.raises(UnusableAudioError, match="goes on after the end"):
        read_audio(content + content[content.rindex(b"data") :], RATE)


@pytest.mark.parametrize(
    ("form", "place", "field", "reason"),
    [
        (("WAV", "PCM_16"), 32, b"\x04", "contradicts itself: 4 bytes for samples of 16 bits"),
        (("WAVEX", "PCM_16"), 38, b"\x30", "contradicts itself: 2 bytes for samples of 48 bits"),
        (("WAVEX", "PCM_16"), 47, b"\x01", "names no known coding in its extensible header"),
        (("WAVEX", "PCM_16"), 48, b"\x08", "names no known coding in its extensible header"),
        (("AIFF", "PCM_16"), 24, b"\x4d", "contradicts itself: 19905 samples, .* in 48002 bytes"),
        (("AIFF", "FLOAT"), 22, b"\x50", "claims an unknown version of AIFC"),
        (("CAF", "ALAC_16"), 116, b"\x5c", "the table of its packets does not fit them"),
        (("CAF", "ALAC_16"), 38, b"\x20", "the table of its packets does not fit them"),
        (("CAF", "PCM_16"), 39, b"\x07", "contradicts itself: packets of 7 bytes in 48002 bytes"),
        (("AU", "PCM_16"), 23, b"\x41", "samples of 16 bits, channels 65, in 48002 bytes"),
        (("NIST", "PCM_16"), 168, b"more", "SPHERE header that does not say what it holds"),
        (("WAV", "IMA_ADPCM"), 60 + 2, b"\x59", "block 0 of 24 begins with no state of ADPCM"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    form: tuple[str, str], place: int, field: bytes, reason: str
) -> None:
    with pytest.raises(UnusableAudioError, match=reason):
        read_audio(changed(written(form), place, field), RATE)


def test_an_extensible_header_that_is_too_short_for_its_coding_is_refused() -> None:
    content = written(("WAVEX", "PCM_16"))
    for length in (26, 27, 30):
        layout = b"fmt " + struct.pack("<I", length) + content[20 : 20 + length]
        padding = bytes(length % 2)
        short = content[:12] + layout + padding + content[content.index(b"data") :]
        short = changed(short, 4, struct.pack("<I", len(short) - 8))
        with pytest.raises(UnusableAudioError, match="names no known coding in its extensible"):
            read_audio(short, RATE)


@pytest.mark.parametrize(
    ("form", "before"),
    [
        # libsndfile knows the size of `fact`, so it finds the samples all the same.
        (("WAV", "GSM610"), b"fact"),
        (("WAV", "PCM_16"), b"fmt "),
        (("AIFF", "PCM_16"), b"COMM"),
        (("CAF", "PCM_16"), b"desc"),
        (("W64", "PCM_16"), b"fmt "),
    ],
)
def test_samples_to_which_no_chunk_leads_are_not_looked_for(
    form: tuple[str, str], before: bytes
) -> None:
    content = written(form)
    place = content.index(before)
    size = {"CAF": slice(4, 12), "W64": slice(16, 24)}.get(form[0], slice(4, 8))
    empty = bytes(size.stop - size.start)
    with pytest.raises(UnusableAudioError, match="its chunks lead to no samples"):
        read_audio(changed(content, place + size.start, empty), RATE)


def test_a_stream_of_unknown_size_may_end_amid_a_sample() -> None:
    """As a recorder that was ended leaves it, in AU as in WAV."""
    for form, size, place in (
        (("AU", "PCM_16"), b"\xff" * 4, 8),
        (("WAV", "PCM_16"), b"\xff" * 4, 40),
    ):
        content = changed(written(form), place, size)[:-1]
        whole = by_libsndfile(written(form))
        np.testing.assert_array_equal(read_audio(content, RATE).wave, whole[:-1])


def test_a_table_of_packets_of_one_size_changes_nothing() -> None:
    content = written(("CAF", "FLOAT"))
    start = content.index(b"data")
    for before, behind in ((0, 0), (100, 0), (0, 100)):
        counts = struct.pack(">qqii", SAMPLES, SAMPLES - before - behind, before, behind)
        table = b"pakt" + struct.pack(">q", len(counts)) + counts
        found = read_audio(content[:start] + table + content[start:], RATE)
        np.testing.assert_array_equal(found.wave, by_libsndfile(content))


def test_padding_behind_blocks_of_samples_is_no_sample() -> None:
    content = written(("WAV", "GSM610"))
    data, blocks = content.index(b"data") + 8, 75
    odd = content[: data + blocks * 65] + b"\0"
    odd = changed(odd, data - 4, struct.pack("<I", blocks * 65))
    odd = changed(odd, 4, struct.pack("<I", len(odd) - 8))
    with soundfile.SoundFile(io.BytesIO(odd)) as file:
        assert file.frames == (blocks + 1) * 320
        expected = file.read(blocks * 320, dtype="float32")
    np.testing.assert_array_equal(read_audio(odd, RATE).wave, expected)
