"""The stage `machine`: software, hardware, and its own peaks, which the other figures stand beside.

The peaks are measured: products of matrices, and copies within the device and to it.
"""

import os
import platform
import shutil
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch

from benchmarks.gpu.context import Context

PACKAGES = (
    *("aalbert", "torch", "torchaudio", "triton", "pytorch-lightning", "numpy", "pyarrow"),
    *("webdataset", "soundfile", "safetensors", "pydantic", "xxhash"),
)
# Of matrices and of copies; on a CPU so small that it takes no time.
MATRIX_SIZE, COPY_BYTES = {"cuda": 8192, "cpu": 128}, {"cuda": 2**31, "cpu": 2**24}
REPEATS = 10


def run(context: Context) -> None:
    """Write versions, the hardware, and the speed of products and copies."""
    device = torch.device(context.device)
    context.write(kind="versions", python=platform.python_version(), **versions())
    context.write(kind="hardware", **hardware(device))
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        size = MATRIX_SIZE[context.device]
        left, right = torch.randn(2, size, size, device=device).to(dtype)
        seconds = fastest_s(partial(torch.matmul, left, right), device)
        context.write(
            kind="product",
            type=str(dtype).removeprefix("torch."),
            size=size,
            tera_flops=round(2 * size**3 / seconds / 1e12, 3),
        )
    for name, copy in copies(device, COPY_BYTES[context.device]).items():
        # Within a device every byte is read and written.
        count = COPY_BYTES[context.device] * (2 if name == "within the device" else 1)
        context.write(
            kind="copy", copy=name, gb_per_s=round(count / fastest_s(copy, device) / 1e9, 2)
        )


def versions() -> dict[str, str | None]:
    """Return the versions of packages; None for one that is missing."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def hardware(device: torch.device) -> dict[str, object]:
    """Return the device, the processor, and what can be compiled."""
    found: dict[str, object] = {
        "device": "CPU",
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "dev_shm_gib": round(shutil.disk_usage("/dev/shm").total / 2**30, 2),
        "compiler": shutil.which("cc") or shutil.which("gcc"),
        "kernel_of_prepare": find_spec("aalbert.kernel.native") is not None,
        "cuda": torch.version.cuda,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "device": properties.name,
            "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": f"{properties.major}.{properties.minor}",
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    return found


def copies(device: torch.device, size: int) -> dict[str, Callable[[], object]]:
    """Return copies of `size` bytes: within the device, and to it from memory of both kinds."""
    there, target = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    pageable = torch.zeros(size, dtype=torch.uint8)
    found: dict[str, Callable[[], object]] = {"within the device": lambda: target.copy_(there)}
    if device.type == "cuda":
        pinned = pageable.pin_memory()
        found["from pinned memory"] = lambda: target.copy_(pinned, non_blocking=True)
        found["from pageable memory"] = lambda: target.copy_(pageable)
    return found


def fastest_s(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of several calls, after a first one that does not count."""
    _, *taken = [timed_s(call, device) for _ in range(1 + REPEATS)]
    return min(taken)


def timed_s(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call, until the device has done its work."""
    wait_for(device)
    started = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - started


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
