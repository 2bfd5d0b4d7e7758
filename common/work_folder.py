"""The work folder of a job that is done in pieces: of one process at a time, and of one plan."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from aalbert.common.files import (
    is_side_file,
    remove_unfinished,
    require_empty,
    require_no_link,
    write_json,
)
from aalbert.common.json_files import read_record
from aalbert.common.locking import hold
from aalbert.common.signals import stoppable
from aalbert.errors import OutputInUseError

PLAN_NAME, LOCK_NAME = "plan.json", "lock"
Result = TypeVar("Result")


def do_once(
    work: Path,
    plan: str,
    unfinished: str,
    find: Callable[[], Result | None],
    do: Callable[[], Result],
) -> Result:
    """Return what `find` finds of finished work, or what `do` returns, which does it in `work`.

    Raises `OutputInUseError` as `hold_work` and `claim` do.
    """
    found = find()
    # A process that was killed right after its last file leaves its work folder.
    if found is not None and not work.is_dir():
        return found
    with stoppable(), hold_work(work):
        # Another process may have finished it before this one held it.
        if (found := find()) is not None:
            return found
        claim(work, plan, unfinished)
        return do()


@contextmanager
def hold_work(work: Path) -> Iterator[None]:
    """Hold the work folder `work` of an output, and remove it when the block ends.

    When the block raises it stays, for the same command to continue. Raises `OutputInUseError`
    when the output holds something without it, when another process works there, and for a link.
    """
    require_no_link(work)
    if not work.is_dir():
        require_empty(work.parent)
    with hold(work / LOCK_NAME):
        remove_unfinished(work.parent)
        yield
        remove_work(work)


def claim(work: Path, plan: str, unfinished: str) -> None:
    """Start work, or continue that of the same plan; the caller holds it.

    Raises `OutputInUseError` when the output holds other things, or `unfinished` work of another
    plan, as the error calls it.
    """
    path, out = work / PLAN_NAME, work.parent
    if path.is_file():
        if read_record(str, path, f"delete {work} and start again") != plan:
            raise OutputInUseError(
                f"{out} holds an unfinished {unfinished}: choose another --out, or delete it first"
            )
        return
    if not all(each == work or is_side_file(each.name) for each in out.iterdir()):
        raise OutputInUseError(f"{out} is not empty: choose another --out")
    write_json(path, plan)


def remove_work(work: Path) -> None:
    """Remove a work folder that is held: the plan after all that belongs to it, the lock last."""
    last = (work / PLAN_NAME, work / LOCK_NAME)
    for path in (*(each for each in list(work.iterdir()) if each not in last), *last):
        path.unlink(missing_ok=True)
    # Another process may have come for its turn.
    with suppress(OSError):
        work.rmdir()
