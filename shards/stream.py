"""A loader's epochs one after another, as a trainer that counts steps needs them."""

from collections.abc import Iterator

from aalbert.shards.loading.batch import Batch
from aalbert.shards.loading.loader import Loader


class Stream:
    """A loader's epochs one after another, until `steps` batches have been given.

    Its length is `steps` and its state travels with a checkpoint; it counts the batches of all
    ranks, so that it can be loaded by another number of them.
    """

    def __init__(self, loader: Loader, steps: int) -> None:
        self.loader = loader
        self.steps = steps
        self.taken = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches that are left."""
        while self.taken < self.steps:
            for batch in self.loader:
                self.taken += 1
                yield batch
                if self.taken == self.steps:
                    return

    def state_dict(self) -> dict[str, int | str]:
        """Return how many batches all ranks were given, and where the loader is."""
        return {"taken": self.taken * self.loader.world_size, **self.loader.state_dict()}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Go on from where another stream of the same loader was."""
        self.loader.load_state_dict(state)
        self.taken = int(state["taken"]) // self.loader.world_size
