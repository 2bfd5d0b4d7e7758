"""The device and the number of threads that a command computes with."""

import os
from typing import Annotated

import typer

from aalbert.commands.help import RUNNING
from aalbert.common.cores import available_cores, busy_cores, idle_threads
from aalbert.common.notes import detail, note

ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="Threads to compute with; by default as many as cores are idle, or OMP_NUM_THREADS.",
        min=1,
        rich_help_panel=RUNNING,
    ),
]

DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1 and so on; a GPU by default, if there is one.",
        rich_help_panel=RUNNING,
    ),
]


def use_machine(device: str | None, threads: int | None, *, of_run: int | None = None) -> None:
    """Compute on a device, with so many threads; see `use_threads`."""
    from aalbert.models.device import use_device

    used = use_device(device)
    use_threads(threads, of_run=of_run)
    detail(f"device: {used}, {describe_threads()}")


def describe_threads() -> str:
    """Return how many threads compute."""
    import torch

    count = torch.get_num_threads()
    return "1 thread" if count == 1 else f"{count} threads"


def use_threads(threads: int | None, *, of_run: int | None = None) -> None:
    """Compute with so many threads; by default with those of the run that is continued.

    Otherwise OMP_NUM_THREADS decides, or as many are used as cores are idle: the threads of two
    processes on the same cores wait for one another. Says so when these are not all.
    """
    import torch

    threads = threads or of_run
    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        cores, busy = available_cores(), busy_cores()
        threads = idle_threads(cores, busy)
        if threads < cores:
            note(
                f"note: {busy:.1f} of {cores} cores are busy, so threads: {threads}; --threads "
                "sets another number",
            )
    if threads is not None:
        torch.set_num_threads(threads)
