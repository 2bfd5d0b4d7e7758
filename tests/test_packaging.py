import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("commands", "common", "conversion", "kernel", "pipeline", "shards", "models", "train")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_with_code_is_in_the_wheel() -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("__init__.py")}
    names = {".".join(("aalbert", *path.relative_to(ROOT).parts)) for path in folders}
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == {"aalbert", *names}


def test_every_template_and_preset_is_in_the_wheel(tmp_path: Path) -> None:
    """What `build_py` copies is what a wheel holds besides the extension."""
    script = ["-c", "from setuptools import setup; setup()"]
    build = [sys.executable, *script, "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    endings = ("*.html", "*.css", "*.js", "*.yaml", "*.pyi")
    data = {path for room in ROOMS for end in endings for path in (ROOT / room).rglob(end)}
    wheel = tmp_path / "aalbert"
    built = {path for path in wheel.rglob("*") if path.suffix not in ("", ".py")}
    expected = {path.relative_to(ROOT) for path in data} | {Path("py.typed")}
    assert {path.relative_to(wheel) for path in built} == expected
    assert {path.suffix for path in expected} == {".html", ".css", ".js", ".yaml", ".pyi", ".typed"}


def test_every_c_file_is_part_of_the_extension() -> None:
    [module] = SETTINGS["tool"]["setuptools"]["ext-modules"]
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "kernel").glob("*.[ch]")}
    assert {*module["sources"], *module["depends"]} == files


def test_every_module_is_linked_for_type_checkers() -> None:
    modules = {path.name for path in ROOT.glob("*.py")} | {*ROOMS, "py.typed"}
    links = {path.name: path for path in (ROOT / "typings" / "aalbert").iterdir()}
    assert modules == set(links)
    assert all(path.resolve() == ROOT / name for name, path in links.items())


@pytest.mark.parametrize(
    "lock", ["bootstrap", "runtime", "dev", "bench", "s3prl", "docs", "release"]
)
def test_the_lock_pins_and_hashes_everything_and_names_no_host(lock: str) -> None:
    text = (ROOT / "lock" / f"{lock}.txt").read_text()
    requirements = re.split(r"\n(?=\S)", text.strip())
    assert all("==" in line and "--hash=sha256:" in line for line in requirements)
    assert "://" not in text and "--index" not in text and "--extra-index" not in text


def test_make_lists_every_target_in_a_column() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert targets is not None
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line for line in listed.splitlines() if line.startswith("  make ")]
    assert sorted(line.split()[1] for line in lines) == sorted(targets[1].split())
    assert {len(re.match(r"  make \S+ +", line)[0]) for line in lines} == {24}  # type: ignore[index]


def test_the_lock_has_the_versions_that_were_tested() -> None:
    text = (ROOT / "lock" / "runtime.txt").read_text()
    assert re.search(r"^torch==2\.11\.0 ", text, re.M)
    assert re.search(r"^torchaudio==2\.11\.0 ", text, re.M)


def test_no_file_is_over_its_size() -> None:
    """DESIGN: a file has at most 350 lines."""
    endings = ("*.py", "*.pyi", "*.c", "*.h")
    rooms = [path for room in ROOMS for end in endings for path in (ROOT / room).rglob(end)]
    files = [*ROOT.glob("*.py"), *rooms]
    assert [path for path in files if len(path.read_text().splitlines()) > 350] == []


def test_the_command_line_starts_without_heavy_packages() -> None:
    heavy = [
        "torch",
        "numpy",
        "pyarrow",
        "pytorch_lightning",
        "matplotlib",
        "jinja2",
        "pydantic",
        "soundfile",
    ]
    code = f"import sys, aalbert.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
