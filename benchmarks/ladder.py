"""What pretraining reaches in 3, 15 and 60 minutes of one core: the ladder in `docs/results.md`.

    python -m benchmarks.ladder run --data data/librispeech --phones LABELS --studio data/studio \
        --out DIR [--minutes 3 15 60] [--models AALBERT ...] [--seeds 0 1 2]
    python -m benchmarks.ladder table --out DIR

`LABELS` is a folder as `benchmarks/phones.py` says; only the model "AALBERT, test read too" is
pretrained on the utterances of its test list. `run` pretrains each model with the preset of each
rung and each seed, as `aalbert pretrain` does, and measures it and its untrained twin:

- phones by a linear probe of every hidden state, and by one with a hidden layer of 768 of the last
  (`probe_frames`), beside those of log-mel with 1, 3, 5 and 11 frames;
- speakers of the dataset `--studio`, with the learned mix of all layers, as
  `aalbert downstream voxceleb1 --cache-embeddings` does, and by a linear probe of every state.

`table` prints Markdown: medians over seeds with the lowest and the highest, and differences to
AALBERT, paired over the same utterances. `run` goes on where it was stopped; runs are folders in
`DIR/runs`, measurements are lines of JSON in `DIR/phones.jsonl` and `DIR/speakers.jsonl`.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aalbert.models.upstream import count_parameters
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.build import find_task_data
from aalbert.train.downstream.config import BaselineConfig
from aalbert.train.downstream.run import start_downstream
from aalbert.train.downstream.upstream import open_upstream
from aalbert.train.evaluation.evaluate import evaluate_runs
from aalbert.train.evaluation.significance import percentile_interval, resampled_ratios
from aalbert.train.pretraining.run import start_pretraining
from aalbert.train.pretraining.trivial_predictors import TRIVIAL_PREDICTORS
from aalbert.train.recipes import read_pretrain_recipe, read_task_recipe
from aalbert.train.run_folder import RunFolder
from benchmarks.phones import excluded, phone_task, probe_phones
from benchmarks.speedrun import read_lines
from benchmarks.speedrun_entries import SEPARATE, TERA

PRESETS = {3: "tiny", 15: "small", 60: "small-long"}
# Pretrained on the utterances to test on as well, to see what holding them out changes.
TEST_READ = "AALBERT, test read too"
MODELS = {"AALBERT": (), "Mockingjay": SEPARATE, "TERA": (*SEPARATE, *TERA), TEST_READ: ()}
PLAIN = "log-mel, 1 frame"
BASELINES = {
    PLAIN: BaselineConfig(),
    "log-mel, 3 frames stacked": BaselineConfig(frames_stacked=3),
    "log-mel, 5 frames": BaselineConfig(context=5),
    "log-mel, 11 frames": BaselineConfig(context=11),
}
# As in the Audio ALBERT paper.
HIDDEN = 768
SPEAKER_SETTINGS: tuple[str, ...] = ()
KINDS = ("phones", "speakers")
UNTRAINED = ", untrained"
Line = dict[str, Any]


@dataclass(frozen=True)
class Places:
    """The prepared corpora, the labels of phones, and the folder of results."""

    data: Path
    phones: Path
    studio: Path
    out: Path


def main() -> None:
    """Run or tabulate the ladder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--data", type=Path, help="prepared LibriSpeech")
    parser.add_argument("--phones", type=Path, help="folder of alignments and lists")
    parser.add_argument("--studio", type=Path, help="prepared speakers in VoxCeleb1's layout")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", nargs="*", type=int, default=list(PRESETS))
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    if options.what == "run":
        options.out.mkdir(parents=True, exist_ok=True)
        places = Places(options.data, options.phones, options.studio, options.out)
        for name in BASELINES:
            # The mean of an utterance is the same with any context.
            kinds = KINDS if name == PLAIN else ("phones",)
            measure(places, {"name": name}, "logmel", kinds)
        for minutes in options.minutes:
            for seed in options.seeds:
                for name in options.models:
                    climb(places, minutes, name, seed)
    if options.what == "table":
        print("\n\n".join(tables(options.out)))


def run_of(out: Path, minutes: int, name: str, seed: int) -> RunFolder:
    """Return the folder of a pretraining run."""
    return RunFolder(out / "runs" / f"{name.lower()}-{minutes}-{seed}")


