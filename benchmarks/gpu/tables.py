"""The results of `python -m benchmarks.gpu` as tables in Markdown, for docs/performance.md.

python -m benchmarks.gpu.tables results
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.context import RESULTS_NAME, read_lines

Line = dict[str, Any]
EXTRAPOLATED = "extrapolated_hours_of_500000_steps"
# The columns of the tables that list lines of one kind: the title, and the field it shows.
COLUMNS = {
    "product": {"product of matrices": "type", "size": "size", "10¹² operations/s": "tera_flops"},
    "copy": {"copy": "copy", "GB/s": "gb_per_s"},
    "tests": {"marked": "selected", "passed": "passed", "failed": "failed", "skipped": "skipped"},
    "agreement": {
        "preset": "preset",
        "batches": "batching",
        "precision": "precision",
        "masks equal": "masks_equal",
        "loss": "loss",
        "gradient": "gradient",
        "agrees": "agrees",
    },
    "attention": {
        "kernel": "kernel",
        "first call (ms)": "first_ms",
        "new length (ms)": "new_length_ms",
        "repeated (ms)": "repeated_ms",
    },
    "loader": {
        "loader": "loader",
        "batches": "layout",
        "processes": "processes",
        "GB/s": "gb_per_s",
        "x real time": "x_real_time",
    },
    "resuming": {
        "steps": "steps",
        "stopped at": "stopped_at",
        "training loss": "train_loss",
        "held-out loss": "validation_loss",
        "weights": "weights",
        "equal": "equal",
    },
    "kernel": {
        "operation": "name",
        "ms a step": "ms_per_step",
        "share": "share",
        "calls a step": "calls_per_step",
    },
    "measurement": {
        "minute": "minutes",
        "step": "step",
        "held-out loss": "validation_loss",
        "training loss": "train_loss",
        "MFU": "mfu",
    },
    "probe": {
        "task": "task",
        "upstream": "upstream",
        "accuracy": "accuracy",
        "95 % interval": "interval_95",
        "guessing": "chance",
    },
}
TITLES = {
    "product": "Peaks: products of matrices",
    "copy": "Peaks: copies",
    "tests": "Tests marked gpu",
    "agreement": "Differences from the CPU, relative",
    "step": "A step of every preset",
    "attention": "Attention of one layer, forward and backward",
    "loader": "From shards to the device",
    "resuming": "Interrupted and continued, beside uninterrupted: relative differences",
    "kernel": "Where the time of a step goes",
    "measurement": "A run on real speech",
    "probe": "A probe of that run",
}


def tables(lines: Sequence[Line]) -> str:
    """Return all tables, those of what failed last."""
    parts = []
    for kind, title in TITLES.items():
        found = [line for line in lines if line["kind"] == kind]
        if found:
            rows = step_rows(found) if kind == "step" else listed(found, COLUMNS[kind])
            parts.append(f"### {title}\n\n{table(rows)}")
    stages = [line for line in lines if line["kind"] == "stage"]
    columns = {"stage": "stage", "seconds": "seconds", "of": "budget_s", "done": "done"}
    parts.append(f"### Stages\n\n{table(listed(stages, columns))}")
    failures = [
        line
        for line in lines
        if line["kind"] == "failure" or line["kind"] == "test" and line["outcome"] != "passed"
    ]
    parts += [f"- {' '.join(str(value) for value in line.values())}" for line in failures]
    return "\n\n".join(parts) + "\n"


def listed(lines: Iterable[Line], columns: dict[str, str]) -> list[list[str]]:
    """Return a row of titles, and one for each line."""
    rows = [[shown(line.get(field)) for field in columns.values()] for line in lines]
    return [list(columns), *rows]


def step_rows(lines: Sequence[Line]) -> list[list[str]]:
    """Return the rows of steps, each with its speed as a multiple of the reference's."""
    references = {
        line["preset"]: line["x_real_time"] for line in lines if line["way"] == "reference"
    }
    columns = {
        "preset": "preset",
        "way": "way",
        "step (s)": "step_s",
        "audio (s)": "audio_s",
        "tokens/s": "tokens_per_s",
        "x real time": "x_real_time",
        "MFU": "mfu",
        "waited": "waited",
        "padding": "padding",
        "GiB": "memory_gib",
        "500,000 steps, extrapolated (h)": EXTRAPOLATED,
        "of the batch": "batch_share",
    }
    titles, *rows = listed(lines, columns)
    for line, row in zip(lines, rows, strict=True):
        reference = references.get(line["preset"])
        row.append(shown(reference and round(line["x_real_time"] / reference, 2)))
    return [[*titles, "times the reference"], *rows]


def shown(value: Any) -> str:
    """Return a value in a cell; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " to ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:,.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, of which the first are titles, as a table in Markdown."""
    titles, *others = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([titles, "|---" * len(rows[0]) + "|", *others])


def main() -> None:
    """Print the tables of a folder of results."""
    print(tables(read_lines(Path(sys.argv[1]) / RESULTS_NAME)), end="")


if __name__ == "__main__":
    main()
