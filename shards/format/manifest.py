"""The manifest: the contents of a dataset folder. It is written last and marks it as complete."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import xxhash
from annotated_types import Ge

from aalbert.common.files import json_text, write_text
from aalbert.common.json_files import Matching, ReadBy, as_record, naming_damage, parse_record
from aalbert.errors import ConfigError, IntegrityError
from aalbert.shards.format.dataset_folder import MANIFEST_NAME, manifest_path
from aalbert.shards.format.feature_settings import FeatureSettings, fingerprint, settings_from_dict
from aalbert.shards.format.index import FORMAT_VERSION

SKIPPED_NAME = "skipped.jsonl"
FORMAT_NAME = "aalbert-shards"

Count = Annotated[int, Ge(0)]
# Of an amount or a deviation.
NotNegative = Annotated[float, Ge(0)]
Hash = Annotated[str, Matching("^[0-9a-f]{32}$")]
StoredSettings = Annotated[FeatureSettings, ReadBy(settings_from_dict)]


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file of the dataset: its path inside the folder, size in bytes, XXH3-128."""

    path: str
    size: Count
    xxh3: Hash


@dataclass(frozen=True, kw_only=True)
class ShardRecord(FileRecord):
    """A shard and the number of utterances in it."""

    utterances: Count


@dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """One split: its index and statistics, its shards in order, and its amount of speech."""

    index: FileRecord
    statistics: FileRecord
    shards: tuple[ShardRecord, ...]
    utterances: Count
    hours: NotNegative
    speakers: Count


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """Mean and standard deviation per dimension over all frames of the dataset."""

    frames: Count
    mean: tuple[float, ...]
    std: tuple[NotNegative, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything about a dataset that is not per utterance.

    `attachments` are files of the corpus itself, `documents` those written for people.
    """

    corpus: str
    features: Mapping[str, StoredSettings]
    statistics: Mapping[str, FeatureStatistics]
    splits: Mapping[str, SplitRecord]
    skipped: Count
    plan_fingerprint: str
    attachments: tuple[FileRecord, ...] = ()
    documents: tuple[FileRecord, ...] = ()
    software: Mapping[str, str] = field(default_factory=dict)

    @property
    def utterances(self) -> int:
        """Utterances in all splits."""
        return sum(split.utterances for split in self.splits.values())

    @property
    def hours(self) -> float:
        """Hours of speech in all splits."""
        return sum(split.hours for split in self.splits.values())

    @property
    def feature_dims(self) -> dict[str, int]:
        """Numbers per frame of each feature."""
        return {name: settings.dims for name, settings in self.features.items()}

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Every file of the dataset except the manifest itself."""
        split_files = (
            record
            for split in self.splits.values()
            for record in (split.index, split.statistics, *split.shards)
        )
        return (*split_files, *self.attachments, *self.documents)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the dataset's contents, not of the inputs and the software that made it.

        The documents are left out too, because the card contains the fingerprint.
        """
        document = self.to_dict()
        for name in ("plan_fingerprint", "software", "documents"):
            del document[name]
        return fingerprint(document)

    def match_splits(self, patterns: Iterable[str], place: Path | str) -> list[str]:
        """Return the splits that match one of the patterns (`train*`, `dev-clean`), in order.

        Raises `ConfigError`, which names `place`, when a pattern matches no split.
        """
        matched: set[str] = set()
        for pattern in patterns:
            found = {name for name in self.splits if fnmatchcase(name, pattern)}
            if not found:
                raise ConfigError(
                    f"{place} has no split '{pattern}': it has {', '.join(self.splits)}"
                )
            matched |= found
        return [name for name in self.splits if name in matched]

    def require_feature(self, feature: str, place: Path | str) -> None:
        """Raise `ConfigError`, which names `place`, when the feature is not stored."""
        if feature not in self.features:
            raise ConfigError(
                f"{place} has no feature '{feature}': it has "
                f"{', '.join(self.features)}; prepare it with --feature {feature}"
            )

    def check_sizes(self, place: str, present: Mapping[str, int]) -> None:
        """Raise `IntegrityError` unless every file is present with its size in bytes."""
        for record in self.files:
            size = present.get(record.path)
            if size != record.size:
                found = "is missing" if size is None else f"has {size} bytes"
                raise IntegrityError(
                    f"{place.rstrip('/')}/{record.path} {found}, the manifest says {record.size} "
                    f"bytes; restore it, or delete {place} and prepare the data again"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as a JSON document, without its own fingerprint."""
        return {"format": FORMAT_NAME, "format_version": FORMAT_VERSION, **asdict(self)}

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the dataset folder."""
        document = {**self.to_dict(), "fingerprint": self.fingerprint}
        write_text(folder / MANIFEST_NAME, text_with_checksum(document))


def text_with_checksum(document: Mapping[str, Any]) -> str:
    """Return the text of a manifest: the document, and at its end a checksum of all of it."""
    checksum = xxhash.xxh3_128_hexdigest(json_text(document).encode("utf-8"))
    return json_text({**document, "checksum": checksum})


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a dataset folder.

    Raises `InputError` when the folder is not a complete dataset, and `IntegrityError`
    when the manifest has changed since it was written.
    """
    return parse_manifest(manifest_path(folder).read_bytes(), str(folder))


def parse_manifest(content: bytes, place: str) -> Manifest:
    """Return the manifest in the bytes of its file, of the dataset in the folder or URL `place`.

    Raises `IntegrityError` when it has changed since it was written.
    """
    path = f"{place.rstrip('/')}/{MANIFEST_NAME}"
    way_out = f"restore it, or delete {place} and prepare the data again"
    document = parse_record(dict[str, Any], content, path, way_out)
    check_format(path, document)
    with naming_damage(path, way_out):
        check_text(path, place, content.decode("utf-8"), document)
        manifest = manifest_from_dict(document)
    recorded = document["fingerprint"]
    if manifest.fingerprint != recorded:
        raise IntegrityError(
            f"{path} has fingerprint {recorded}, this aalbert computes {manifest.fingerprint}; "
            "prepare the data again or use the version that wrote it"
        )
    check_paths(path, manifest)
    with naming_damage(path, way_out):
        check_contents(manifest)
    return manifest


def check_format(path: str, document: dict[str, Any]) -> None:
    """Raise `IntegrityError` when a manifest has another format or version."""
    found = (document.get("format"), document.get("format_version"))
    if found != (FORMAT_NAME, FORMAT_VERSION):
        raise IntegrityError(
            f"{path} has format {found[0]} version {found[1]}, this aalbert reads "
            f"{FORMAT_NAME} version {FORMAT_VERSION}; prepare the data again"
        )


def check_text(path: str, place: str, text: str, document: dict[str, Any]) -> None:
    """Raise `IntegrityError` when a single character of a manifest has changed.

    The checksum covers the values of the document. Comparing the text with the only one that is
    ever written covers what a parser ignores, such as white space and duplicate names.
    """
    content = {name: value for name, value in document.items() if name != "checksum"}
    if text_with_checksum(content) != text:
        raise IntegrityError(
            f"{path} was changed after it was written; restore it, or delete {place} "
            "and prepare the data again"
        )


def check_paths(path: str, manifest: Manifest) -> None:
    """Raise `IntegrityError` when a manifest names a file outside of its folder."""
    for record in manifest.files:
        inside = PurePosixPath(record.path)
        if inside.is_absolute() or not inside.parts or {"..", "\0"} & {*inside.parts, *record.path}:
            raise IntegrityError(
                f"{path} names a file outside of its folder, {record.path!r}: "
                "do not use this dataset"
            )


def check_contents(manifest: Manifest) -> None:
    """Raise `ValueError` when the parts of a manifest contradict each other."""
    dims = {name: settings.dims for name, settings in manifest.features.items()}
    measured = {
        name: (len(statistics.mean), len(statistics.std))
        for name, statistics in manifest.statistics.items()
    }
    if not dims or not manifest.splits:
        raise ValueError("it has no features or no splits")
    if any(name != settings.kind for name, settings in manifest.features.items()):
        raise ValueError("a feature has another name than its kind")
    if measured != {name: (number, number) for name, number in dims.items()}:
        raise ValueError(f"its statistics are not those of {dims} dims")
    for name, split in manifest.splits.items():
        if split.utterances != sum(shard.utterances for shard in split.shards):
            raise ValueError(f"the shards of {name} do not have its {split.utterances} utterances")


def manifest_from_dict(document: dict[str, Any]) -> Manifest:
    """Build a manifest from its JSON document; `ValueError` for one of other types."""
    header = ("format", "format_version", "fingerprint", "checksum")
    content = {name: value for name, value in document.items() if name not in header}
    if missing := {"fingerprint", *(each.name for each in fields(Manifest))} - document.keys():
        raise ValueError(f"without {', '.join(sorted(missing))}")
    return as_record(Manifest, content)
