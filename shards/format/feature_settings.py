"""Feature settings: what the numbers in a shard are. Two features are equal when these are."""

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import xxhash

from aalbert.errors import ConfigError, require

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SLOWEST_SAMPLE_RATE, FASTEST_SAMPLE_RATE = 1_000, 768_000
# Kaldi's filters begin here; those of HTK and torchaudio begin at 0 Hz.
KALDI_LOWEST_HERTZ = 20.0


@dataclass(frozen=True, kw_only=True)
class SilenceSettings:
    """Which silence is cut out of a wave before its features are computed.

    The wave is cut into windows of `window_ms` that do not overlap; the last one may be
    shorter. A window is silent when its RMS lies `threshold_db` or more below that of the
    loudest one. Of the silence at either end the `edge_ms` next to the sound stay; of inner
    silence that lasts longer than `inner_ms` so much stays, half of it at each side.
    """

    threshold_db: float = 40.0
    window_ms: float = 20.0
    edge_ms: float = 100.0
    inner_ms: float = 300.0

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        for name in ("threshold_db", "window_ms"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"silence.{name} is {value}: it must be above 0")
        for name in ("edge_ms", "inner_ms"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"silence.{name} is {value}: it must not be negative")


@dataclass(frozen=True, kw_only=True)
class WaveSettings:
    """What is done to a wave before its features are computed, in this order.

    Silence is cut; the wave is multiplied by `10 ** (gain_db / 20)`; and it is multiplied by
    `10 ** (loudness_db / 20) / (rms + 1e-10)`, so that its RMS lies `loudness_db` (negative)
    below full scale, as s3prl does with -25. Values beyond full scale stay as they are: floats
    need no clipping. By default nothing is done.
    """

    silence: SilenceSettings | None = None
    gain_db: float = 0.0
    loudness_db: float | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        require(abs(self.gain_db) <= 100, f"wave.gain_db is {self.gain_db}: it must be -100 to 100")
        require(
            self.loudness_db is None or -100 <= self.loudness_db <= 0,
            f"wave.loudness_db is {self.loudness_db}: it must be -100 to 0",
        )


@dataclass(frozen=True, kw_only=True)
class LogMelSettings:
    """Natural logarithm of a power mel spectrogram, as s3prl and torchaudio define it.

    Frames are centred on multiples of the shift with reflected edges, so that
    `samples` give `1 + samples // shift` frames; the window is a periodic Hann; the mel
    filters are HTK's, not normalised by area; the logarithm is taken of `power + log_offset`.
    """

    kind: Literal["logmel"] = "logmel"
    sample_rate: int = 16_000
    fft_size: int = 400
    window_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    mels: int = 80
    log_offset: float = 1e-10
    wave: WaveSettings = WaveSettings()

    def __post_init__(self) -> None:
        """Refuse what has no frames, or a filter without an FFT bin."""
        check_frames(self)
        check_spectrum(self)
        check_filters(self, 0.0, self.fft_size)

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

    def __post_init__(self) -> None:
        """Refuse what has no frames, or a filter without an FFT bin."""
        check_frames(self)
        check_filters(self, KALDI_LOWEST_HERTZ, kaldi_fft_size(self))

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

    def __post_init__(self) -> None:
        """Refuse what has no frames, a filter without an FFT bin, or no such cepstra."""
        check_frames(self)
        check_filters(self, KALDI_LOWEST_HERTZ, kaldi_fft_size(self))
        require(
            1 <= self.cepstra <= self.mels,
            f"mfcc: cepstra is {self.cepstra}: it must be 1 to mels, {self.mels}",
        )
        require(
            0 <= self.lifter < math.inf, f"mfcc: lifter is {self.lifter}: it must not be negative"
        )

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

    def __post_init__(self) -> None:
        """Refuse what has no frames."""
        check_frames(self)
        check_spectrum(self)

    @property
    def dims(self) -> int:
        """Numbers per frame."""
        return self.fft_size // 2 + 1


FeatureSettings = LogMelSettings | FbankSettings | MfccSettings | LinearSettings


def window_samples(settings: FeatureSettings) -> int:
    """Return the length of the analysis window in whole samples, rounded down as Kaldi does."""
    return whole_samples(settings.sample_rate, settings.window_length_ms)


