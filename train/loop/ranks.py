"""Several processes as one run: the rank of this one, what all agree on, and failed ranks.

`torchrun` and `srun` start the processes; each takes its part of every step. They exchange values
about the run itself in a process group of its own on the CPU, which waits for no GPU.
"""

import datetime
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
import xxhash
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from aalbert.common.configuration import to_yaml
from aalbert.errors import ConfigError, LostRankError

# How long ranks wait for the others to report why they ended.
GRACE_S = 10.0
# How long an answer of the first rank may take after that.
ANSWER_S = 2.0
# What PyTorch reports when another rank has ended, which is never the cause.
CONSEQUENCE = re.compile(
    r"gloo|nccl|connection (closed|reset|refused)|broken pipe|timed? ?out|peer|socket",
    re.IGNORECASE,
)
NETWORK_ERRORS = (dist.DistNetworkError, dist.DistStoreError)
# How often ranks that wait for the first one ask whether it has done its work.
ASK_S = 0.02
Result = TypeVar("Result")


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
    _works: int = 0

    @property
    def first(self) -> bool:
        """True on the rank that writes files."""
        return self.rank == 0

    def join(self) -> None:
        """Connect to the other ranks, once PyTorch's own process group has been made."""
        if self.size > 1 and self._group is None:
            self.in_time(self._join)

    def in_time(self, ask: Callable[[], Result]) -> Result:
        """Return what `ask` gets of the first rank.

        Raises its error, or `DistNetworkError` if it hangs.

        PyTorch waits without end for a first rank that was stopped or cut off after it began to
        listen, so that wait is left to a thread which may last for ever.
        """
        answers: list[Result] = []
        failures: list[Exception] = []

        def attempt() -> None:
            try:
                answers.append(ask())
            except Exception as error:  # whatever it is, it is raised below
                failures.append(error)

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        # Where PyTorch has a limit, it is `timeout_s`, and its error says more.
        thread.join(self.timeout_s + GRACE_S)
        if failures:
            raise failures[0]
        if not answers:
            raise dist.DistNetworkError("the first rank listens, and does not answer")
        return answers[0]

    def _join(self) -> None:
        """Make the group for values about the run, and the store for the reasons of an end."""
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
        """Return the values of all ranks, in the order of the ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def total(self, *values: float) -> list[float]:
        """Return the sum of each value over all ranks."""
        return [sum(column) for column in zip(*self.gather(values), strict=True)]

    def from_first(self, work: Callable[[], Result]) -> Result:
        """Return what `work` returns on the first rank, for which the others wait, however long.

        Raises `DistNetworkError` on the others when the first one ends, or is stopped or cut off,
        before it has done the work.
        """
        if self.size == 1:
            return work()
        store = self._store
        assert store is not None
        self._works += 1
        done = f"done/{self._works}"
        result: Any = None
        if self.first:
            result = work()
            store.set(done, "")
        else:
            # Not in an operation of the group, which may take `timeout_s` only.
            while not self.in_time(lambda: store.check([done])):
                if self.in_time(lambda: store.check(["ended/0"])):
                    raise dist.DistNetworkError("the first rank ended")
                time.sleep(ASK_S)
        answer: Result = self.gather(result)[0]
        return answer

    def share(self, batches: int) -> int:
        """Return the number of a step's batches for each rank; `ConfigError` if it is uneven."""
        if batches % self.size:
            raise ConfigError(
                f"batches_per_step {batches} cannot be shared by {self.size} ranks: set it to a "
                f"multiple of {self.size} (and batch_seconds lower, for as much audio a step)"
            )
        return batches // self.size

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Raise `ConfigError` with the rank and the name of a fact that differs between ranks."""
        stated = self.gather(dict(facts))
        for rank, theirs in enumerate(stated[1:], start=1):
            for name, expected in stated[0].items():
                if theirs[name] != expected:
                    raise ConfigError(
                        f"{self.names[rank]} has {name} {theirs[name]}, rank 0 has {expected}: "
                        "start all ranks with the same command, data and version"
                    )

    def leave(self) -> None:
        """Disconnect from the other ranks, after all have done their work."""
        if self._group is not None:
            dist.destroy_process_group()
            self._group = self._store = None

    @contextmanager
    def reporting_failures(self) -> Iterator[None]:
        """Run a block that all ranks run: if one fails, the others report which one, and end.

        Raises `LostRankError` on a rank that ends because of another one.
        """
        try:
            yield
        except Exception as error:
            if self._store is None:
                if self.size > 1 and is_consequence(error):
                    raise LostRankError(
                        f"rank {self.rank} does not reach all other ranks: one of the {self.size} "
                        "was killed, or not started; start all again, with --resume if there is "
                        "a run"
                    ) from error
                raise
            failure = self._exchange_reasons(error)
            if failure:
                raise LostRankError(f"{failure}; continue with --resume") from error
            raise

    def _exchange_reasons(self, error: Exception) -> str:
        """Publish why this rank ends; return which others failed, or "" if this one did.

        That is left to a thread, which a first rank that is stopped or cut off, and so does not
        answer, keeps for ever.
        """
        own_fault = not is_consequence(error)
        reasons: dict[int, str] = {}

        def exchange() -> None:
            assert self._store is not None
            with suppress(RuntimeError):  # the first rank, which hosts the store, has ended
                self._store.set(f"ended/{self.rank}", str(error) if own_fault else "")
                if own_fault:
                    # Closes the connections, so that the others need not wait for their time-out.
                    dist.destroy_process_group()
                # The first rank stays until the others have read the store.
                if self.first or not own_fault:
                    self._read_reasons(self._store, reasons)

        thread = threading.Thread(target=exchange, daemon=True)
        thread.start()
        thread.join(GRACE_S + ANSWER_S)
        said = str(error).partition("\n")[0]
        return "" if own_fault else describe_failure(dict(reasons), self.names, self.rank, said)

    def _read_reasons(self, store: TCPStore, reasons: dict[int, str]) -> None:
        """Read the reasons that ranks publish, until there are all or it is time."""
        deadline = time.monotonic() + GRACE_S
        while len(reasons) < self.size and time.monotonic() < deadline:
            for rank in set(range(self.size)) - reasons.keys():
                if store.check([f"ended/{rank}"]):
                    reasons[rank] = store.get(f"ended/{rank}").decode()
            time.sleep(0.05)


class JoinRanks(Callback):
    """Connects the ranks before the first step, and raises `ConfigError` if their facts differ.

    They then call `on_joined`: all have read the files of the run by now.
    """

    def __init__(
        self,
        ranks: Ranks,
        facts: Mapping[str, Any],
        on_joined: Callable[[], None] | None = None,
    ) -> None:
        self.ranks = ranks
        self.facts = facts
        self.on_joined = on_joined

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Connect the ranks and compare their facts."""
        self.ranks.join()
        self.ranks.require_same(self.facts)
        if self.on_joined is not None:
            self.on_joined()


