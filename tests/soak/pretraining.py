"""A small pretraining run that is disturbed and continued, and what is right of it in the end."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from aalbert.models.training_states import is_intact, list_states
from tests.soak.programs import Programs, Running
from tests.soak.run_files import files_of

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


def somewhere(random: Random) -> dict[str, Any]:
    """Return where a run touches a file of its folder, drawn at random."""
    event = random.choice(list(EVENTS))
    return {"event": event, "path": "run/", "nth": random.randint(1, EVENTS[event])}
