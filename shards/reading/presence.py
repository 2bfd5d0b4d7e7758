"""Whether a dataset has all its files, with their sizes, and no shard beside them."""

from pathlib import Path

from aalbert.common.files import is_side_file
from aalbert.errors import IntegrityError
from aalbert.shards.format.manifest import FileRecord, SplitRecord


def check_split(folder: Path, split: SplitRecord) -> None:
    """Raise `IntegrityError` unless a split has all its files, with their sizes, and no others."""
    for record in (split.index, split.statistics, *split.shards):
        check_size(folder, record)
    recorded = {folder / shard.path for shard in split.shards}
    for parent in sorted({path.parent for path in recorded}):
        found = {path for path in parent.glob("*.tar") if not is_side_file(path.name)}
        extra = sorted(found - recorded)
        if extra:
            raise IntegrityError(
                f"{extra[0]} is no part of the dataset: the manifest does not record it; "
                "move it elsewhere"
            )


def check_size(folder: Path, record: FileRecord) -> Path:
    """Return the path of a file; raise `IntegrityError` when it is missing or has another size."""
    path = folder / record.path
    size = path.stat().st_size if path.is_file() else None
    if size != record.size:
        found = "is missing" if size is None else f"has {size} bytes"
        raise IntegrityError(
            f"{path} {found}, the manifest says {record.size} bytes; "
            f"restore it, or delete {folder} and prepare the data again"
        )
    return path
