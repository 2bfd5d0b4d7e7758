"""Several processes as one run: who this one is, what all agree on, and who is missing.

`torchrun` and `srun` start the processes; each takes its share of every step. What they tell
each other about the run itself goes over a group of its own on the CPU: it waits for no GPU.
"""

import datetime
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from aalbert.errors import ConfigError, LostRankError

# How long ranks wait to hear why another one has left.
GRACE_S = 10.0
# What PyTorch says when another rank is gone, which is never the cause.
CONSEQUENCE = re.compile(
    r"gloo|nccl|connection (closed|reset|refused)|broken pipe|timed? ?out|peer|socket",
    re.IGNORECASE,
)


@dataclass
class Ranks:
    """The place of this process among those of a run: `rank` of `size`, on one of `nodes`."""

    rank: int = 0
    size: int = 1
    nodes: int = 1
    timeout_s: float = 60.0
    environment: ClusterEnvironment = field(default_factory=LightningEnvironment)
    names: list[str] = field(default_factory=list)
    _group: Any = None
    _store: TCPStore | None = None

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def join(self) -> None:
        """Meet the others; PyTorch's process group has been made by now."""
        if self.size == 1 or self._group is not None:
            return
        timeout = datetime.timedelta(seconds=self.timeout_s)
        self._group = dist.new_group(backend="gloo", timeout=timeout)
        self.names = self.gather(f"rank {self.rank} ({platform.node()}, process {os.getpid()})")
        host = self.environment.main_address
        port = 0
        if self.first:
            self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
            port = self._store.port
        port = self.gather(port)[0]
        if not self.first:
            self._store = TCPStore(host, port, is_master=False, timeout=timeout)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def total(self, *values: float) -> list[float]:
        """Return the sums over all ranks."""
        return [sum(column) for column in zip(*self.gather(values), strict=True)]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank."""
        return any(self.gather(flag))

    def share(self, batches: int) -> int:
        """Return how many of a step's batches each rank takes; `ConfigError` when it is uneven."""
        if batches % self.size:
            raise ConfigError(
                f"batches_per_step {batches} cannot be shared by {self.size} ranks: set it to a "
                f"multiple of {self.size} (and data.batch_seconds lower, for as much audio a step)"
            )
        return batches // self.size

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Raise `ConfigError`, naming the rank and the fact, unless all ranks state the same."""
        stated = self.gather(dict(facts))
        for rank, theirs in enumerate(stated[1:], start=1):
            for name, expected in stated[0].items():
                if theirs[name] != expected:
                    raise ConfigError(
                        f"{self.names[rank]} has {name} {theirs[name]}, rank 0 has {expected}: "
                        "start all ranks with the same command, data and version"
                    )

    def leave(self) -> None:
        """Part from the others, when all have done their work."""
        if self._group is not None:
            dist.destroy_process_group()
            self._group = self._store = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run a block that all ranks run: when one fails, the others say which, and end.

        Raises `LostRankError` on a rank whose own work was fine.
        """
        try:
            yield
        except Exception as error:
            if self._store is None:
                raise
            missing = self._report(error)
            if missing:
                raise LostRankError(f"{missing}; continue with --resume") from error
            raise

    def _report(self, error: Exception) -> str:
        """Tell the others why this rank ends; return who left it in the lurch, or nothing."""
        assert self._store is not None
        own_fault = not (isinstance(error, RuntimeError) and CONSEQUENCE.search(str(error)))
        try:
            self._store.set(f"ended/{self.rank}", str(error) if own_fault else "")
            if own_fault:
                # Closes the connections, so that the others need not wait for their time-out.
                dist.destroy_process_group()
            # The first rank keeps the store, so it stays until the others have read it.
            heard = self._hear(range(self.size)) if self.first or not own_fault else {}
        except (RuntimeError, dist.DistError):
            heard = {}
        return "" if own_fault else describe_loss(heard, self.names, self.rank)

    def _hear(self, ranks: Sequence[int]) -> dict[int, str]:
        """Return what ranks said on their way out; those that say nothing in time are left out."""
        assert self._store is not None
        deadline = time.monotonic() + GRACE_S
        heard: dict[int, str] = {}
        while len(heard) < len(ranks) and time.monotonic() < deadline:
            for rank in set(ranks) - heard.keys():
                if self._store.check([f"ended/{rank}"]):
                    heard[rank] = self._store.get(f"ended/{rank}").decode()
            time.sleep(0.05)
        return heard


def describe_loss(reasons: Mapping[int, str], names: Sequence[str], own: int) -> str:
    """Say which ranks ended the run and why, from what each said on its way out."""
    if not reasons:
        return f"{names[0]} left the run without a word: it was killed, or its machine is gone"
    causes = [f"{names[rank]} ended: {reason}" for rank, reason in reasons.items() if reason]
    silent = [name for rank, name in enumerate(names) if rank not in reasons and rank != own]
    if causes:
        return "; ".join(causes)
    if silent:
        return f"{', '.join(silent)} left the run without a word: killed, hanging, or cut off"
    return "the connection between the ranks broke"


def find_ranks(timeout_s: float = 60.0) -> Ranks:
    """Return the place of this process, as `torchrun` or `srun` has put it into the environment."""
    environment: ClusterEnvironment
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
        local = int(os.environ["LOCAL_WORLD_SIZE"])
    elif SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1:
        environment = SLURMEnvironment(auto_requeue=False)
        local = environment.world_size() // int(os.environ["SLURM_NNODES"])
    else:
        return Ranks()
    size = environment.world_size()
    return Ranks(environment.global_rank(), size, size // local, timeout_s, environment)
