"""Child processes that import what this process does, and nothing that lies in the current folder.

Python runs `python -c` with the current folder first among those that it imports from, and a shared
or downloaded folder may hold a file named as a module.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# As the option -P; `multiprocessing` has no way to give one.
SAFE_PATH = "PYTHONSAFEPATH"
PACKAGE = Path(__file__).parents[1]
environment = threading.RLock()


@contextmanager
def isolated_children() -> Iterator[None]:
    """Start processes of `multiprocessing`, and its resource tracker, isolated in this block.

    A worker then sets the import path of its parent, as `multiprocessing` always does.
    """
    with environment:
        before = os.environ.get(SAFE_PATH)
        os.environ[SAFE_PATH] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[SAFE_PATH]
            else:
                os.environ[SAFE_PATH] = before


def import_path() -> list[str]:
    """Return the folders that a child imports from: those of this process, but the current one.

    A notebook has the current folder first. A checkout of this package may lie there, so the folder
    of the package comes last, after those with the modules that everything needs.
    """
    folders = [folder for folder in sys.path if folder]
    if PACKAGE.name == "aalbert" and str(PACKAGE.parent) not in folders:
        folders.append(str(PACKAGE.parent))
    return folders
