"""How soon pretraining on two cores reaches an accuracy of phones: the race of recipes.

    python -m benchmarks.speedrun run --data data/librispeech --phones LABELS --out DIR \
        [--entries rotary ...] [--seeds 0 1 2]
    python -m benchmarks.speedrun time --data data/librispeech --out DIR
    python -m benchmarks.speedrun table --out DIR

`LABELS` is a folder as `benchmarks/phones.py` says; the utterances of its test list are not
pretrained on. An entry is a recipe: settings laid over the preset `tiny` or over s3prl's recipe at
the same width, see `benchmarks/speedrun_entries.py`. `run` trains every entry with every seed, and
measures at each of its saved states the held-out loss and the phones of the last hidden state
(frozen, linear, on the test list), at the end those of every hidden state. `time` measures a step
of all entries in turns, alone on the machine: minutes are steps times the median of these, so that
other work beside a run does not count. `table` prints Markdown: for every entry the median over
seeds of the steps and minutes to 56, 58 and 60 % of the frames and to the loss of interpolating
between the nearest visible frames. `run` goes on where it was stopped; each state is a line of JSON
in `DIR/states.jsonl`, each timing one in `DIR/times.jsonl`.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from aalbert.models.pretrained import PretrainedModel
from aalbert.models.training_states import list_states, step_of
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.loop.checkpoints import best_weights
from aalbert.train.loop.timing import time_steps
from aalbert.train.pretraining.build import make_loaders, select_utterances
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.module import build_pretraining
from aalbert.train.pretraining.run import start_pretraining
from aalbert.train.pretraining.trivial_predictors import TRIVIAL_PREDICTORS
from aalbert.train.recipes import read_pretrain_recipe
from aalbert.train.run_folder import RunFolder
from benchmarks.phones import excluded, probe_phones
from benchmarks.speedrun_entries import ENTRIES, Entry

PHONE_TARGETS = (0.56, 0.58, 0.60)
STATES_MEASURED = 6


def main() -> None:
    """Run, time or tabulate the race."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("run", "time", "table"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--phones", type=Path, help="folder of alignments and lists")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--entries", nargs="*", default=list(ENTRIES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    entries = {name: ENTRIES[name] for name in options.entries}
    if options.what == "run":
        for seed in options.seeds:
            for name, entry in entries.items():
                run_entry(name, entry, seed, options.data, options.phones, options.out)
    if options.what == "time":
        time_entries(entries, options.data, options.rounds, options.out / "times.jsonl")
    if options.what == "table":
        print(
            table(read_lines(options.out / "states.jsonl"), read_lines(options.out / "times.jsonl"))
        )


def config_of(entry: Entry, phones: Path | None, seed: int) -> PretrainConfig:
    """Return the settings of an entry, which are measured at equal parts of its steps."""
    every = entry.steps // STATES_MEASURED
    settings = [f"steps={entry.steps}", f"validate_every_steps={every}", f"seed={seed}"]
    settings += [f"keep_checkpoints={STATES_MEASURED}", "picture_every_steps=1000000"]
    if phones is not None:
        settings.append(excluded(phones))
    return read_pretrain_recipe(
        entry.preset, environment={}, assignments=[*entry.settings, *settings]
    )


def run_entry(name: str, entry: Entry, seed: int, data: Path, phones: Path, out: Path) -> None:
    """Train one entry with one seed unless it was, and write a line for each of its states."""
    done = {(line["entry"], line["seed"]) for line in read_lines(out / "states.jsonl")}
    if (name, seed) in done:
        return
    folder = RunFolder(out / "runs" / f"{name}-{seed}")
    if not folder.export.exists():
        start_pretraining(
            config_of(entry, phones, seed), [data], folder.path, make_module=entry.make_module
        )
    losses = folder.held_out_losses()
    interpolation = folder.read_record()[TRIVIAL_PREDICTORS]["interpolation"]
    model = PretrainedModel.from_pretrained(folder.path)
    lines = []
    for state in list_states(folder.checkpoints):
        step = step_of(state)
        model.load_state_dict(best_weights(folder.checkpoints, step))
        last = model.upstream.states - 1
        states = range(last + 1) if step == entry.steps else (last,)
        probes = probe_phones(model.upstream, data, phones, states).layers()
        found = [probe.value for probe in probes]
        lines.append(
            {
                "entry": name,
                "seed": seed,
                "step": step,
                "held_out_loss": losses[step],
                "interpolation": interpolation,
                "gain": interpolation - losses[step],
                "phones": found,
                "last_phones": found[-1],
                "best_phones": max(found),
                "settings": list(entry.settings),
                "torch": version("torch"),
            }
        )
    with (out / "states.jsonl").open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)


