"""The kernel's tests on a kernel that is built to notice every access outside its memory.

The sanitizers of GCC or Clang end the process at the first one, and at arithmetic that C leaves
undefined.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "kernel" / name for name in ("native.c", "variants.c")]
FLAGS = (
    *("-shared", "-fPIC", "-std=c11", "-O1", "-g", "-ffp-contract=off"),
    *("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"),
)
TESTS = ("tests/kernel/test_native.py", "tests/pipeline/audio/test_features.py")
# What each sanitizer must notice, or the test above would prove nothing.
FAULTS = {
    "heap-buffer-overflow": "char *p = malloc(n); p[n] = 1; int r = p[0]; free(p); return r;",
    "signed integer overflow": "return 2147483647 / 8 * n + 2147483647;",
    "outside the range of representable values": "return (int)(1e30 * n);",
}


@pytest.fixture(scope="module")
def compiler() -> str:
    """A compiler with sanitizers whose library can be loaded before Python."""
    found = shutil.which("gcc") or shutil.which("clang")
    if found is None or not sys.platform.startswith("linux"):
        pytest.skip("needs gcc or clang on Linux")
    return found


def build(compiler: str, sources: list[Path], out: Path) -> Path:
    include = f"-I{sysconfig.get_paths()['include']}"
    made = subprocess.run(
        [compiler, *FLAGS, include, *map(str, sources), "-o", str(out)],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    return out


def run_python(compiler: str, *arguments: str, kernel: Path) -> "subprocess.CompletedProcess[str]":
    """Run Python with the sanitizers' library, without which no sanitized code can be loaded."""
    asan = "libasan.so" if "gcc" in compiler else "libclang_rt.asan-x86_64.so"
    # That of C++ too, or the first exception there finds the sanitizer without it.
    libraries = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in (asan, "libstdc++.so.6")
    ]
    environment = {
        **os.environ,
        "LD_PRELOAD": ":".join(libraries),
        # Python itself leaves memory to the system.
        "ASAN_OPTIONS": "detect_leaks=0",
        "OMP_NUM_THREADS": "1",
        "SANITIZED_KERNEL": str(kernel),
    }
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment
    )


def test_the_kernel_stays_within_its_memory_and_the_rules_of_c(
    compiler: str, tmp_path: Path
) -> None:
    kernel = build(compiler, SOURCES, tmp_path / "native.abi3.so")
    plugin = ("-p", "tests.kernel.sanitized", "-p", "no:cacheprovider", "-p", "no:xdist")
    ran = run_python(compiler, "-m", "pytest", "-q", *plugin, *TESTS, kernel=kernel)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert f"kernel: {kernel}" in ran.stdout
    assert "runtime error" not in ran.stderr and "AddressSanitizer" not in ran.stderr


@pytest.mark.parametrize("said", FAULTS)
def test_a_fault_in_c_would_be_noticed(compiler: str, tmp_path: Path, said: str) -> None:
    source = tmp_path / "fault.c"
    source.write_text(f"#include <stdlib.h>\nint fault(int n) {{ {FAULTS[said]} }}\n")
    library = build(compiler, [source], tmp_path / "fault.so")
    call = f"import ctypes; ctypes.CDLL({str(library)!r}).fault(8)"
    ran = run_python(compiler, "-c", call, kernel=library)
    assert ran.returncode != 0 and said in ran.stderr
