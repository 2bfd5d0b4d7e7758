"""Where the data and the files of a run lie, and that they are still what it was made with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from aalbert.common.files import file_digest, is_side_file
from aalbert.common.redaction import is_redacted, redact_url
from aalbert.common.store import is_url
from aalbert.common.text import is_unicode
from aalbert.errors import IntegrityError, require
from aalbert.shards.reading.dataset import Dataset


def lasting_path(path: str) -> str:
    """Return an absolute path; an empty one stays empty.

    Raises `ConfigError` when a folder on the way has a name that is no text, and so cannot be
    recorded.
    """
    if not path:
        return ""
    absolute = str(Path(path).resolve())
    require(is_unicode(absolute), f"{absolute}: a name in it is not UTF-8 text: rename it")
    return absolute


def lasting_place(data: Path | str) -> str:
    """Return the place of a dataset as records name it: a URL without secrets or absolute path."""
    return redact_url(str(data)) if is_url(data) else lasting_path(str(data))


def data_record(data: Sequence[Path | str], datasets: Sequence[Dataset]) -> dict[str, list[str]]:
    """Return the entries of a run's record for its datasets, which lie at the places `data`."""
    return {
        "data": [lasting_place(place) for place in data],
        "data_fingerprint": [dataset.manifest.fingerprint for dataset in datasets],
    }


def open_data(record: dict[str, Any], data: Path | str | None = None) -> Dataset:
    """Open the dataset of a run at its recorded place, or in `data`.

    Raises `IntegrityError` when it is not the one that the run was trained on, and `ConfigError`
    when its record lacks the secrets of its URL.
    """
    place = data or record["data"]
    require_whole(place, "--data")
    dataset = Dataset(place)
    if dataset.manifest.fingerprint != record["data_fingerprint"]:
        raise IntegrityError(
            f"{dataset.place} has fingerprint {dataset.manifest.fingerprint}, the run was "
            f"trained on {record['data_fingerprint']}: it is another dataset, or was prepared again"
        )
    return dataset


def require_whole(place: Path | str, option: str) -> None:
    """Raise `ConfigError` for a place whose secrets were left out of the record it is from."""
    require(
        not is_redacted(place),
        f"{place} was recorded without its secrets: give the whole URL with {option}",
    )


def open_datasets(
    record: dict[str, Any], data: Sequence[Path | str] | None = None
) -> list[Dataset]:
    """Open the datasets of a `data_record`, or the same in `data`, in their order.

    Raises `IntegrityError` as `open_data` does, and `ConfigError` for another number of them.
    """
    places, fingerprints = data or record["data"], record["data_fingerprint"]
    require(
        len(places) == len(fingerprints),
        f"{len(places)} datasets are given, the run was trained on {len(fingerprints)}: give "
        "--data for each, in their order",
    )
    return [
        open_data({"data": place, "data_fingerprint": fingerprint})
        for place, fingerprint in zip(places, fingerprints, strict=True)
    ]


def digest_places(places: Mapping[str, str]) -> dict[str, str]:
    """Return the hash of what lies at each place, by the setting that names it; "" is no place.

    A folder has the hash of the names and the contents of its files.
    """
    return {setting: digest_place(Path(place)) for setting, place in places.items() if place}


def digest_place(path: Path) -> str:
    """Return the hash of a file, or of all files below a folder; nothing has one too."""
    if path.is_file():
        return file_digest(path)
    digest = xxhash.xxh3_128()
    for file in sorted(each for each in path.rglob("*") if is_content(each)):
        digest.update(f"{file.relative_to(path)}\0{file_digest(file)}\n".encode())
    return digest.hexdigest()


def is_content(path: Path) -> bool:
    """Return whether a path is a file that a user put there: looking at a folder may add others."""
    return path.is_file() and not is_side_file(path.name)


def require_same_files(record: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Raise `IntegrityError` when a file that settings name is not what the run was made with."""
    for setting, digest in digest_places(places).items():
        if record["files"].get(setting) != digest:
            raise IntegrityError(
                f"{places[setting]} ({setting}) has changed since the run was made with it: put "
                "back what it was, or train again into another --out"
            )
