"""s3prl's audio settings as feature settings and front end of this package.

s3prl has two ways to features, chosen by the group `kaldi`: Kaldi's (`fbank`, `mfcc`) on the
wave as it is, and its own (`mel`, `linear`) on the wave scaled to `target_level` dB, if told to
(`s3prl/upstream/baseline/extracter.py` and `preprocessor.py`, `upstream/mockingjay/builder.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aalbert.errors import InputError
from aalbert.models.foreign.plain_values import Settings

# This package's names of s3prl's own features, and of Kaldi's.
KINDS = {"mel": "logmel", "linear": "linear"}
KALDI_KINDS = ("fbank", "mfcc")
SAMPLE_RATE = 16_000
# What this package's Kaldi features fix, by torchaudio's names.
KALDI_FIXED = {
    "dither": 0.0,
    "energy_floor": 1.0,
    "high_freq": 0.0,
    "htk_compat": False,
    "low_freq": 20.0,
    "preemphasis_coefficient": 0.97,
    "raw_energy": True,
    "remove_dc_offset": True,
    "round_to_power_of_two": True,
    "snip_edges": True,
    "subtract_mean": False,
    "use_energy": False,
    "use_log_fbank": True,
    "use_power": True,
    "vtln_warp": 1.0,
    "window_type": "povey",
}


@dataclass(frozen=True)
class AudioReading:
    """How a model reads audio: feature settings as shards record them, and what follows.

    `front_end` are those fields of `FrontEndConfig` that the settings tell; `target` is the
    feature kind to reconstruct, with its own deltas and normalisation.
    """

    features: Mapping[str, Any]
    front_end: Mapping[str, Any]
    target: Mapping[str, Any]


def read_audio(audio: Settings) -> AudioReading:
    """Read the group `audio` of a configuration.

    Raises `InputError` that names the setting for what this package does not compute.
    """
    return read_kaldi(audio) if "kaldi" in audio else read_own(audio)


def read_own(audio: Settings) -> AudioReading:
    """Read the settings of s3prl's own spectrograms."""
    source = audio.group("input")
    target = audio.group("target") if "target" in audio else source
    kind = feature_kind(source)
    features: dict[str, Any] = {
        "kind": kind,
        "sample_rate": audio.whole("sample_rate", SAMPLE_RATE),
        "fft_size": 2 * (audio.whole("n_freq", 201) - 1),
        "window_length_ms": audio.real("win_ms", 25),
        "frame_shift_ms": audio.real("hop_ms", 10),
        "wave": {"loudness_db": audio.real("target_level") if "target_level" in audio else None},
    }
    if kind == "logmel":
        features["mels"] = audio.whole("n_mels", 40)
    return AudioReading(
        features,
        {"deltas": source.whole("delta", 0), "normalisation": normalisation(source, "cmvn")},
        {
            "feature": feature_kind(target),
            "deltas": target.whole("delta", 0),
            "normalisation": normalisation(target, "cmvn"),
        },
    )


def read_kaldi(audio: Settings) -> AudioReading:
    """Read the settings of Kaldi's features; the target is the input, deltas included."""
    kaldi = audio.group("kaldi")
    kind = kaldi.text("feat_type", "fbank")
    if kind not in KALDI_KINDS:
        raise InputError(f"{kaldi.name}.feat_type is '{kind}', expected {' or '.join(KALDI_KINDS)}")
    own = kaldi.group(kind)
    features: dict[str, Any] = {
        "kind": kind,
        "sample_rate": SAMPLE_RATE,
        "window_length_ms": own.real("frame_length", 25),
        "frame_shift_ms": own.real("frame_shift", 10),
        "mels": own.whole("num_mel_bins", 23),
        "amplitude": "unit",
    }
    known = {"frame_length", "frame_shift", "num_mel_bins"}
    if kind == "mfcc":
        features |= {
            "cepstra": own.whole("num_ceps", 13),
            "lifter": own.real("cepstral_lifter", 22),
        }
        known |= {"num_ceps", "cepstral_lifter"}
    for name in own.values.keys() - known:
        if name not in KALDI_FIXED or own.values[name] != KALDI_FIXED[name]:
            raise own.refusal(name, f"{KALDI_FIXED.get(name, 'no such setting')}, as it is here")
    delta = audio.group("delta") if "delta" in audio else Settings("audio.delta", {})
    front_end = {
        "deltas": delta.whole("order", 2),
        "delta_window": delta.whole("win_length", 5),
        "normalisation": normalisation(audio.group("cmvn"), "use_cmvn"),
    }
    return AudioReading(
        features,
        front_end,
        {
            "feature": kind,
            "deltas": front_end["deltas"],
            "normalisation": front_end["normalisation"],
        },
    )


def feature_kind(feature: Settings) -> str:
    """Return this package's name of a feature."""
    kind = feature.text("feat_type")
    if kind not in KINDS:
        raise InputError(f"{feature.name}.feat_type is '{kind}', expected {' or '.join(KINDS)}")
    if not feature.flag("log", False):
        raise InputError(f"{feature.name}.log is false: features here are logarithms")
    return KINDS[kind]


def normalisation(group: Settings, name: str) -> str:
    """Return this package's name of what s3prl calls cmvn."""
    return "utterance" if group.flag(name, False) else "none"
