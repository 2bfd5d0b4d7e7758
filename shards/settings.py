"""Feature settings: what the numbers in a shard are. Two features are equal when these are."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import xxhash

from aalbert.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LogMelSettings:
    """Natural logarithm of a power mel spectrogram, as s3prl and torchaudio define it.

    Frames are centred on multiples of the shift with reflected edges, so that
    `samples` give `1 + samples // shift` frames; the mel filters are HTK's, not
    normalised by area; the logarithm is taken of `power + log_offset`.
    """

    kind: Literal["logmel"] = "logmel"
    sample_rate: int = 16_000
    fft_size: int = 400
    window_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    mels: int = 80
    log_offset: float = 1e-10

    @property
    def dims(self) -> int:
        """Numbers per frame."""
        return self.mels


@dataclass(frozen=True, kw_only=True)
class FbankSettings:
    """Kaldi's log mel filter bank: Povey window, pre-emphasis 0.97, no dither, whole frames only.

    `amplitude` says what the samples were scaled to before: `unit` is [-1, 1), as
    s3prl feeds it; `int16` is Kaldi's own scale.
    """

    kind: Literal["fbank"] = "fbank"
    sample_rate: int = 16_000
    window_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    mels: int = 80
    amplitude: Literal["unit", "int16"] = "unit"

    @property
    def dims(self) -> int:
        """Numbers per frame."""
        return self.mels


FeatureSettings = LogMelSettings | FbankSettings

SETTINGS_BY_KIND: dict[str, type[LogMelSettings] | type[FbankSettings]] = {
    "logmel": LogMelSettings,
    "fbank": FbankSettings,
}


def default_settings(kind: str) -> FeatureSettings:
    """Return the default settings of a feature kind; `ConfigError` when there is no such kind."""
    if kind not in SETTINGS_BY_KIND:
        raise ConfigError(f"unknown feature '{kind}': use one of {', '.join(SETTINGS_BY_KIND)}")
    return SETTINGS_BY_KIND[kind]()


def settings_from_dict(document: dict[str, Any]) -> FeatureSettings:
    """Read settings as `dataclasses.asdict` wrote them; `ConfigError` when they are not known."""
    known = default_settings(str(document.get("kind")))
    unknown = sorted(document.keys() - asdict(known).keys())
    if unknown:
        raise ConfigError(
            f"feature '{known.kind}' has settings this version does not know: "
            f"{', '.join(unknown)}; prepare the data again or upgrade aalbert"
        )
    return type(known)(**document)


def fingerprint(document: Any) -> str:
    """Hash a JSON document (or the settings of a feature) to 16 hexadecimal digits."""
    if isinstance(document, LogMelSettings | FbankSettings):
        document = asdict(document)
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return xxhash.xxh3_64_hexdigest(canonical.encode("ascii"))
