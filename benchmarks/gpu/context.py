"""What every stage is given, and the lines that it writes."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS_NAME = "results.jsonl"


@dataclass(frozen=True, kw_only=True)
class Context:
    """The device, the folders and the time of a stage.

    Results go to `out`; `work` is for data and runs that later stages use too and that are removed
    at the end. `features` is the prepared dataset that was brought along, or "" for synthetic
    speech alone. `probe` is the downstream task of the real run, with assignments of its
    `probe_settings`. The stage is ended at `ends`, in seconds of `time.time`.
    """

    stage: str
    device: str
    out: str
    work: str
    features: str
    probe: str
    probe_settings: Sequence[str]
    ends: float

    @classmethod
    def from_json(cls, text: str) -> "Context":
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return the context as one line."""
        return json.dumps(asdict(self))

    @property
    def rehearsal(self) -> bool:
        """True without a GPU, where models and batches are tiny."""
        return self.device == "cpu"

    @property
    def left_s(self) -> float:
        """The seconds until the stage is ended."""
        return self.ends - time.time()

    @property
    def results(self) -> Path:
        """The file of all lines."""
        return Path(self.out) / RESULTS_NAME

    def write(self, **fields: Any) -> None:
        """Write a line of results at once, and print it."""
        append_line(self.results, {"stage": self.stage, **fields})

    def read(self, stage: str, kind: str) -> list[dict[str, Any]]:
        """Return the lines of a kind that a stage wrote before."""
        return [
            line
            for line in read_lines(self.results)
            if line["stage"] == stage and line["kind"] == kind
        ]


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Append a line of JSON so that it survives whatever happens next, and print it."""
    text = json.dumps(line)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(f"{text}\n")
        stream.flush()
        os.fsync(stream.fileno())
    print(text, flush=True)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a results file; a last one that was cut off is left out."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_text("utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]
