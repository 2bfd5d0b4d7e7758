"""A stage as a process of its own: `python -m benchmarks.gpu.stage MODULE CONTEXT`."""

import sys
from importlib import import_module

from benchmarks.gpu.context import Context


def main() -> None:
    """Run the stage of a module on the device that the context names."""
    module, text = sys.argv[1:]
    context = Context.from_json(text)
    stage = import_module(module)
    if context.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            sys.exit(f"torch {torch.__version__} sees no GPU: use --device cpu to rehearse")
    stage.run(context)


if __name__ == "__main__":
    main()
