"""Records in JSON that are damaged: the command that reads them says so, or is right."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aalbert.shards.format.manifest import text_with_checksum
from tests.soak.mutations import damaged
from tests.soak.programs import run_here
from tests.soak.soak import Soak

MOST_SECONDS = 60.0
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        2**63,
        2**70,
        1.5,
        -1e308,
        "",
        "a",
        "\0",
        "..",
        "/etc",
        "\u202e",
        "ä" * 99,
    ),
    *([], {}, [[]], {"a": None}, [None] * 999),
)


def mistyped(document: Any, random: Random) -> Any:
    """A document in which something is of another type or value, missing, or too much."""
    inner = [name for name in document] if isinstance(document, dict) else range(len(document))
    name: Any = random.choice(list(inner))
    if isinstance(document[name], (dict, list)) and document[name] and random.random() < 0.7:
        document[name] = mistyped(document[name], random)
        return document
    change = random.randrange(4)
    if change == 0:
        del document[name]
    elif change == 1 and isinstance(document, dict):
        document[random.choice(("", "a", "\u202e", "__class__"))] = document[name]
    else:
        document[name] = random.choice(VALUES)
    return document


# What a figure of the largest numbers there are calls overflow.
@pytest.mark.filterwarnings("ignore:overflow encountered in multiply:RuntimeWarning")
def test_damaged_records_are_refused_or_read_rightly(
    soak: Soak,
    prepared: Path,
    model_folder: Path,
    speaker_run: Path,
    pretrained: Path,
    tmp_path: Path,
) -> None:
    data, model = tmp_path / "data", tmp_path / "model"
    shutil.copytree(prepared, data)
    shutil.copytree(model_folder, model)
    resumed = {
        Path(shutil.copytree(pretrained, tmp_path / "pretrain")): ("pretrain",),
        Path(shutil.copytree(speaker_run, tmp_path / "speaker")): ("downstream", "voxceleb1"),
    }
    targets: list[tuple[Path, tuple[object, ...], Callable[[Any], str]]] = [
        (data / "manifest.json", ("shards", "info", data, "--json"), sealed),
        *(
            (path, ("inspect", model, "--json"), json.dumps)
            for path in sorted(model.rglob("*.json"))
        ),
        *(
            (run / name, (*command, "--resume", "--out", run), write)
            for run, command in resumed.items()
            for name, write in (("run.json", json.dumps), ("metrics.jsonl", lines_of))
        ),
    ]
    rights = {path: run_here(*command, most_seconds=60) for path, command, _ in targets}
    assert {each.outcome() for each in rights.values()} == {"right"}

    def fault(random: Random) -> str:
        path, command, write = random.choice(targets)
        content = path.read_bytes()
        try:
            if typed := random.random() < 0.6:
                path.write_text(write(mistyped(parsed(content), random)))
            else:
                path.write_bytes(damaged(content, random))
            changed = path.read_bytes()
            ended = run_here(*command, most_seconds=MOST_SECONDS)
        finally:
            path.write_bytes(content)
        outcome = ended.outcome()
        # A manifest has a checksum; other records are what they say.
        if outcome == "right" and (
            (not typed and path.name == "manifest.json") or parsed(changed) == parsed(content)
        ):
            assert ended.stdout == rights[path].stdout, "other values, and nothing says so"
        return outcome

    soak.run("files: JSON", fault)


def sealed(document: Any) -> str:
    """A manifest with the checksum of what it says."""
    return text_with_checksum({name: each for name, each in document.items() if name != "checksum"})


def lines_of(rows: Any) -> str:
    """Rows as lines of JSON."""
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def parsed(content: bytes) -> Any:
    """A document of JSON, or the rows of its lines without one that is cut off at the end."""
    try:
        return json.loads(content)
    except ValueError:
        # Not `splitlines`: a carriage return is a space between values.
        return [json.loads(line) for line in content.split(b"\n")[:-1]]
