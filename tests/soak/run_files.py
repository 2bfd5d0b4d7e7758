"""What the files of a run hold, without what differs between equal runs."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import xxhash

# Measured in seconds, which differ between equal runs.
MEASURED_ANEW = {"x_real_time", "frames_per_second", "data_wait"}
SPEED_SECTION = re.compile(r'<h2 id="speed">.*?(?=<h2)', re.DOTALL)
# Whether batches are read ahead changes nothing but this setting where it is shown.
PREFETCH = re.compile(r'(prefetch"?[=:] ?)\d+')


def files_of(folder: Path) -> dict[str, bytes]:
    """Return what is in the files of a folder, by name, as it is after every equal run.

    Equal states have the same values, but PyTorch writes an object that occurs twice in them once
    or twice, so their bytes and checksums differ.
    """
    return {
        path.relative_to(folder).as_posix(): compared(path)(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def compared(path: Path) -> Callable[[bytes], bytes]:
    """Return the function that leaves of a file's content what equal runs have in common."""
    return COMPARED.get(path.suffix, COMPARED.get(path.name, bytes))


def values_of_state(content: bytes) -> bytes:
    """Return the values in a state of training, in their order.

    Without what is known of the validations: one that a signal interrupts is made, and noted
    anywhere else, when the run is resumed, but the state that was saved then still owes it.
    """
    state = torch.load(io.BytesIO(content), weights_only=True)
    state["callbacks"].pop("Validation", None)
    return described(state).encode()


def described(value: Any) -> str:
    """Return a text that is the same for equal values only."""
    if isinstance(value, torch.Tensor):
        digest = xxhash.xxh3_128_hexdigest(value.contiguous().numpy().tobytes())
        return f"{value.dtype} {tuple(value.shape)} {digest}"
    if isinstance(value, dict):
        return str({key: described(each) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return str([described(each) for each in value])
    return repr(value)


def without_speed(content: bytes) -> bytes:
    """Return measurements in JSON without those that differ between equal runs."""
    rows = [json.loads(line) for line in content.splitlines()]
    return json.dumps(
        [{name: row[name] for name in row if name not in MEASURED_ANEW} for row in rows]
    ).encode()


def without_speed_in_table(content: bytes) -> bytes:
    """Return measurements in a table without those that differ between equal runs."""
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    return json.dumps(
        [{name: row[name] for name in row if name not in MEASURED_ANEW} for row in rows]
    ).encode()


def without_prefetch(content: bytes) -> bytes:
    """Return a text that shows settings without the one for reading ahead."""
    return PREFETCH.sub(r"\1", content.decode()).encode()


def without_speed_section(content: bytes) -> bytes:
    """Return a report without the speed and the setting for reading ahead."""
    return without_prefetch(SPEED_SECTION.sub("", content.decode()).encode())


COMPARED: dict[str, Callable[[bytes], bytes]] = {
    ".ckpt": values_of_state,
    ".xxh3": lambda content: b"",
    "metrics.jsonl": without_speed,
    "metrics.csv": without_speed_in_table,
    "report.html": without_speed_section,
    "config.yaml": without_prefetch,
    "run.json": without_prefetch,
}