def climb(places: Places, minutes: int, name: str, seed: int) -> None:
    """Pretrain a model unless it was, and measure it and its untrained twin."""
    run = run_of(places.out, minutes, name, seed)
    if not run.export.exists():
        settings = pretrain_settings(name, seed, places.phones)
        config = read_pretrain_recipe(PRESETS[minutes], environment={}, assignments=settings)
        start_pretraining(config, [places.data], run.path)
    for suffix in ("",) if name == TEST_READ else ("", UNTRAINED):
        who = {"minutes": minutes, "name": name + suffix, "seed": seed}
        measure(places, who, str(run.path))


def pretrain_settings(name: str, seed: int, phones: Path) -> list[str]:
    """Return what a model's pretraining sets beside the preset."""
    held_out = () if name == TEST_READ else (excluded(phones),)
    return [*MODELS[name], f"seed={seed}", *held_out]


def measure(places: Places, who: Line, upstream: str, kinds: Sequence[str] = KINDS) -> None:
    """Write the phones and the speakers of an upstream, unless they are written."""
    functions = {"phones": measure_phones, "speakers": measure_speakers}
    for kind in kinds:
        file = places.out / f"{kind}.jsonl"
        if any(who.items() <= line.items() for line in read_lines(file)):
            continue
        found = functions[kind](places, who, upstream)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**who, **found}) + "\n")


def measure_phones(places: Places, who: Line, upstream: str) -> Line:
    """Return the frames that probes have right, by state and utterance."""
    dataset = Dataset(places.data)
    opened = open_upstream(
        upstream,
        dataset,
        find_task_data(phone_task(places.phones), dataset).splits.train,
        untrained=who["name"].endswith(UNTRAINED),
        seed=who.get("seed", 0),
        baseline=BASELINES.get(who["name"]),
    )
    found: Line = {}
    last = (opened.states - 1,)
    for head, states, hidden in (("linear", (), 0), ("hidden", last, HIDDEN)):
        probed = probe_phones(opened, places.data, places.phones, states, hidden)
        found[head] = probed.correct.tolist()
    found |= {"scored": probed.scored.tolist(), "session": probed.session.tolist()}
    found["parameters"] = count_parameters(opened)
    return found


def measure_speakers(places: Places, who: Line, upstream: str) -> Line:
    """Return the accuracy of speakers from the learned mix, and from every state."""
    untrained = str(who["name"].endswith(UNTRAINED)).lower()
    config = read_task_recipe(
        "voxceleb1",
        environment={},
        assignments=[
            *(f"untrained={untrained}", f"seed={who.get('seed', 0)}", "cache_embeddings=true"),
            *SPEAKER_SETTINGS,
        ],
    )
    folder = RunFolder(places.out / "speakers" / "-".join(str(value) for value in who.values()))
    if not folder.export.exists():
        start_downstream(config, places.studio, upstream, folder.path)
    (evaluation,) = evaluate_runs([folder.path])
    result = evaluation.result
    return {
        "accuracy": result.metric.value,
        "interval": result.metric.interval_95,
        "states": [probe.value for probe in result.layer_probes],
    }


def tables(out: Path) -> Iterator[str]:
    """Yield the tables of losses, phones, differences and speakers, in Markdown."""
    phones, speakers = read_lines(out / "phones.jsonl"), read_lines(out / "speakers.jsonl")
    yield markdown(
        ["minutes", "model", "parameters", "steps", "held-out loss", "loss / interpolation"],
        [loss_row(out, own) for own in rows_of(phones) if is_trained(own[0])],
    )
    states = ["state 0", "1", "2", "3"]
    yield markdown(
        ["minutes", "upstream", "last state, one hidden layer", *states],
        [
            [*labels(own), *cells([*shares(own, "hidden"), *shares(own, "linear")])]
            for own in rows_of(phones)
        ],
    )
    yield markdown(
        ["minutes", "difference in points, last state, linear", "by seed", "95 % interval"],
        differences(phones),
    )
    yield markdown(
        ["minutes", "speakers", "learned mix", *states],
        [
            [*labels(own), *cells([[100 * line["accuracy"] for line in own], *by_state(own)])]
            for own in rows_of(speakers)
        ],
    )


