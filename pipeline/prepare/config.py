"""The settings of a `prepare`: which features it computes, and the size of its shards."""

from dataclasses import dataclass

from aalbert.errors import require
from aalbert.shards.format.feature_settings import FeatureSettings

SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What `prepare` computes and how it cuts it into shards."""

    features: tuple[FeatureSettings, ...]
    shard_bytes: int = SHARD_BYTES
    strict_audio: bool = False

    def __post_init__(self) -> None:
        """Refuse features that cannot be computed from one and the same wave."""
        require(bool(self.features), "no feature is asked for: name at least one")
        kinds = [settings.kind for settings in self.features]
        require(
            len(set(kinds)) == len(kinds), f"a feature is named twice: {', '.join(sorted(kinds))}"
        )
        for name in ("sample_rate", "wave"):
            values = {settings.kind: getattr(settings, name) for settings in self.features}
            require(
                len(set(values.values())) == 1,
                f"the features of a dataset share one {name}, these do not: "
                + ", ".join(f"{kind} has {value}" for kind, value in values.items()),
            )
