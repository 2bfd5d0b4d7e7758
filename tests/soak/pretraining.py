"""A small pretraining run that is disturbed and continued, and what is right of it in the end."""

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import xxhash

from aalbert.models.training_states import is_intact, list_states
from tests.soak.programs import Programs, Running

# The best state is an early one, so that another than the last is kept and exported.
SETTINGS = (
    "encoder.width=32",
    "encoder.feed_forward_width=64",
    "encoder.dropout=0.1",
    "front_end.feature_dims=20",
    "optimiser.learning_rate=1e-3",
    "data.batch_seconds=6",
    "data.verify=always",
    "steps=8",
    "validate_every_steps=3",
    "log_every_steps=1",
    "keep_checkpoints=1",
    "export=best",
)
# Measured in seconds, which differ between equal runs.
MEASURED_ANEW = {"x_real_time", "frames_per_second", "data_wait"}
SPEED_PICTURE = re.compile(r'(<h2>Speed.*?src=")[^"]*', re.DOTALL)
# Whether batches are read ahead changes nothing but this setting where it is shown.
PREFETCH = re.compile(r"(prefetch[=:] ?)\d+")
# How often an undisturbed run touches files in its folder, by audit event.
EVENTS = {"open": 80, "os.rename": 20, "os.remove": 24, "os.mkdir": 20}


@dataclass(kw_only=True)
class PretrainRuns:
    """Runs in `folder`, one after another, all at the same place and on the same data.

    `reference` holds the files of an undisturbed one, as `files_of` returns them, and `seconds`
    is the time that it took. `settings` are more than `SETTINGS`.
    """

    programs: Programs
    folder: Path
    original_data: Path
    settings: tuple[str, ...] = ()
    seconds: float = 0.0
    reference: Mapping[str, bytes] | None = None

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return self.folder / "run"

    @property
    def data(self) -> Path:
        """The dataset, which may be damaged."""
        return self.folder / "data"

    def clear(self) -> None:
        """Remove the run, and let the dataset be what it was."""
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(self.original_data, self.data)

    def go_on(self, prefetch: int = 0, **how: Any) -> Running:
        """Start the run; where there is one, continue it."""
        if (self.run / "run.json").is_file():
            return self.programs.begin(
                "pretrain", "--resume", "--out", "run", folder=self.folder, **how
            )
        return self.start(prefetch, **how)

    def start(self, prefetch: int = 0, **how: Any) -> Running:
        """Start the run as a new one."""
        assignments = [*SETTINGS, *self.settings, f"data.prefetch={prefetch}"]
        options = [part for each in assignments for part in ("--set", each)]
        place = ("--data", self.data, "--out", "run")
        return self.programs.begin(
            "pretrain", "--preset", "tiny", *options, *place, folder=self.folder, **how
        )

    def finish(self, prefetch: int = 0) -> None:
        """Let the run end undisturbed, and compare it with the reference."""
        ended = self.go_on(prefetch).wait()
        assert ended.outcome() == "right", ended.stderr[-1000:]
        self.require_right()

    def require_right(self) -> None:
        """Fail unless the finished run has the files of the reference, no more and no fewer."""
        expected, found = self.reference, files_of(self.run)
        assert expected is not None
        assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
        other = [name for name in expected if found[name] != expected[name]]
        assert not other, "\n".join(
            ["other than in an undisturbed run:"]
            + [f"{name}: {beside(expected[name], found[name])}" for name in other]
        )
        assert all(is_intact(state) for state in list_states(self.run / "checkpoints"))


def beside(expected: bytes, found: bytes) -> str:
    """Return the first place in which two contents differ, of each."""
    start = max(0, len(os.path.commonprefix((expected, found))) - 60)
    return f"{expected[start : start + 120]!r} became {found[start : start + 120]!r}"


def files_of(run: Path) -> dict[str, bytes]:
    """Return what is in the files of a run, by name, as it is in every equal run.

    Equal states have the same values, but PyTorch writes an object that occurs twice in them once
    or twice, so their bytes and checksums differ.
    """
    return {
        path.relative_to(run).as_posix(): compared(path)(path.read_bytes())
        for path in run.rglob("*")
        if path.is_file()
    }


def compared(path: Path) -> Callable[[bytes], bytes]:
    """Return what takes from the content of a file what is to be the same in equal runs."""
    return COMPARED.get(path.suffix) or COMPARED.get(path.name) or bytes


def values_of_state(content: bytes) -> bytes:
    """Return the values in a state of training, in their order.

    Without what is known of the validations: one that a signal interrupts is made, and noted
    anywhere else, when the run is resumed, but the state that was saved then still owes it.
    """
    state = torch.load(io.BytesIO(content), weights_only=True)
    del state["callbacks"]["Validation"]
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


def without_speed_picture(content: bytes) -> bytes:
    """Return a report without the picture of the speed and the setting for reading ahead."""
    return without_prefetch(SPEED_PICTURE.sub(r"\1", content.decode()).encode())


COMPARED: dict[str, Callable[[bytes], bytes]] = {
    ".ckpt": values_of_state,
    ".xxh3": lambda content: b"",
    "metrics.jsonl": without_speed,
    "metrics.csv": without_speed_in_table,
    "report.html": without_speed_picture,
    "config.yaml": without_prefetch,
    "run.json": without_prefetch,
}


def somewhere(random: Random) -> dict[str, Any]:
    """Return where a run touches a file of its folder, drawn at random."""
    event = random.choice(list(EVENTS))
    return {"event": event, "path": "run/", "nth": random.randint(1, EVENTS[event])}
