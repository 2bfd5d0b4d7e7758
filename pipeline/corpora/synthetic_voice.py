"""A source-filter voice (Fant 1960): speech-like sound without a recording.

Glottal pulses and noise excite a tract of five formants that moves through random syllables.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Spectra = NDArray[np.complex128]
FRAMES_PER_SECOND = 100
# Two hops of window and four of room (40 ms) for the resonances to ring without wrapping.
HOPS_PER_TRANSFORM = 6

# F1, F2, F3 in Hz of heed, hid, head, had, hod, hawed, hood, who'd, hud, heard: means of 33 men
# (Peterson & Barney 1952, table II).
VOWELS_HZ = np.array([
    (270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440),
    (570, 840, 2410), (440, 1020, 2240), (300, 870, 2240), (640, 1190, 2390), (490, 1350, 1690),
], dtype=np.float64)  # fmt: skip

# F1, F2, F3 in Hz of p t, k b, d f, s sh, z m, n l, r w (Klatt 1980, table II), then chosen here:
# gain of voicing, of frication while held and at the release, and the frication's centre in Hz.
CONSONANTS = np.array([
    (400, 1100, 2150, 0.0, 0.0, 0.2, 1200), (400, 1600, 2600, 0.0, 0.0, 0.6, 4500),
    (300, 1990, 2850, 0.0, 0.0, 0.4, 2400), (200, 1100, 2150, 0.2, 0.0, 0.1, 1200),
    (200, 1600, 2600, 0.2, 0.0, 0.2, 4000), (340, 1100, 2080, 0.0, 0.2, 0.2, 6500),
    (320, 1390, 2530, 0.0, 0.8, 0.6, 6000), (300, 1840, 2750, 0.0, 0.8, 0.6, 3000),
    (240, 1390, 2530, 0.4, 0.4, 0.3, 6000), (480, 1270, 2130, 0.4, 0.0, 0.0, 1000),
    (480, 1340, 2470, 0.4, 0.0, 0.0, 1000), (310, 1050, 2880, 0.6, 0.0, 0.0, 1000),
    (310, 1060, 1380, 0.6, 0.0, 0.0, 1000), (290, 610, 2150, 0.6, 0.0, 0.0, 1000),
], dtype=np.float64)  # fmt: skip

# The phones of an utterance, in the names of cmudict: silence, the consonants, the vowels.
SILENCE = 0
CONSONANT_NAMES = ("P", "T", "K", "B", "D", "F", "S", "SH", "Z", "M", "N", "L", "R", "W")
VOWEL_NAMES = ("IY", "IH", "EH", "AE", "AA", "AO", "UH", "UW", "AH", "ER")
PHONES = ("SIL", *CONSONANT_NAMES, *VOWEL_NAMES)

# Resonances of a uniform 17.5 cm tube; they hardly move with the vowel.
UPPER_FORMANTS_HZ = (3500.0, 4500.0)
BANDWIDTHS_HZ = np.array([60.0, 90.0, 150.0, 250.0, 350.0])


@dataclass(frozen=True)
class Voice:
    """The properties of a speaker that all of their utterances share.

    The tract's length is relative to an average man's; the glottis is open for the open quotient
    of a period; breathiness is the level of aspiration relative to the pulses; the tilt, above
    1 kHz, adds to the pulse's own; jitter (of the period) and shimmer are relative deviations.
    """

    gender: str
    pitch_hz: float
    pitch_range_semitones: float
    vocal_tract_scale: float
    open_quotient: float
    breathiness: float
    tilt_db_per_octave: float
    jitter: float
    shimmer: float
    syllables_per_second: float


@dataclass(frozen=True)
class Articulation:
    """Controls of one utterance and its phones, each with one row per frame."""

    pitch_hz: Floats
    formants_hz: Floats
    voicing: Floats
    frication: Floats
    frication_hz: Floats
    phones: NDArray[np.int64]


@dataclass(frozen=True)
class Speech:
    """Samples, (n,), and the number in `PHONES` of each whole 10 ms of them."""

    samples: NDArray[np.float32]
    phones: NDArray[np.int64]


def draw_voice(rng: Generator) -> Voice:
    """Draw a speaker; pitch and tract length spread around the mean of the speaker's gender."""
    gender, pitch_hz, tract_scale = (("F", 205.0, 0.87), ("M", 118.0, 1.0))[rng.integers(2)]
    return Voice(
        gender=gender,
        pitch_hz=pitch_hz * 2 ** (rng.normal(0, 2.0) / 12),
        pitch_range_semitones=rng.uniform(2, 6),
        vocal_tract_scale=tract_scale * rng.lognormal(0, 0.04),
        open_quotient=rng.uniform(0.45, 0.7),
        breathiness=rng.uniform(0.02, 0.2),
        tilt_db_per_octave=rng.uniform(0, 3),
        jitter=rng.uniform(0.003, 0.015),
        shimmer=rng.uniform(0.02, 0.1),
        syllables_per_second=rng.uniform(3, 5.5),
    )


