"""Checkpoint files of other systems: what is one, and its bytes on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from aalbert.common.hub import CHECKPOINT_SUFFIXES, fetch, find_hub_place
from aalbert.common.redaction import redact_url
from aalbert.common.store import Store, is_url
from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.models.checkpoint import lasting_name
from aalbert.models.training_states import find_state


def is_foreign(place: Path | str) -> bool:
    """Return whether a place is a checkpoint file of another system, not a folder."""
    if (hub_place := find_hub_place(place)) is not None:
        return bool(hub_place.file)
    if is_url(place):
        return split_query(str(place))[0].endswith(CHECKPOINT_SUFFIXES)
    return Path(place).is_file() and find_state(place) is None


@contextmanager
def local_file(place: Path | str) -> Iterator[Path]:
    """Yield the path of a file at a path or a URL, or on the hub: a copy of it for the block.

    An error of the block that names the copy of a file at a URL names the URL instead.
    """
    if (hub_place := find_hub_place(place)) is not None:
        yield fetch(hub_place, hub_place.file)
    elif is_url(place):
        path, query = split_query(str(place))
        parent, _, name = path.rpartition("/")
        with TemporaryDirectory() as folder:
            copy = Path(folder) / name
            Store(parent).get(name + query, copy)
            try:
                yield copy
            except (InputError, IntegrityError, ConfigError) as error:
                raise type(error)(str(error).replace(str(copy), redact_url(str(place)))) from error
    else:
        yield Path(place)


def split_query(url: str) -> tuple[str, str]:
    """Return a URL without its query, such as a signature, and the query with its `?`."""
    path, mark, query = url.partition("?")
    return path, mark + query


def hub_origin(source: str) -> str:
    """Return the place of a file on the hub, with its commit; empty for one from elsewhere."""
    return str(lasting_name(source)) if find_hub_place(source) is not None else ""
