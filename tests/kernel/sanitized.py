"""A pytest plugin: the tests of its session take the kernel from the file in `SANITIZED_KERNEL`."""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType

import pytest

NAME = "aalbert.kernel.native"


class Finder:
    """Finds the kernel, and nothing else."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != NAME:
            return None
        file = os.environ["SANITIZED_KERNEL"]
        return spec_from_file_location(name, file, loader=ExtensionFileLoader(name, file))


sys.meta_path.insert(0, Finder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"kernel: {sys.modules[NAME].__file__}")
