"""Checkpoint files of other systems: what is one, and its bytes on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from aalbert.common.hub import CHECKPOINT_SUFFIXES, fetch, find_hub_place
from aalbert.common.store import Store, is_url
from aalbert.models.checkpoint import lasting_name
from aalbert.models.training_states import find_state


def is_foreign(place: Path | str) -> bool:
    """Return whether a place is a checkpoint file of another system, not a folder."""
    if (hub_place := find_hub_place(place)) is not None:
        return bool(hub_place.file)
    if is_url(place):
        return str(place).endswith(CHECKPOINT_SUFFIXES)
    return Path(place).is_file() and find_state(place) is None


@contextmanager
def local_file(place: Path | str) -> Iterator[Path]:
    """Yield the path of a file at a path or a URL, or on the hub: a copy of it for the block."""
    if (hub_place := find_hub_place(place)) is not None:
        yield fetch(hub_place, hub_place.file)
    elif is_url(place):
        parent, _, name = str(place).rpartition("/")
        with TemporaryDirectory() as folder:
            Store(parent).get(name, Path(folder) / name)
            yield Path(folder) / name
    else:
        yield Path(place)


def hub_origin(source: str) -> str:
    """Return the place of a file on the hub, with its commit; empty for one from elsewhere."""
    return str(lasting_name(source)) if find_hub_place(source) is not None else ""
