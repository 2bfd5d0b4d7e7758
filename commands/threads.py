"""The number of threads that a command computes with on a processor."""

import os
import sys
from typing import Annotated

import typer

from aalbert.common.cores import available_cores, busy_cores, idle_threads

ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="Threads to compute with; by default as many as cores are idle, or OMP_NUM_THREADS.",
        min=1,
    ),
]


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
            print(
                f"note: {busy:.1f} of {cores} cores are busy, so threads: {threads}; --threads "
                "sets another number",
                file=sys.stderr,
            )
    if threads is not None:
        torch.set_num_threads(threads)
