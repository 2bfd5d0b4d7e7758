"""Attempts of which each may fail without ending the stage."""

import gc
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.gpu.context import Context


class Attempts:
    """The attempts of a stage; those that failed are written, and end it when all are done."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.failed: list[str] = []

    @contextmanager
    def attempt(self, **labels: str) -> Iterator[None]:
        """Print and write an exception of the block, and free what it held of the GPU."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.failed.append(", ".join(labels.values()))
            text = f"{type(error).__name__}: {error}"
            self.context.write(kind="failure", **labels, error=text)
        # The exception holds the frames of the stack, and these their tensors, until here.
        gc.collect()
        torch.cuda.empty_cache()

    def end(self) -> None:
        """End the stage as failed if an attempt did."""
        if self.failed:
            sys.exit(f"{len(self.failed)} failed: {'; '.join(self.failed)}")
