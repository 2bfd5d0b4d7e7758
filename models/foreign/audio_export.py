"""Feature settings and front end of this package as s3prl's audio settings."""

from collections.abc import Mapping
from typing import Any

from aalbert.models.foreign.audio import KALDI_KINDS, KINDS, SAMPLE_RATE
from aalbert.models.foreign.s3prl_limits import require_layout
from aalbert.models.front_end_config import FrontEndConfig
from aalbert.models.pretrained import TargetConfig

# The loudness of all of s3prl's recipes, in dB, and their mels.
USUAL_LEVEL = -25
USUAL_MELS = 80


def write_audio(
    features: Mapping[str, Any], front_end: FrontEndConfig, target: TargetConfig | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the group `audio` of a model, and notes on what is not quite as it was.

    They are those that `check_writable` lets pass. Raises `LayoutError` for settings that s3prl
    does not have.
    """
    if features["kind"] in KALDI_KINDS:
        return write_kaldi(features, front_end), ()
    return write_own(features, front_end, target)


def can_predict(
    features: Mapping[str, Any], front_end: FrontEndConfig, target: TargetConfig
) -> bool:
    """Say whether s3prl's head can have this target beside these features.

    Kaldi's features predict themselves, deltas included; s3prl's own share one FFT and its mels.
    """
    kind = features["kind"]
    if kind in KALDI_KINDS:
        return target.feature == kind and target.deltas == front_end.deltas
    bins = features["fft_size"] // 2 + 1
    sizes = {"linear": bins, "logmel": features.get("mels", target.dims)}
    return sizes.get(target.feature) == target.dims


def check_writable(features: Mapping[str, Any], front_end: FrontEndConfig) -> None:
    """Refuse what neither way of s3prl to features has."""
    kind, wave = features["kind"], features["wave"]
    known = (*KINDS.values(), *KALDI_KINDS)
    require_layout(kind in known, f"s3prl has no feature {kind}, only {', '.join(known)}")
    for name, value, only in (
        ("front_end.frames_stacked", front_end.frames_stacked, 1),
        (f"{kind}.sample_rate", features["sample_rate"], SAMPLE_RATE),
        ("wave.silence", wave["silence"], None),
        ("wave.gain_db", wave["gain_db"], 0),
    ):
        require_layout(value == only, f"s3prl has no {name} {value}, only {only}")
    require_layout(
        front_end.normalisation in ("utterance", "none"),
        f"s3prl has no normalisation '{front_end.normalisation}', only per utterance or none",
    )


def write_own(
    features: Mapping[str, Any], front_end: FrontEndConfig, target: TargetConfig | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the settings of s3prl's own spectrograms."""
    kind, level = features["kind"], features["wave"]["loudness_db"]
    notes: tuple[str, ...] = ()
    for name, value, only in (
        (f"{kind}.log_offset", features["log_offset"], 1e-10),
        ("front_end.delta_window", front_end.delta_window, 5),
    ):
        require_layout(value == only, f"s3prl has no {name} {value}, only {only}")
    if level is None:
        require_layout(
            front_end.normalisation == "utterance",
            "s3prl always scales the wave to a loudness: without wave.loudness_db, and without "
            "normalisation per utterance that undoes it, the features cannot be kept",
        )
        level = USUAL_LEVEL
        notes = (
            f"s3prl will scale the wave to {level} dB; normalisation undoes it, but for 1e-10",
        )
    return {
        "target_level": level,
        "win_ms": features["window_length_ms"],
        "hop_ms": features["frame_shift_ms"],
        "n_freq": features["fft_size"] // 2 + 1,
        "n_mels": features.get("mels", target.dims if target else USUAL_MELS),
        "n_mfcc": 13,
        "input": write_feature(0, kind, front_end.deltas, front_end.normalisation),
        **(
            {"target": write_feature(1, target.feature, target.deltas, target.normalisation)}
            if target
            else {}
        ),
    }, notes


def write_feature(channel: int, kind: str, deltas: int, normalisation: str) -> dict[str, Any]:
    """Return the settings of one feature."""
    names = {ours: theirs for theirs, ours in KINDS.items()}
    return {
        "feat_type": names[kind],
        "channel": channel,
        "log": True,
        "delta": deltas,
        "cmvn": normalisation == "utterance",
    }


def write_kaldi(features: Mapping[str, Any], front_end: FrontEndConfig) -> dict[str, Any]:
    """Return the settings of Kaldi's features."""
    kind, level, amplitude = (
        features["kind"],
        features["wave"]["loudness_db"],
        features["amplitude"],
    )
    require_layout(amplitude == "unit", f"s3prl has no {kind}.amplitude {amplitude}, only unit")
    require_layout(level is None, f"s3prl scales no wave to a loudness ({level} dB) before {kind}")
    own: dict[str, Any] = {
        "num_mel_bins": features["mels"],
        "frame_length": features["window_length_ms"],
        "frame_shift": features["frame_shift_ms"],
    }
    if kind == "fbank":
        own["use_log_fbank"] = True
    else:
        own |= {"num_ceps": features["cepstra"], "cepstral_lifter": features["lifter"]}
    return {
        "kaldi": {"feat_type": kind, kind: own},
        "delta": {"order": front_end.deltas, "win_length": front_end.delta_window},
        "cmvn": {"use_cmvn": front_end.normalisation == "utterance"},
    }
