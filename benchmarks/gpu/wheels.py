"""Packages from a folder of wheels, for a machine without a network.

Only the standard library is used, and pip.
"""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def missing_wheels(folder: Path) -> list[Path]:
    """Return the wheels of a folder whose package is not installed, whatever its version."""
    return [wheel for wheel in sorted(folder.glob("*.whl")) if not is_installed(name_of(wheel))]


def name_of(wheel: Path) -> str:
    """Return the name of the package in a wheel, which its file name begins with."""
    return wheel.name.partition("-")[0]


def is_installed(name: str) -> bool:
    """Return whether a package of this name is installed."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def install(wheels: list[Path], site: Path) -> None:
    """Install wheels into a folder of their own, without a network and without what they need.

    Raises `subprocess.CalledProcessError` when pip fails.
    """
    options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--quiet"]
    command = [sys.executable, "-P", "-m", "pip", "install", *options, "--target", str(site)]
    subprocess.run([*command, *map(str, wheels)], check=True)
