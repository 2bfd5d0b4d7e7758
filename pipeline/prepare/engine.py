"""Who computes the shards of a `prepare`: one process, several, or a Dask cluster."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aalbert.pipeline.prepare.output import Output
    from aalbert.pipeline.prepare.plan import ShardTask
    from aalbert.pipeline.prepare.shard_task import Amount


# Called now and then with what is done so far, in all.
Show = Callable[["Amount"], None]


class Engine(Protocol):
    """Runs tasks in any order and any place; the bytes of a shard do not depend on it."""

    @property
    def workers(self) -> int:
        """How many tasks run at once."""

    def run(self, tasks: "Sequence[ShardTask]", output: "Output", show: Show) -> None:
        """Run every task, or raise what stopped one."""


def available_cores() -> int:
    """Return the cores this process may use, which under a scheduler are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