def time_entries(entries: dict[str, Entry], data: Path, rounds: int, out: Path) -> None:
    """Time a step of every entry, in turns, and write a line for each."""
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    for _ in range(rounds):
        for name, entry in entries.items():
            config = config_of(entry, None, seed=0)
            selections = select_utterances(config, [Dataset(data)])
            module = build_pretraining(config, selections, entry.make_module)
            loader, _ = make_loaders(config, selections)
            seconds[name].append(time_steps(module, loader, config.precision).seconds)
    with out.open("a", encoding="utf-8") as stream:
        for name, taken in seconds.items():
            line = {
                "entry": name,
                "step_s": round(statistics.median(taken), 5),
                "fastest_s": round(min(taken), 5),
                "slowest_s": round(max(taken), 5),
                "threads": torch.get_num_threads(),
                "torch": version("torch"),
            }
            stream.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


def table(states: list[dict[str, Any]], times: list[dict[str, Any]]) -> str:
    """Return the race as a Markdown table, in the order in which entries were run."""
    step_s = {line["entry"]: line["step_s"] for line in times}
    head = ["entry", "step", *(f"to {100 * target:.0f} %" for target in PHONE_TARGETS)]
    head += ["to interpolation", "at the end: phones, last state (best)", "loss / interpolation"]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in dict.fromkeys(line["entry"] for line in states):
        own = [line for line in states if line["entry"] == name]
        rows.append("| " + " | ".join(cells_of(name, own, step_s.get(name))) + " |")
    return "\n".join(rows)


def cells_of(name: str, states: list[dict[str, Any]], step_s: float | None) -> Iterator[str]:
    """Yield the cells of an entry's row; a median over seeds, some of which may not get there."""
    runs = [
        sorted((line for line in states if line["seed"] == seed), key=lambda line: line["step"])
        for seed in sorted({line["seed"] for line in states})
    ]
    yield name
    yield "" if step_s is None else f"{1000 * step_s:.0f} ms"
    for target in PHONE_TARGETS:
        yield reached([first_step(run, "last_phones", target) for run in runs], step_s)
    yield reached([first_step(run, "gain", 0.0) for run in runs], step_s)
    last, best = ([100 * run[-1][name] for run in runs] for name in ("last_phones", "best_phones"))
    yield f"{spread(last)} ({spread(best)})"
    ratios = [run[-1]["held_out_loss"] / run[-1]["interpolation"] for run in runs]
    yield f"{statistics.median(ratios):.3f}"


def first_step(run: list[dict[str, Any]], name: str, least: float) -> int | None:
    """Return the first step of a run at which a measurement is at least so much."""
    return next((line["step"] for line in run if line[name] >= least), None)


def reached(steps: list[int | None], step_s: float | None) -> str:
    """Return the median step and minutes at which runs got somewhere, a dash if most did not."""
    got = [step for step in steps if step is not None]
    if 2 * len(got) <= len(steps):
        return "-"
    middle = statistics.median(got)
    minutes = "" if step_s is None else f", {middle * step_s / 60:.1f} min"
    return f"{middle:,.0f}{minutes}" + (
        f" ({len(got)} of {len(steps)})" if len(got) < len(steps) else ""
    )


def spread(values: list[float]) -> str:
    """Return the median with the lowest and the highest value."""
    return f"{statistics.median(values):.1f} [{min(values):.1f}..{max(values):.1f}]"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a file of JSON lines, none if there is no file."""
    return (
        [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        if path.is_file()
        else []
    )


if __name__ == "__main__":
    main()