def speak(
    voice: Voice, duration_seconds: float, rng: Generator, sample_rate: int = 16_000
) -> Speech:
    """Synthesise random syllables: samples with a peak of 0.7, and the phones spoken.

    `rng` draws the syllables: from one state of it, voices of one speaking rate say the same.
    `sample_rate` is in Hz, a multiple of 100, 12 kHz or more to hold all formants.
    """
    count = round(duration_seconds * sample_rate)
    hop = sample_rate // FRAMES_PER_SECOND
    controls = _articulate(voice, count // hop + 2, rng)
    source = _excite(voice, controls, count, hop, rng)
    hiss = rng.standard_normal(count) * _per_sample(controls.frication, count, hop)
    tract = _resonances(controls.formants_hz, BANDWIDTHS_HZ, hop)
    mouth = _resonances(controls.frication_hz[:, None], np.array([1500.0]), hop)
    mouth /= np.abs(mouth).max(axis=1, keepdims=True)
    # The lips radiate the derivative of the flow; the glottal source already is one.
    spectra = _spectra(source, hop) * tract * _tilt(voice, hop)
    spectra += _spectra(np.diff(hiss, prepend=0.0), hop) * mouth
    samples = _overlap_add(spectra, hop)[:count]
    gain = np.float32(0.7 / np.abs(samples).max())
    return Speech(gain * samples.astype(np.float32), controls.phones[: count // hop])


def _articulate(voice: Voice, frames: int, rng: Generator) -> Articulation:
    """Plan an utterance: each syllable is a pause, a consonant's hold and release, a vowel."""
    count = 2 * int(voice.syllables_per_second * frames / FRAMES_PER_SECOND) + 10
    # The position of each syllable in its phrase, from 0.5 (first) down to -0.5 (last).
    phrases = [np.linspace(0.5, -0.5, length) for length in rng.integers(4, 10, count // 4 + 1)]
    progress = np.concatenate(phrases)[:count]
    onsets = rng.integers(len(CONSONANTS), size=count)
    nuclei = rng.integers(len(VOWELS_HZ), size=count)
    consonants, vowels = CONSONANTS[onsets], VOWELS_HZ[nuclei]
    accents = rng.normal(0, 0.25, count)
    lengths = _segment_frames(voice, progress, rng).ravel()

    def track(*segments: Floats, width: int) -> Floats:
        return _smooth(np.repeat(np.stack(segments, axis=1).ravel(), lengths)[:frames], width)

    *loci, voicing, hold, release, frication_hz = consonants.T
    lower = [track(a, a, a, b, width=9) for a, b in zip(loci, vowels.T, strict=True)]
    upper = [np.full(frames, formant) for formant in UPPER_FORMANTS_HZ]
    semitones = voice.pitch_range_semitones * track(*[progress + accents] * 4, width=15)
    onset, nucleus = 1 + onsets, 1 + len(CONSONANTS) + nuclei
    segments = np.stack([np.full(count, SILENCE), onset, onset, nucleus], axis=1)
    silence, loudness = np.zeros(count), 10 ** ((accents + progress) / 4)
    fade = np.minimum(1.0, np.arange(frames)[::-1] / 12)
    return Articulation(
        pitch_hz=voice.pitch_hz * np.exp2(semitones / 12),
        formants_hz=np.stack([*lower, *upper], axis=1) / voice.vocal_tract_scale,
        voicing=fade * track(silence, voicing, voicing, loudness, width=5),
        frication=fade * track(silence, hold, release, silence, width=3),
        frication_hz=track(*[frication_hz] * 4, width=1),
        phones=np.repeat(segments.ravel(), lengths)[:frames],
    )


def _segment_frames(voice: Voice, progress: Floats, rng: Generator) -> NDArray[np.int64]:
    """Draw the lengths, in frames, of the four segments of each syllable: (syllables, 4)."""
    syllable = rng.lognormal(0, 0.2, len(progress)) / voice.syllables_per_second
    # Speakers lengthen the last syllable before a pause.
    vowel = 0.6 * syllable * np.where(progress == -0.5, 1.5, 1.0)
    pause = np.where(progress == 0.5, rng.uniform(0.15, 0.45, len(progress)), 0.0)
    seconds: Floats = np.stack([pause, 0.27 * syllable, 0.13 * syllable, vowel], axis=1)
    return np.rint(seconds * FRAMES_PER_SECOND).astype(np.int64)


def _smooth(track: Floats, width: int) -> Floats:
    """Smooth between targets: a moving average with a Hann window of `width` (odd) frames."""
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.pad(track, width // 2, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _excite(voice: Voice, controls: Articulation, count: int, hop: int, rng: Generator) -> Floats:
    """Return the glottal source: jittered pulses, and aspiration that is strongest when open."""
    steady_step = _per_sample(controls.pitch_hz, count, hop) / (hop * FRAMES_PER_SECOND)
    steady_cycle = np.cumsum(steady_step).astype(np.int64)
    jitter, shimmer = rng.normal(1, [[voice.jitter], [voice.shimmer]], (2, steady_cycle[-1] + 99))
    phase = np.cumsum(steady_step * jitter[steady_cycle])
    flow = _rosenberg_pulse(phase % 1, voice.open_quotient)
    # A difference of the flow, not its derivative sampled: that would alias at each closure.
    pulses: Floats = np.diff(flow, prepend=0.0) * shimmer[phase.astype(np.int64)]
    pulses /= np.sqrt(np.mean(pulses**2))
    noise = rng.standard_normal(count)
    breath = voice.breathiness * (0.3 + flow) * noise
    # A room is never digitally silent, and the logarithm of silence has no bound.
    return _per_sample(controls.voicing, count, hop) * (pulses + breath) + 1e-3 * noise


def _rosenberg_pulse(phase: Floats, open_quotient: float) -> Floats:
    """Glottal flow in [0, 1] at a phase in [0, 1): polynomial pulse B of Rosenberg (1971).

    It opens as 3 t^2 - 2 t^3 and closes as 1 - t^2; opening takes 5/7 of the open phase.
    """
    opening = open_quotient * 5 / 7
    rise: Floats = np.minimum(phase / opening, 1.0)
    fall: Floats = np.clip((phase - opening) / (open_quotient - opening), 0.0, 1.0)
    return rise**2 * (3 - 2 * rise) - fall**2


def _per_sample(track: Floats, count: int, hop: int) -> Floats:
    return np.interp(np.arange(count) / hop, np.arange(len(track)), track)


def _resonances(centres_hz: Floats, bandwidths_hz: Floats, hop: int) -> Spectra:
    """Frequency response, (frames, bins), of resonators in cascade, (frames, resonators).

    Two-pole digital resonators with unit gain at 0 Hz (Klatt 1980, equations 1 and 2).
    """
    radians_per_hz = 2 * np.pi / (hop * FRAMES_PER_SECOND)
    radius = np.exp(-bandwidths_hz * radians_per_hz / 2)
    first = -2 * radius * np.cos(centres_hz * radians_per_hz)
    denominators = np.stack(np.broadcast_arrays(1.0, first, radius**2), axis=-1)
    gain = denominators.sum(axis=-1, keepdims=True)
    resonators = gain / np.fft.rfft(denominators, HOPS_PER_TRANSFORM * hop)
    cascade: Spectra = np.prod(resonators, axis=1)
    return cascade


def _tilt(voice: Voice, hop: int) -> Floats:
    frequency_hz = np.fft.rfftfreq(HOPS_PER_TRANSFORM * hop, 1 / (hop * FRAMES_PER_SECOND))
    octaves: Floats = np.log2(np.maximum(frequency_hz / 1000, 1))
    return np.power(10.0, -voice.tilt_db_per_octave * octaves / 20)


def _spectra(samples: Floats, hop: int) -> Spectra:
    """Transform Hann windows of two hops, one centred on each frame: (frames, bins)."""
    padded = np.pad(samples, (hop, 2 * hop - len(samples) % hop))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop]
    return np.fft.rfft(windows * np.hanning(2 * hop + 1)[:-1], HOPS_PER_TRANSFORM * hop)


def _overlap_add(spectra: Spectra, hop: int) -> Floats:
    """Undo `_spectra`: the windows of neighbouring frames sum to one."""
    blocks = np.fft.irfft(spectra, HOPS_PER_TRANSFORM * hop).reshape(len(spectra), -1, hop)
    output = np.zeros((len(spectra) + HOPS_PER_TRANSFORM, hop))
    for delay in range(HOPS_PER_TRANSFORM):
        output[delay : delay + len(blocks)] += blocks[:, delay]
    return output[1:].ravel()
