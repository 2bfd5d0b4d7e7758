"""The meeting of all ranks before the first step."""

from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from aalbert.train.loop.ranks import Ranks


class Meeting(Callback):
    """Meets the other ranks before the first step, and refuses to go on if they differ.

    What the first rank does `then` finds all of them past reading the files of the run.
    """

    def __init__(
        self,
        ranks: Ranks,
        facts: Mapping[str, Any],
        then: Callable[[], None] = lambda: None,
    ) -> None:
        self.ranks = ranks
        self.facts = facts
        self.then = then

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the facts of all ranks."""
        self.ranks.join()
        self.ranks.require_same(self.facts)
        if self.ranks.first:
            self.then()
