"""A board in shared memory on which worker processes note what they have done, file by file."""

from multiprocessing.context import SpawnContext

from aalbert.pipeline.prepare.shard_task import Amount


class InterruptedTaskError(Exception):
    """The run is being stopped, so this shard is given up; what it wrote is removed."""


class Board:
    """One row per worker: files taken, files skipped, seconds of audio of its present shard.

    Each worker writes its own row and the parent reads them all, so rows need no lock:
    a sum that is read while a row changes is at most one file behind.
    """

    def __init__(self, context: SpawnContext, workers: int) -> None:
        self._numbers = context.RawArray("d", 3 * workers)
        self._interrupted = context.RawValue("b", 0)

    def add(self, slot: int, amount: Amount) -> None:
        """Note progress; `InterruptedTaskError` when the parent wants the work to end."""
        self._numbers[3 * slot] += amount.taken
        self._numbers[3 * slot + 1] += amount.skipped
        self._numbers[3 * slot + 2] += amount.seconds
        if self._interrupted.value:
            raise InterruptedTaskError

    def clear(self, slot: int) -> None:
        """Begin the row of a worker anew."""
        self._numbers[3 * slot : 3 * slot + 3] = [0, 0, 0]

    def total(self) -> Amount:
        """Return what all present shards have come to."""
        return Amount(
            taken=round(sum(self._numbers[0::3])),
            skipped=round(sum(self._numbers[1::3])),
            seconds=sum(self._numbers[2::3]),
        )

    def interrupt(self) -> None:
        """Ask every worker to give up its shard after the file at hand."""
        self._interrupted.value = 1
