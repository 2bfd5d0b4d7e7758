"""The settings of a loader: how utterances are batched, and how batches are read."""

from dataclasses import dataclass
from typing import Literal, get_args

from aalbert.errors import require

Remainder = Literal["drop", "repeat"]
WhenToVerify = Literal["always", "first-epoch", "never"]


@dataclass(frozen=True, kw_only=True)
class OrderConfig:
    """The settings by which utterances are shuffled and batched.

    A batch holds at most `frames_per_batch` frames (or one longer utterance), including padding;
    with `packed` there is no padding. With `static_lengths` every utterance is padded to the
    next of these lengths, and a batch to as many utterances as fit, so that there are only
    `len(static_lengths)` shapes. Utterances are shuffled within windows of `window_shards`
    shards; without static lengths, pools of `pool_batches` batches are sorted by length before
    they are cut into batches. If an epoch ends with fewer utterances than there are ranks, they
    are dropped or repeated, according to `remainder`.
    """

    frames_per_batch: int
    packed: bool = False
    static_lengths: tuple[int, ...] = ()
    window_shards: int = 16
    pool_batches: int = 50
    remainder: Remainder = "drop"

    def __post_init__(self) -> None:
        """Raise `ConfigError` for settings that allow no batches."""
        for name in ("frames_per_batch", "window_shards", "pool_batches"):
            value = getattr(self, name)
            require(value > 0, f"{name} is {value}: give a number above 0")
        require(
            self.remainder in get_args(Remainder),
            f"remainder is '{self.remainder}': use one of {', '.join(get_args(Remainder))}",
        )
        lengths = self.static_lengths
        require(
            all(left < right for left, right in zip((0, *lengths), lengths, strict=False)),
            f"static_lengths are {lengths}: give rising numbers above 0",
        )
        require(
            not (self.packed and lengths),
            "packed batches have no padding: leave out static_lengths",
        )


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """The features to read, their crop, order, verification and read-ahead.

    `targets` are further stored features in each batch, with the same frames as `feature`.
    `crop_frames` of None takes whole utterances. `shuffle` of False takes every utterance
    once, sorted by length, the same in every epoch. `verify` sets when the bytes that are read
    are compared with their checksums: `always`, in the `first-epoch` that a process reads, or
    `never`. `readers` processes read ahead of the training loop, up to `prefetch` batches each;
    with a `prefetch` of 0, a batch is read when it is requested.
    """

    order: OrderConfig
    feature: str = "logmel"
    targets: tuple[str, ...] = ()
    crop_frames: int | None = None
    shuffle: bool = True
    seed: int = 0
    verify: WhenToVerify = "first-epoch"
    prefetch: int = 12
    readers: int = 1

    def __post_init__(self) -> None:
        """Raise `ConfigError` for settings with which nothing can be read."""
        require(
            self.crop_frames is None or self.crop_frames > 0,
            f"crop_frames is {self.crop_frames}: give a number above 0",
        )
        require(self.prefetch >= 0, f"prefetch is {self.prefetch}: give 0 or more")
        require(self.readers > 0, f"readers is {self.readers}: give 1 or more")
        require(
            self.verify in get_args(WhenToVerify),
            f"verify is '{self.verify}': use one of {', '.join(get_args(WhenToVerify))}",
        )
        require(
            isinstance(self.targets, tuple),
            f"targets is {self.targets!r}: give a tuple of names, such as ('linear',)",
        )
        require(
            len({*self.features}) == len(self.features),
            f"targets are {', '.join(self.targets)}: name each once, and not {self.feature}, "
            "which batches have already",
        )

    @property
    def features(self) -> tuple[str, ...]:
        """All features that are read, the input first."""
        return (self.feature, *self.targets)
