import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aalbert.train.loop.checkpoints import best_weights
from aalbert.train.run_folder import RunFolder
from benchmarks.speedrun import config_of, read_lines, run_entry, table
from benchmarks.speedrun_entries import ENTRIES

SMALL = ("data.batch_seconds=4", "data.crop_seconds=1", "objective.codes.count=16")
# Each takes ten seconds, most of it for its probes.
VARIANTS = (
    "tiny, clusters instead",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("tiny", "tiny, Muon", "tiny, averaged weights", "tiny, BEST-RQ beside")
    ),
)


@pytest.mark.parametrize("name", ENTRIES)
def test_the_settings_of_every_entry_are_valid(name: str) -> None:
    entry = ENTRIES[name]
    config = config_of(entry, Path("phones"), seed=2)
    assert (config.steps, config.seed) == (entry.steps, 2)
    assert config.data.exclude == "phones/test_list.txt"


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_an_entry_is_trained_and_measured_once(
    name: str, phone_corpus: Path, tmp_path: Path
) -> None:
    entry = ENTRIES[name]
    entry = replace(entry, steps=12, settings=(*entry.settings, *SMALL))
    run_entry(name, entry, 0, phone_corpus / "data", phone_corpus, tmp_path)
    lines = read_lines(tmp_path / "states.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert [len(line["phones"]) for line in lines] == [1, 1, 1, 1, 1, 4]
    assert all(0 < line["last_phones"] < 1 for line in lines)
    folder = RunFolder(tmp_path / "runs" / f"{name}-0").checkpoints
    first, last = (best_weights(folder, step) for step in (2, 12))
    layer = [each for each in first if "layers" in each and first[each].ndim == 2]
    assert layer and all(not torch.equal(first[each], last[each]) for each in layer)
    run_entry(name, entry, 0, phone_corpus / "data", phone_corpus, tmp_path)
    assert read_lines(tmp_path / "states.jsonl") == lines


def test_the_table_has_medians_over_seeds_and_says_how_many_got_there(tmp_path: Path) -> None:
    phones = {0: (0.55, 0.57), 1: (0.565, 0.59), 2: (0.55, 0.57)}
    lines = [
        {
            "entry": "one",
            "seed": seed,
            "step": 100 * (place + 1),
            "held_out_loss": 0.3,
            "interpolation": 0.25,
            "gain": -0.05,
            "last_phones": value,
            "best_phones": value,
        }
        for seed, values in phones.items()
        for place, value in enumerate(values)
    ]
    (tmp_path / "states.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = table(read_lines(tmp_path / "states.jsonl"), [{"entry": "one", "step_s": 0.6}])
    cells = [cell.strip() for cell in row.splitlines()[-1].strip("|").split("|")]
    # To 56 % at 200, 100 and 200 steps; to 58 % one seed of three, which is no median.
    assert cells == [
        "one",
        "600 ms",
        "200, 2.0 min",
        "-",
        "-",
        "-",
        "57.0 [57.0..59.0] (57.0 [57.0..59.0])",
        "1.200",
    ]