def common_facts(
    config: Any, fingerprints: Sequence[str], state: Path | None, weights: str | None
) -> dict[str, Any]:
    """Return the facts that must be the same on all ranks, by their names in the error.

    `weights` are the hash of those that the run begins with, if there are any.
    """
    return {
        "aalbert": version("aalbert"),
        "torch": version("torch"),
        "data fingerprint": list(fingerprints),
        "settings": xxhash.xxh3_64_hexdigest(to_yaml(config).encode()),
        "checkpoint": state.name if state else "none",
        "weights to begin with": weights or "none",
    }


def is_consequence(error: Exception) -> bool:
    """Return whether an error is what PyTorch reports when another rank has ended."""
    if isinstance(error, NETWORK_ERRORS):
        return True
    return isinstance(error, RuntimeError) and CONSEQUENCE.search(str(error)) is not None


def describe_failure(reasons: Mapping[int, str], names: Sequence[str], own: int, said: str) -> str:
    """Return which ranks ended the run and why, from the reasons that ranks published.

    Without one, it is what PyTorch `said` on this rank, such as that the others took too long.
    """
    if not reasons:
        return f"{names[0]} ended without a message: it was killed, or its machine is gone"
    causes = [f"{names[rank]} ended: {reason}" for rank, reason in reasons.items() if reason]
    silent = [name for rank, name in enumerate(names) if rank not in reasons and rank != own]
    if causes:
        return "; ".join(causes)
    if silent:
        return f"{', '.join(silent)} ended without a message: killed, hanging, or disconnected"
    return f"the connection between the ranks broke ({said})"


def find_ranks(timeout_s: float = 60.0) -> Ranks:
    """Return the place of this process, from the environment that `torchrun` or `srun` sets."""
    environment: ClusterEnvironment
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
        local = int(os.environ["LOCAL_WORLD_SIZE"])
    elif SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1:
        # Lightning wants what only the option --ntasks-per-node sets, for the whole job; `srun` may
        # start fewer.
        local = slurm_tasks_per_node()
        os.environ["SLURM_NTASKS_PER_NODE"] = str(local)
        environment = SLURMEnvironment(auto_requeue=False)
        os.environ["SLURM_NNODES"] = str(environment.world_size() // local)
    else:
        return Ranks()
    size = environment.world_size()
    return Ranks(environment.global_rank(), size, size // local, timeout_s, environment)


def slurm_tasks_per_node() -> int:
    """Return how many processes `srun` started on every node, written as `2`, `2(x3)` or `2,1`.

    Raises `ConfigError` when nodes have different numbers, which Lightning cannot train with.
    """
    names = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
    text = next((os.environ[name] for name in names if name in os.environ), "")
    found = {part.partition("(")[0] for part in text.split(",")}
    if len(found) != 1 or not text[:1].isdigit():
        raise ConfigError(
            f"SLURM starts '{text}' tasks on the nodes of this job: every node needs as many, ask "
            "for them with --ntasks-per-node"
        )
    return int(found.pop())
