"""Feature settings: what the numbers in a shard are. Two features are equal when these are.

To add a feature kind, enter the class of its settings in `SETTINGS_BY_KIND`, and what computes it
in `EXTRACTORS` of `pipeline/audio/features.py`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import xxhash

from aalbert.common.files import canonical
from aalbert.common.json_files import as_record
from aalbert.common.text import flat
from aalbert.errors import ConfigError, require
from aalbert.shards.format.mel_filters import empty_filters
from aalbert.shards.format.wave_settings import SilenceSettings, WaveSettings

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import DataclassInstance
    from numpy.typing import NDArray

Settings = TypeVar("Settings", bound="DataclassInstance")

SLOWEST_SAMPLE_RATE, FASTEST_SAMPLE_RATE = 1_000, 768_000
# Kaldi's filters begin here; those of HTK and torchaudio begin at 0 Hz.
KALDI_LOWEST_HERTZ = 20.0
# 4 s at 16 kHz: settings come from files, which may claim any size.
LARGEST_FFT = 2**16


class FeatureSettings(ABC):
    """The settings of a feature kind, and what follows from them: dims, and when frames lie.

    A kind is a frozen dataclass with these fields and its own; all have defaults. Where its
    frames are `centred`, frame `i` has its middle at sample `i * shift_samples`, the edges of the
    wave are reflected, and `samples` give `1 + samples // shift` frames. Else it begins there,
    and only whole windows count, as in Kaldi. `dimension_name` and `value_name` say on pictures
    what is numbered and what is measured.
    """

    kind: str
    sample_rate: int
    window_length_ms: float
    frame_shift_ms: float
    wave: WaveSettings
    centred: ClassVar[bool]
    dimension_name: ClassVar[str]
    value_name: ClassVar[str]
    # Lets type checkers know that every kind is a dataclass, which this class itself is not:
    # the order of the fields is each kind's own, and is stored.
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __post_init__(self) -> None:
        """Refuse a sample rate, window or shift from which no frames can be made."""
        require(
            SLOWEST_SAMPLE_RATE <= self.sample_rate <= FASTEST_SAMPLE_RATE,
            f"{self.kind}: sample_rate is {self.sample_rate}: it must be {SLOWEST_SAMPLE_RATE} to "
            f"{FASTEST_SAMPLE_RATE} Hz",
        )
        for name, smallest in (("window_length_ms", 2), ("frame_shift_ms", 1)):
            value = getattr(self, name)
            require(
                math.isfinite(value) and whole_samples(self.sample_rate, value) >= smallest,
                f"{self.kind}: {name} is {value}: it must be at least "
                f"{1000 * smallest / self.sample_rate:g}, {smallest} samples at "
                f"{self.sample_rate} Hz",
            )
            require(
                whole_samples(self.sample_rate, value) <= LARGEST_FFT,
                f"{self.kind}: {name} is {value}: it must be at most "
                f"{1000 * LARGEST_FFT / self.sample_rate:g}, {LARGEST_FFT:,} samples at "
                f"{self.sample_rate} Hz",
            )

    @property
    @abstractmethod
    def dims(self) -> int:
        """Numbers per frame."""

    @property
    def window_samples(self) -> int:
        """The length of the analysis window in whole samples, rounded down as Kaldi does."""
        return whole_samples(self.sample_rate, self.window_length_ms)

    @property
    def shift_samples(self) -> int:
        """The distance of two frames in whole samples, rounded down as Kaldi does."""
        return whole_samples(self.sample_rate, self.frame_shift_ms)

    @property
    def first_centre(self) -> int:
        """The sample at the centre of the first frame."""
        return 0 if self.centred else self.window_samples // 2

    def centres_ms(self, frames: "NDArray[np.floating]") -> "NDArray[np.floating]":
        """Return the times at which frames have their centres; a half lies between two frames."""
        return (self.first_centre + frames * self.shift_samples) * 1000 / self.sample_rate

    def count_frames(self, samples: int) -> int:
        """Return how many frames a wave has, which must have one window of samples at least."""
        whole = samples if self.centred else samples - self.window_samples
        return 1 + whole // self.shift_samples


@dataclass(frozen=True, kw_only=True)
class LogMelSettings(FeatureSettings):
    """Natural logarithm of a power mel spectrogram, as s3prl and torchaudio define it.

    The window is a periodic Hann; the mel filters are HTK's, not normalised by area; the
    logarithm is taken of `power + log_offset`.
    """

    kind: Literal["logmel"] = "logmel"
    sample_rate: int = 16_000
    fft_size: int = 400
    window_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    mels: int = 80
    log_offset: float = 1e-10
    wave: WaveSettings = WaveSettings()

    centred = True
    dimension_name = "mel band"
    value_name = "natural log of power"

    def __post_init__(self) -> None:
        """Refuse what has no frames, or a filter without an FFT bin."""
        super().__post_init__()
        check_spectrum(self)
        check_filters(self, 0.0, lengthen="FFT (fft_size)")

    @property
    def dims(self) -> int:
        """Numbers per frame."""
        return self.mels


@dataclass(frozen=True, kw_only=True)
class FbankSettings(FeatureSettings):
    """Kaldi's log mel filter bank: Povey window, pre-emphasis 0.97, no dither.

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

    centred = False
    dimension_name = "mel band"
    value_name = "natural log of energy"

    def __post_init__(self) -> None:
        """Refuse what has no frames, or a filter without an FFT bin."""
        super().__post_init__()
        check_filters(self, KALDI_LOWEST_HERTZ, lengthen="window")

    @property
    def dims(self) -> int:
        """Numbers per frame."""
        return self.mels

    @property
    def fft_size(self) -> int:
        """The power of two to which Kaldi pads the window with zeros."""
        return 1 << (self.window_samples - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class MfccSettings(FeatureSettings):
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

    centred = False
    dimension_name = "cepstral coefficient"
    value_name = "coefficient"

    def __post_init__(self) -> None:
        """Refuse what has no frames, a filter without an FFT bin, or no such cepstra."""
        super().__post_init__()
        check_filters(self, KALDI_LOWEST_HERTZ, lengthen="window")
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

    @property
    def fft_size(self) -> int:
        """The power of two to which Kaldi pads the window with zeros."""
        return 1 << (self.window_samples - 1).bit_length()


@dataclass(frozen=True, kw_only=True)
class LinearSettings(FeatureSettings):
    """Natural logarithm of a power spectrogram, framed as in `LogMelSettings`."""

    kind: Literal["linear"] = "linear"
    sample_rate: int = 16_000
    fft_size: int = 400
    window_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    log_offset: float = 1e-10
    wave: WaveSettings = WaveSettings()

    centred = True
    dimension_name = "frequency bin"
    value_name = "natural log of power"

    def __post_init__(self) -> None:
        """Refuse what has no frames."""
        super().__post_init__()
        check_spectrum(self)

    @property
    def dims(self) -> int:
        """Numbers per frame."""
        return self.fft_size // 2 + 1


def check_spectrum(settings: LogMelSettings | LinearSettings) -> None:
    """Refuse a window that is longer than the FFT, an odd FFT, and a logarithm of zero."""
    kind, window = settings.kind, settings.window_samples
    require(
        settings.fft_size >= window,
        f"{kind}: fft_size is {settings.fft_size}, shorter than the window of {window} samples "
        f"({settings.window_length_ms:g} ms at {settings.sample_rate} Hz): use at least {window}",
    )
    require(settings.fft_size % 2 == 0, f"{kind}: fft_size is {settings.fft_size}: it must be even")
    require(
        settings.fft_size <= LARGEST_FFT,
        f"{kind}: fft_size is {settings.fft_size}: it must be at most {LARGEST_FFT}",
    )
    require(
        0 < settings.log_offset < math.inf,
        f"{kind}: log_offset is {settings.log_offset}: it must be above 0",
    )


def check_filters(
    settings: LogMelSettings | FbankSettings | MfccSettings, lowest_hertz: float, *, lengthen: str
) -> None:
    """Refuse mel filters so narrow that one lies between two FFT bins and is always empty.

    `lengthen` names what brings the bins closer together.
    """
    kind, mels = settings.kind, settings.mels
    require(
        3 <= mels <= settings.fft_size // 2,
        f"{kind}: mels is {mels}: it must be at least 3, and at most half of the FFT's "
        f"{settings.fft_size} samples",
    )
    empty = empty_filters(lowest_hertz, settings.sample_rate, settings.fft_size, mels)
    require(
        not empty,
        f"{kind}: {empty} of {mels} mel filters fall between the FFT's bins, which lie "
        f"{settings.sample_rate / settings.fft_size:.4g} Hz apart, and would be empty: use fewer "
        f"mels or a longer {lengthen}",
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


def settings_from_dict(document: Mapping[str, Any]) -> FeatureSettings:
    """Read settings as `asdict` wrote them; `ConfigError` for unknown ones and invalid values."""
    require(isinstance(document, Mapping), f"the settings of a feature are {document!r:.60}")
    known = default_settings(str(document.get("kind")))
    every = replace(known, wave=WaveSettings(silence=SilenceSettings()))
    names = {name for one in (known, every) for name, _ in flat(asdict(one))} | {"wave"}
    unknown = sorted(name for name, _ in flat(document) if name not in names)
    if unknown:
        raise ConfigError(
            f"feature '{known.kind}' has settings this version does not know: "
            f"{', '.join(unknown)}; prepare the data again or upgrade aalbert"
        )
    try:
        valid = as_record(type(known), document)
    except ValueError as error:
        raise ConfigError(f"feature '{known.kind}': {error}") from error
    return as_spelled(valid, document)


def as_spelled(settings: Settings, document: Mapping[str, Any]) -> Settings:
    """Return settings with the real numbers of their document: fingerprints tell -25 from -25.0."""
    spelled: dict[str, Any] = {}
    for name, given in document.items():
        value = getattr(settings, name)
        if isinstance(given, Mapping):
            spelled[name] = as_spelled(value, given)
        elif isinstance(value, float):
            spelled[name] = given
    return replace(settings, **spelled)


def fingerprint(document: Any) -> str:
    """Hash a JSON document (or the settings of a feature) to 16 hexadecimal digits."""
    if isinstance(document, FeatureSettings):
        document = asdict(document)
    return xxhash.xxh3_64_hexdigest(canonical(document))


def whole_samples(sample_rate: int, milliseconds: float) -> int:
    """Return the samples that fit into a time; a product that is only just below one counts."""
    return int(sample_rate * milliseconds / 1000 + 1e-6)