def shift_samples(settings: FeatureSettings) -> int:
    """Return the distance of two frames in whole samples, rounded down as Kaldi does."""
    return whole_samples(settings.sample_rate, settings.frame_shift_ms)


def whole_samples(sample_rate: int, milliseconds: float) -> int:
    """Return the samples that fit into a time; a product that is only just below one counts."""
    return int(sample_rate * milliseconds / 1000 + 1e-6)


def kaldi_fft_size(settings: FbankSettings | MfccSettings) -> int:
    """Return the power of two to which Kaldi pads the window with zeros."""
    return 1 << (window_samples(settings) - 1).bit_length()


def mel_edges(lowest_hertz: float, highest_hertz: float, mels: int) -> list[float]:
    """Return the `mels + 2` edges of overlapping filters in Hz, equally spaced in mel.

    `mel = ln(1 + hertz / 700)` up to a factor (2595 / ln 10 for HTK, 1127 for Kaldi), which
    does not move the edges: filter `i` rises from edge `i` to `i + 1` and falls to `i + 2`.
    """
    lowest, highest = (math.log1p(hertz / 700) for hertz in (lowest_hertz, highest_hertz))
    step = (highest - lowest) / (mels + 1)
    return [700 * math.expm1(lowest + number * step) for number in range(mels + 2)]


def check_frames(settings: FeatureSettings) -> None:
    """Refuse a sample rate, window or shift from which no frames can be made."""
    kind, rate = settings.kind, settings.sample_rate
    require(
        SLOWEST_SAMPLE_RATE <= rate <= FASTEST_SAMPLE_RATE,
        f"{kind}: sample_rate is {rate}: it must be {SLOWEST_SAMPLE_RATE} to "
        f"{FASTEST_SAMPLE_RATE} Hz",
    )
    for name, smallest in (("window_length_ms", 2), ("frame_shift_ms", 1)):
        value = getattr(settings, name)
        require(
            math.isfinite(value) and whole_samples(rate, value) >= smallest,
            f"{kind}: {name} is {value}: it must be at least {1000 * smallest / rate:g}, "
            f"{smallest} samples at {rate} Hz",
        )


def check_spectrum(settings: LogMelSettings | LinearSettings) -> None:
    """Refuse a window that is longer than the FFT, an odd FFT, and a logarithm of zero."""
    kind, window = settings.kind, window_samples(settings)
    require(
        settings.fft_size >= window,
        f"{kind}: fft_size is {settings.fft_size}, shorter than the window of {window} samples "
        f"({settings.window_length_ms:g} ms at {settings.sample_rate} Hz): use at least {window}",
    )
    require(settings.fft_size % 2 == 0, f"{kind}: fft_size is {settings.fft_size}: it must be even")
    require(
        0 < settings.log_offset < math.inf,
        f"{kind}: log_offset is {settings.log_offset}: it must be above 0",
    )


def check_filters(
    settings: LogMelSettings | FbankSettings | MfccSettings, lowest_hertz: float, fft_size: int
) -> None:
    """Refuse mel filters so narrow that one lies between two FFT bins and is always empty."""
    kind, mels = settings.kind, settings.mels
    require(mels >= 3, f"{kind}: mels is {mels}: it must be at least 3")
    bin_hertz = settings.sample_rate / fft_size
    edges = mel_edges(lowest_hertz, settings.sample_rate / 2, mels)
    empty = [
        number
        for number, (left, right) in enumerate(zip(edges, edges[2:], strict=False))
        if (math.floor(left / bin_hertz) + 1) * bin_hertz >= right
    ]
    require(
        not empty,
        f"{kind}: {len(empty)} of {mels} mel filters fall between the FFT's bins, which lie "
        f"{bin_hertz:.4g} Hz apart, and would be empty: use fewer mels or a longer "
        + ("window" if kind != "logmel" else "FFT (fft_size)"),
    )


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
    return xxhash.xxh3_64_hexdigest(canonical(document))


def canonical(document: Any) -> bytes:
    """Return the one spelling of a JSON document that hashes are taken of."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.encode("ascii")
