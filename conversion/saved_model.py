"""The saved model that a place stands for: a checkpoint file is converted into the cache."""

from functools import cache
from pathlib import Path

from aalbert.common.files import cache_folder, file_digest
from aalbert.common.hub import find_hub_place
from aalbert.common.notes import note
from aalbert.common.redaction import redact_url
from aalbert.common.store import is_url
from aalbert.conversion.checkpoint_file import hub_origin, is_foreign, local_file
from aalbert.conversion.import_model import import_model


def as_saved(place: str) -> str:
    """Return the place of a saved model: a checkpoint file of another system is converted first.

    The result is in the cache, and a process fetches and converts a file once. Raises the errors of
    `import_model`.
    """
    if not is_foreign(place):
        return place
    if is_url(place) and find_hub_place(place) is None:
        return convert_url(place)
    return convert_file(place)


@cache
def convert_url(url: str) -> str:
    """Return the folder of a converted file at a URL."""
    return convert_file(url)


def convert_file(place: str) -> str:
    """Return the folder of a converted file; one that has changed meanwhile is converted again."""
    with local_file(place) as local:
        return convert_content(place, local, file_digest(local))


@cache
def convert_content(place: str, local: Path, digest: str) -> str:
    """Convert the file at `local`, a copy of that at `place`, into a folder named by its hash."""
    model, foreign = import_model(local, origin=hub_origin(place))
    folder = cache_folder() / "models" / digest
    model.save_pretrained(folder)
    for line in (f"converted from {foreign.layout}", *foreign.notes):
        note(f"{redact_url(place)}: {line}")
    return str(folder)
