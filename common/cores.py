"""The cores that this process may use, and how many of them others keep busy."""

import math
import os
import time
from pathlib import Path

PROC_STAT = Path("/proc/stat")
# The quota and the period of the control group, in version 2 and in version 1.
QUOTA_FILES = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
SAMPLE_SECONDS = 0.2
# The columns of a core in /proc/stat in which it waits: idle, and waiting for a disk.
IDLE_COLUMNS = (3, 4)


def available_cores() -> int:
    """Return the number of cores this process may use; under a scheduler these are not all."""
    quota = core_quota()
    cores = len(own_cores())
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def own_cores() -> set[int]:
    """Return the numbers of the cores that the system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def core_quota() -> float | None:
    """Return the cores' worth of time that a container may use, None without a limit."""
    for paths in QUOTA_FILES:
        if all(Path(path).is_file() for path in paths):
            values = " ".join(Path(path).read_text("ascii") for path in paths).split()
            quota, period = values[:2]
            return None if quota in ("max", "-1") else int(quota) / int(period)
    return None


def busy_cores(seconds: float = SAMPLE_SECONDS) -> float:
    """Return how many of the own cores are busy now, measured for so long; 0 where unknown.

    This process sleeps meanwhile, so that it counts others.
    """
    if not PROC_STAT.is_file():
        return 0.0
    cores = own_cores()
    before = core_ticks(PROC_STAT.read_text("ascii"))
    time.sleep(seconds)
    after = core_ticks(PROC_STAT.read_text("ascii"))
    busy = 0.0
    for core in cores & before.keys() & after.keys():
        idle, all_ticks = (after[core][place] - before[core][place] for place in range(2))
        busy += 1 - idle / all_ticks if all_ticks else 0.0
    return busy


def core_ticks(text: str) -> dict[int, tuple[int, int]]:
    """Return the idle ticks and all ticks of every core since the start of the system."""
    found = {}
    for name, *ticks in map(str.split, text.splitlines()):
        if name.startswith("cpu") and name[3:].isdigit():
            # Later columns count the time of guests a second time.
            numbers = [int(tick) for tick in ticks[:8]]
            found[int(name[3:])] = (sum(numbers[place] for place in IDLE_COLUMNS), sum(numbers))
    return found


def idle_threads(cores: int, busy: float) -> int:
    """Return the number of threads for the cores that are not busy, at least one."""
    return max(1, min(cores, round(cores - busy)))
