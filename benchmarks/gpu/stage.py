"""A stage as a process of its own: `python -m benchmarks.gpu.stage MODULE < CONTEXT`."""

import gc
import sys
from importlib import import_module

from benchmarks.gpu.context import Context


def main() -> None:
    """Import the module of a stage, then read the context and run it on the device named there."""
    [module] = sys.argv[1:]
    stage = import_module(module)
    # What was imported stays, and is half a second of every collection that a stage asks for.
    gc.freeze()
    context = Context.from_json(sys.stdin.read())
    if context.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            sys.exit(f"torch {torch.__version__} sees no GPU: use --device cpu to rehearse")
    stage.run(context)


if __name__ == "__main__":
    main()
