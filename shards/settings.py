"""Feature settings: what the numbers in a shard are. Two features are equal when these are."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import xxhash

from aalbert.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, kw_only=True)
class SilenceSettings:
    """Which silence is cut out of a wave before its features are computed.

    A window of `window_ms` is silent when its RMS lies `threshold_db` or more below that of
    the loudest window. Silence at both ends is cut to `edge_ms`, inner silence that lasts
    longer than `inner_ms` to that.
    """

    threshold_db: float = 40.0
    window_ms: float = 20.0
    edge_ms: float = 100.0
    inner_ms: float = 300.0


@dataclass(frozen=True, kw_only=True)
class WaveSettings:
    """What is done to a wave before its features are computed, in this order.

    Silence is cut, the amplitude is multiplied by `gain_db`, and the whole is scaled to an
    RMS of `loudness_db` below full scale (s3prl scales to -25 dB). By default nothing is.
    """

    silence: SilenceSettings | None = None
    gain_db: float = 0.0
    loudness_db: float | None = None


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
    wave: WaveSettings = WaveSettings()

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
    wave: WaveSettings = WaveSettings()

    @property
    def dims(self) -> int:
        """Numbers per frame."""
        return self.mels


@dataclass(frozen=True, kw_only=True)
class MfccSettings:
    """Kaldi's cepstra: the liftered cosine transform of its log mel filter bank, C0 included.

    Window, pre-emphasis and `amplitude` are those of `FbankSettings`.
    """

    kind: Literal["mfcc"] = "mfcc"
    sample_rate: int = 16_000
    window_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    mels: int = 23
    cepstra: int = 13
    lifter: float = 22.0
    amplitude: Literal["unit", "int16"] = "unit"
    wave: WaveSettings = WaveSettings()

    @property
    def dims(self) -> int:
        """Numbers per frame."""
        return self.cepstra


@dataclass(frozen=True, kw_only=True)
class LinearSettings:
    """Natural logarithm of a power spectrogram, framed as in `LogMelSettings`."""

    kind: Literal["linear"] = "linear"
    sample_rate: int = 16_000
    fft_size: int = 400
    window_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    log_offset: float = 1e-10
    wave: WaveSettings = WaveSettings()

    @property
    def dims(self) -> int:
        """Numbers per frame."""
        return self.fft_size // 2 + 1


FeatureSettings = LogMelSettings | FbankSettings | MfccSettings | LinearSettings

SETTINGS_BY_KIND: dict[str, type[FeatureSettings]] = {
    "logmel": LogMelSettings,
    "fbank": FbankSettings,
    "mfcc": MfccSettings,
    "linear": LinearSettings,
}


def default_settings(kind: str) -> FeatureSettings:
    """Return the default settings of a feature kind; `ConfigError` when there is no such kind."""
    if kind not in SETTINGS_BY_KIND:
        raise ConfigError(f"unknown feature '{kind}': use one of {', '.join(SETTINGS_BY_KIND)}")
    return SETTINGS_BY_KIND[kind]()


def settings_from_dict(document: dict[str, Any]) -> FeatureSettings:
    """Read settings as `dataclasses.asdict` wrote them; `ConfigError` when they are not known."""
    known = default_settings(str(document.get("kind")))
    wave = dict(document.get("wave") or {})
    silence = wave.get("silence")
    unknown = [
        *unknown_names("", document, known),
        *unknown_names("wave.", wave, known.wave),
        *unknown_names("wave.silence.", silence or {}, SilenceSettings()),
    ]
    if unknown:
        raise ConfigError(
            f"feature '{known.kind}' has settings this version does not know: "
            f"{', '.join(unknown)}; prepare the data again or upgrade aalbert"
        )
    if silence is not None:
        wave["silence"] = SilenceSettings(**silence)
    return type(known)(**{**document, "wave": WaveSettings(**wave)})


def unknown_names(
    prefix: str, document: dict[str, Any], settings: "DataclassInstance"
) -> list[str]:
    """Return the names in a document that settings of this version do not have."""
    return [prefix + name for name in sorted(document.keys() - asdict(settings).keys())]


def fingerprint(document: Any) -> str:
    """Hash a JSON document (or the settings of a feature) to 16 hexadecimal digits."""
    if isinstance(document, FeatureSettings):
        document = asdict(document)
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return xxhash.xxh3_64_hexdigest(canonical.encode("ascii"))
