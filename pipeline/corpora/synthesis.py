"""Small synthetic corpora in the layouts of LibriSpeech and VoxCeleb1, for demos and tests.

Every recording is a function of its position in the corpus, (seed, speaker, session, utterance): a
speaker has one voice, a session (a LibriSpeech chapter, a VoxCeleb1 video) one channel. Numbers
in a position start at 1, because generators seeded with (1, 2) and (1, 2, 0) are the same.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from aalbert.common.files import atomic_write, write_text
from aalbert.common.progress import shown
from aalbert.pipeline.corpora.synthetic_voice import PHONES, Speech, draw_voice, speak

SAMPLE_RATE = 16_000
FIRST_VOXCELEB1_SPEAKER = 10_001
TRAIN, DEV, TEST = 1, 2, 3
EQUALISER_HZ = (60.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)

SPEAKERS_HEADER = """\
; Some pipe(|) separated metadata about the readers of this synthetic corpus.
;
;ID  |SEX| SUBSET           |MINUTES| NAME
"""
META_HEADER = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
VIDEO_ID_LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
SYLLABLES = [onset + nucleus for onset in "BDFKLMNPRSTWZ" for nucleus in ("A", "EE", "O", "OO")]


@dataclass(frozen=True)
class Channel:
    """A room and a microphone: gains at `EQUALISER_HZ`, then noise, then the peak level."""

    gains_db: NDArray[np.float64]
    noise_db: float
    peak_db: float


@dataclass(frozen=True)
class SyntheticUtterance:
    """A VoxCeleb1 utterance: its numbers, path below `wav/`, and part (1 train, 2 dev, 3 test)."""

    speaker: int
    video: int
    utterance: int
    path: str
    part: int


def write_librispeech(
    root: Path,
    *,
    speakers: int,
    utterances_per_speaker: int,
    seed: int,
    seconds: tuple[float, float] = (3.0, 6.0),
    subset: str = "train-clean-100",
    first_speaker: int = 1000,
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Write one subset, FLAC at 16 kHz, and add its readers to `root`/SPEAKERS.TXT.

    An utterance lasts between the two `seconds`; its transcript is random, not what is said.
    The phones that are said are added to `root`/alignments.txt, one for every 10 ms, with their
    names in `root`/phones.json. Further subsets may go to the same root with readers numbered
    from another `first_speaker`. `after_each` is called after every speaker.
    """
    readers, alignments = [], []
    chapter_sizes = [(utterances_per_speaker + 1) // 2, utterances_per_speaker // 2]
    numbers = range(first_speaker, first_speaker + speakers)
    for speaker in shown(numbers, f"synthesise {subset}", total=speakers, unit="speaker"):
        spoken: dict[str, Speech] = {}
        for part, size in enumerate(filter(None, chapter_sizes)):
            chapter = 10 * speaker + part
            spoken |= _write_chapter(root / subset, seed, speaker, chapter, size, seconds)
        gender = draw_voice(default_rng([seed, speaker])).gender
        samples = sum(len(speech.samples) for speech in spoken.values())
        minutes = f"{samples / SAMPLE_RATE / 60:<5.2f}"
        after_each()
        readers.append(f"{speaker:<5}| {gender} | {subset:<16} | {minutes} | Voice {speaker}")
        alignments += [
            f"{name} {' '.join(map(str, speech.phones.tolist()))}"
            for name, speech in spoken.items()
        ]
    _add_speakers(root / "SPEAKERS.TXT", readers)
    _add_alignments(root / "alignments.txt", alignments)
    write_text(root / "phones.json", json.dumps(PHONES) + "\n")


def write_voxceleb1(
    root: Path,
    *,
    speakers: int,
    videos_per_speaker: int,
    utterances_per_video: int,
    seed: int,
    seconds: tuple[float, float] = (3.0, 5.0),
) -> None:
    """Write a corpus, 16-bit WAV at 16 kHz, with its lists: iden_split, vox1_meta, veri_test.

    A speaker's last video is for the identification test, the last utterance of the video before
    it for validation. Verification trials compare the speakers of the Set `test` (the last
    quarter, at least two) across videos. Takes two speakers and two videos each, or more.
    """
    utterances = _plan_voxceleb1(speakers, videos_per_speaker, utterances_per_video, seed)
    for each in utterances:
        place = (seed, each.speaker, each.video, each.utterance)
        _write_audio(root / "wav" / each.path, _record(place, seconds).samples)

    first_test_speaker = FIRST_VOXCELEB1_SPEAKER + speakers - max(2, speakers // 4)
    tested = [each for each in utterances if each.speaker >= first_test_speaker]
    split = "".join(f"{each.part} {each.path}\n" for each in utterances)
    numbers = range(FIRST_VOXCELEB1_SPEAKER, FIRST_VOXCELEB1_SPEAKER + speakers)
    rows = []
    for number in numbers:
        gender = draw_voice(default_rng([seed, number])).gender.lower()
        part = "test" if number >= first_test_speaker else "dev"
        rows.append(f"id{number}\tVoice_{number}\t{gender}\tNowhere\t{part}\n")
    write_text(root / "iden_split.txt", split)
    write_text(root / "vox1_meta.csv", META_HEADER + "".join(rows))
    write_text(root / "veri_test.txt", "".join(_trials(tested, default_rng([seed]))))


def _draw_channel(rng: Generator) -> Channel:
    """Draw a room and a microphone: an equaliser of a few dB, and noise."""
    return Channel(
        gains_db=rng.normal(0, 3.0, len(EQUALISER_HZ)),
        noise_db=rng.uniform(-65, -45),
        peak_db=rng.uniform(-12, -1),
    )


def _transmit(
    samples: NDArray[np.float32], channel: Channel, rng: Generator
) -> NDArray[np.float32]:
    """Pass samples, (n,) at 16 kHz, through a channel: equalise, add white noise, set the peak."""
    frequency_hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    log_hz = np.log2(np.maximum(frequency_hz, EQUALISER_HZ[0]))
    gains_db = np.interp(log_hz, np.log2(EQUALISER_HZ), channel.gains_db)
    equalised = np.fft.irfft(np.fft.rfft(samples) * _amplitude(gains_db), len(samples))
    noise = rng.standard_normal(len(samples)) * _amplitude(channel.noise_db)
    heard = equalised + noise
    heard *= _amplitude(channel.peak_db) / np.abs(heard).max()
    return heard.astype(np.float32)


def _amplitude(decibels: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.power(10.0, np.asarray(decibels) / 20)


def _record(place: Sequence[int], seconds: tuple[float, float]) -> Speech:
    """Return what is heard of the utterance at (seed, speaker, session, utterance)."""
    voice = draw_voice(default_rng(place[:2]))
    channel = _draw_channel(default_rng(place[:3]))
    rng = default_rng(place)
    speech = speak(voice, rng.uniform(*seconds), rng, SAMPLE_RATE)
    return replace(speech, samples=_transmit(speech.samples, channel, rng))


def _write_chapter(
    folder: Path, seed: int, speaker: int, chapter: int, size: int, seconds: tuple[float, float]
) -> dict[str, Speech]:
    """Write the recordings and transcripts of a chapter; return what is spoken, by its name."""
    folder = folder / str(speaker) / str(chapter)
    lines, spoken = [], {}
    for utterance in range(size):
        name = f"{speaker}-{chapter}-{utterance:04}"
        place = (seed, speaker, chapter, utterance + 1)
        spoken[name] = speech = _record(place, seconds)
        _write_audio(folder / f"{name}.flac", speech.samples)
        # Two made-up words a second, of one to three syllables each.
        rng = default_rng([*place, 1])
        lengths = rng.integers(1, 4, round(2 * len(speech.samples) / SAMPLE_RATE))
        words = " ".join("".join(rng.choice(SYLLABLES, length)) for length in lengths)
        lines.append(f"{name} {words}\n")
    write_text(folder / f"{speaker}-{chapter}.trans.txt", "".join(lines))
    return spoken


def _write_audio(path: Path, samples: NDArray[np.float32]) -> None:
    """Write samples at 16 kHz with 16 bits, in the format of the name."""
    with atomic_write(path) as stream:
        soundfile.write(stream, samples, SAMPLE_RATE, "PCM_16", format=path.suffix[1:])


def _add_speakers(path: Path, rows: list[str]) -> None:
    """Add rows to SPEAKERS.TXT in the order of reader numbers, replacing those of known readers."""
    earlier = path.read_text().splitlines() if path.exists() else []
    readers = {int(row.split("|")[0]): row for row in [*earlier, *rows] if row[0] != ";"}
    write_text(path, SPEAKERS_HEADER + "".join(f"{readers[key]}\n" for key in sorted(readers)))


def _add_alignments(path: Path, lines: list[str]) -> None:
    """Add lines to a file of alignments in the order of keys, replacing those of known keys."""
    earlier = path.read_text().splitlines() if path.exists() else []
    aligned = {line.split(" ", 1)[0]: line for line in [*earlier, *lines]}
    write_text(path, "".join(f"{aligned[key]}\n" for key in sorted(aligned)))


def _plan_voxceleb1(
    speakers: int, videos: int, utterances: int, seed: int
) -> list[SyntheticUtterance]:
    """Return all utterances, in the order of their numbers."""
    planned = []
    for speaker in range(FIRST_VOXCELEB1_SPEAKER, FIRST_VOXCELEB1_SPEAKER + speakers):
        for video in range(1, videos + 1):
            video_id = "".join(default_rng([seed, speaker, video]).choice(VIDEO_ID_LETTERS, 11))
            for utterance in range(1, utterances + 1):
                part = TEST if video == videos else TRAIN
                if (video, utterance) == (videos - 1, utterances):
                    part = DEV
                planned.append(
                    SyntheticUtterance(
                        speaker=speaker,
                        video=video,
                        utterance=utterance,
                        path=f"id{speaker}/{video_id}/{utterance:05}.wav",
                        part=part,
                    )
                )
    return planned


def _trials(utterances: list[SyntheticUtterance], rng: Generator) -> list[str]:
    """Pair each utterance with one of another video of its speaker, and one of another speaker."""
    lines = []
    for each in utterances:
        others = [other for other in utterances if other.speaker != each.speaker]
        own = [o for o in utterances if o.speaker == each.speaker and o.video != each.video]
        for same, candidates in ((1, own), (0, others)):
            chosen = candidates[rng.integers(len(candidates))]
            lines.append(f"{same} {each.path} {chosen.path}\n")
    return lines
