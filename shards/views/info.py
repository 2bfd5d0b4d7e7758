"""What a dataset is, from its manifest alone: splits, hours, features, what was skipped."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aalbert.common.json_files import parse_records
from aalbert.common.text import flat, human_bytes, text_table, visible
from aalbert.errors import IntegrityError
from aalbert.shards.format.feature_groups import unusual_settings
from aalbert.shards.format.feature_settings import FeatureSettings
from aalbert.shards.format.manifest import SKIPPED_NAME, Manifest, SplitRecord, parse_manifest
from aalbert.shards.reading.place import Place, open_place


@dataclass(frozen=True, kw_only=True)
class SkippedInput:
    """A line of the list of inputs that were not taken."""

    source: str
    reason: str


def describe(place: Path | str) -> dict[str, Any]:
    """Return what there is to say of the dataset in a folder or at a URL as a JSON document.

    Raises `InputError` and `IntegrityError` as `read_manifest` does, `ConfigError` and
    `StorageError` as `Dataset` does for a URL.
    """
    opened = open_place(place)
    manifest = parse_manifest(opened.manifest(), opened.name)
    return {
        "data": opened.name,
        "corpus": manifest.corpus,
        "utterances": manifest.utterances,
        "hours": manifest.hours,
        "speakers_in_splits": sum(split.speakers for split in manifest.splits.values()),
        "bytes": sum(record.size for record in manifest.files),
        "fingerprint": manifest.fingerprint,
        "splits": {name: describe_split(split) for name, split in manifest.splits.items()},
        "features": {
            name: describe_feature(settings) for name, settings in manifest.features.items()
        },
        "skipped": manifest.skipped,
        "skipped_by_reason": skipped_by_reason(opened, manifest),
        "software": dict(manifest.software),
    }


def describe_split(split: SplitRecord) -> dict[str, Any]:
    """Count what a split holds."""
    return {
        "utterances": split.utterances,
        "hours": split.hours,
        "speakers": split.speakers,
        "shards": len(split.shards),
        "bytes": sum(shard.size for shard in split.shards),
    }


def describe_feature(settings: FeatureSettings) -> dict[str, Any]:
    """Return all settings of a feature, and the names of those that are not the defaults."""
    chosen = asdict(settings)
    return {
        "dims": settings.dims,
        "settings": dict(flat(chosen)),
        "changed": list(unusual_settings(settings.kind, chosen)),
    }


def skipped_by_reason(place: Place, manifest: Manifest) -> dict[str, int]:
    """Count the reasons for which inputs were not taken, the most frequent first.

    A reason's figures of a single file, which follow a colon, are left out.
    """
    if not manifest.skipped:
        return {}
    path = f"{place.name}/{SKIPPED_NAME}"
    content = place.read(SKIPPED_NAME)
    if content is None:
        raise IntegrityError(f"{path} is missing; restore it")
    lines = parse_records(SkippedInput, content, path, "restore it")
    return dict(Counter(line.reason.partition(":")[0] for line in lines).most_common())


def description_text(document: dict[str, Any]) -> str:
    """Return the description for people."""
    splits = [
        [
            name,
            f"{split['utterances']:,}",
            f"{split['hours']:,.2f}",
            f"{split['speakers']:,}",
            f"{split['shards']:,}",
            human_bytes(split["bytes"]),
        ]
        for name, split in document["splits"].items()
    ]
    titles = ["split", "utterances", "hours", "speakers", "shards", "size"]
    software = ", ".join(f"{name} {version}" for name, version in document["software"].items())
    skipped = [
        f"  {count:,}  {visible(reason)}" for reason, count in document["skipped_by_reason"].items()
    ]
    return "\n".join(
        [
            f"{visible(document['data'])}: {visible(document['corpus'])}, "
            f"{document['utterances']:,} utterances, {document['hours']:,.2f} hours, "
            f"{human_bytes(document['bytes'])}",
            f"fingerprint {document['fingerprint']}",
            "",
            text_table([titles, *splits], numbers=True),
            "",
            *(line for item in document["features"].items() for line in feature_lines(*item)),
            "",
            f"{document['skipped']:,} inputs skipped",
            *skipped,
            f"made with {software}",
        ]
    )


def feature_lines(name: str, feature: dict[str, Any]) -> list[str]:
    """Return the settings of a feature: first what was chosen, then the defaults."""
    settings, changed = feature["settings"], feature["changed"]
    usual = [key for key in settings if key not in changed and key != "kind"]
    shown = {key: "none" if value is None else value for key, value in settings.items()}
    chosen = ", ".join(f"{key} {shown[key]}" for key in changed)
    return [
        f"{name}: {feature['dims']} numbers per frame",
        f"  chosen    {chosen or 'nothing: all settings are the defaults'}",
        f"  default   {', '.join(f'{key} {shown[key]}' for key in usual)}",
    ]