def rows_of(lines: Sequence[Line]) -> list[list[Line]]:
    """Return the lines of every upstream, its seeds together; plain features first."""
    rows: dict[tuple[int, str], list[Line]] = {}
    for line in lines:
        rows.setdefault((line.get("minutes", 0), line["name"]), []).append(line)
    return [rows[key] for key in sorted(rows, key=lambda key: key[0])]


def is_trained(line: Line) -> bool:
    """Return whether a line is of a pretrained model."""
    return "minutes" in line and not line["name"].endswith(UNTRAINED)


def labels(own: list[Line]) -> list[str]:
    """Return the first cells of a row."""
    return [str(own[0].get("minutes", "")), own[0]["name"]]


def loss_row(out: Path, own: list[Line]) -> list[str]:
    """Return the row of a model's held-out loss."""
    minutes, name = own[0]["minutes"], own[0]["name"]
    runs = [run_of(out, minutes, name, line["seed"]) for line in own]
    losses = [list(run.held_out_losses().items())[-1] for run in runs]
    trivial = [run.read_record()[TRIVIAL_PREDICTORS]["interpolation"] for run in runs]
    ratios = [loss / line for (_, loss), line in zip(losses, trivial, strict=True)]
    return [
        *(str(minutes), name, f"{own[0]['parameters']:,}", f"{losses[0][0]:,}"),
        *(spread([loss for _, loss in losses], 3), spread(ratios, 2)),
    ]


def shares(own: list[Line], head: str) -> list[list[float]]:
    """Return the percentages of every state, a list over seeds each."""
    by_seed = [100 * np.sum(line[head], axis=1) / np.sum(line["scored"]) for line in own]
    return [list(state) for state in zip(*by_seed, strict=True)]


def by_state(own: list[Line]) -> list[list[float]]:
    """Return the percentages of speakers of every state, a list over seeds each."""
    by_seed = [[100 * value for value in line["states"]] for line in own]
    return [list(state) for state in zip(*by_seed, strict=True)]


def differences(lines: Sequence[Line]) -> list[list[str]]:
    """Return the rows of the differences to AALBERT of the same rung, in the last state."""
    rows = rows_of(lines)
    plain = [own for own in rows if own[0]["name"] in BASELINES]
    found = []
    for ours in rows:
        if ours[0]["name"] != "AALBERT":
            continue
        minutes = ours[0]["minutes"]
        others = [own for own in rows if own[0].get("minutes") == minutes and own is not ours]
        for theirs in (*others, *plain):
            pairs = pair(ours, theirs)
            drawn = [resampled(first) - resampled(second) for first, second in pairs]
            low, high = percentile_interval(100 * np.mean(drawn, axis=0))
            each = [shares([a], "linear")[-1][0] - shares([b], "linear")[-1][0] for a, b in pairs]
            what = f"AALBERT - {theirs[0]['name']}"
            by_seed = ", ".join(f"{value:+.1f}" for value in each)
            found.append([str(minutes), what, by_seed, f"{low:+.1f} to {high:+.1f}"])
    return found


def pair(ours: list[Line], theirs: list[Line]) -> list[tuple[Line, Line]]:
    """Return the lines of the same seeds; plain features have none and go with all."""
    if "seed" not in theirs[0]:
        return [(line, theirs[0]) for line in ours]
    second = {line["seed"]: line for line in theirs}
    return [(line, second[line["seed"]]) for line in ours if line["seed"] in second]


def resampled(line: Line) -> NDArray[np.float64]:
    """Return the shares of the last state, linear, under resamples of whole sessions."""
    correct, scored, session = (
        np.array(each) for each in (line["linear"][-1], line["scored"], line["session"])
    )
    return resampled_ratios(correct, scored, session, seed=0)


def cells(values: list[list[float]]) -> list[str]:
    """Return a cell per list of percentages."""
    return [spread(each, 1) for each in values]


def spread(values: Sequence[float], digits: int) -> str:
    """Return the median, of several with the lowest and the highest value."""
    middle = f"{median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} [{min(values):.{digits}f}..{max(values):.{digits}f}]"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown; short rows are filled up."""
    full = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    lines = [head, ["---"] * len(head), *full]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
