"""A job that is disturbed and begun again, and what is right of it in the end."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.soak.programs import Programs, Running
from tests.soak.run_files import files_of

# The folder that a job writes, and that of what it reads, as they are named on its command line.
RUN, INPUTS = "run", "inputs"


@dataclass(kw_only=True)
class Job:
    """A command that works in `folder` on `inputs` there, and writes into the folder `run` there.

    `continued` is the command that goes on once the run is recorded, if that is another one.
    `begun` is what is in the folder `run` before. `setup` are statements for the program.
    """

    programs: Programs
    folder: Path
    command: Sequence[str]
    continued: Sequence[str] = ()
    begun: Path | None = None
    setup: str = ""
    # Of an undisturbed run: how long it takes, what it touches, and the files that it leaves.
    seconds: float = 0.0
    events: list[tuple[str, str]] = field(default_factory=list)
    reference: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The folder that it writes."""
        return self.folder / RUN

    def measure(self) -> None:
        """Let it run undisturbed, unless it did."""
        if self.reference:
            return
        trace = self.folder / "trace"
        self.clear()
        ended = self.go_on(trace=trace).wait()
        assert ended.outcome() == "right", ended.stderr[-1000:]
        self.reference = files_of(self.run)
        for line in trace.read_text().splitlines():
            event, _, path = line.partition(" ")
            place = next((each for each in (RUN, INPUTS) if f"{each}/" in path), None)
            if place is not None:
                self.events.append((event, f"{place}/"))
        self.clear()
        began = time.monotonic()
        assert self.go_on().wait().outcome() == "right"
        self.seconds = time.monotonic() - began
        self.require_right()

    def clear(self) -> None:
        """Let the folder be what it was; it may be a mounted disk."""
        if self.run.is_dir():
            for path in self.run.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not self.run.is_mount():
                self.run.rmdir()
        if self.begun is not None:
            shutil.copytree(self.begun, self.run, dirs_exist_ok=True)

    def go_on(self, **how: Any) -> Running:
        """Begin, or continue what has begun."""
        recorded = self.continued and (self.run / "run.json").is_file()
        command = self.continued if recorded else self.command
        return self.programs.begin(*command, folder=self.folder, setup=self.setup, **how)

    def finish(self) -> None:
        """Let it end undisturbed, which must be right, and stay so when it is begun once more."""
        ended = self.go_on().wait()
        assert ended.outcome() == "right", f"{self.command[0]} again: {ended.stderr[-1000:]}"
        self.require_right()

    def require_right(self) -> None:
        """Fail unless the folder has the files of the reference, no more and no fewer."""
        found = files_of(self.run)
        assert found.keys() == self.reference.keys(), sorted(found.keys() ^ self.reference.keys())
        other = [name for name in found if found[name] != self.reference[name]]
        assert not other, f"other than in an undisturbed run: {other}"
        left = [path for path in self.run.rglob("*") if path.is_dir() and not any(path.iterdir())]
        assert {each.name for each in left} <= {"checkpoints", "states"}, left

    def somewhere(self, random: Random) -> dict[str, Any]:
        """Return where it touches a file, drawn at random."""
        place = random.randrange(len(self.events))
        event, path = self.events[place]
        return {"event": event, "path": path, "nth": self.events[: place + 1].count((event, path))}
