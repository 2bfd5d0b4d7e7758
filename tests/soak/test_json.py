"""Records in JSON that are damaged: the command that reads them says so, or is right."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

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
        "ä" * 999,
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


def test_damaged_records_are_refused_or_read_rightly(
    soak: Soak,
    prepared: Path,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    data, model = tmp_path / "data", tmp_path / "model"
    shutil.copytree(prepared, data)
    shutil.copytree(model_folder, model)
    targets: list[tuple[Path, tuple[object, ...], Callable[[Any], str]]] = [
        (data / "manifest.json", ("shards", "info", data, "--json"), sealed),
        *(
            (path, ("inspect", model, "--json"), json.dumps)
            for path in sorted(model.rglob("*.json"))
        ),
    ]
    rights = {path: run_here(*command, most_seconds=60) for path, command, _ in targets}
    assert {each.outcome() for each in rights.values()} == {"right"}

    def fault(random: Random) -> str:
        path, command, write = random.choice(targets)
        content = path.read_bytes()
        try:
            if typed := random.random() < 0.6:
                path.write_text(write(mistyped(json.loads(content), random)))
            else:
                path.write_bytes(damaged(content, random))
            changed = path.read_bytes()
            ended = run_here(*command, most_seconds=MOST_SECONDS)
        finally:
            path.write_bytes(content)
        outcome = ended.outcome()
        # A manifest has a checksum; other records are what they say.
        if outcome == "right" and (
            (not typed and path.name == "manifest.json")
            or json.loads(changed) == json.loads(content)
        ):
            assert ended.stdout == rights[path].stdout, "other values, and nothing says so"
        return outcome

    soak.run("files: JSON", fault)


def sealed(document: Any) -> str:
    """A manifest with the checksum of what it says."""
    return text_with_checksum({name: each for name, each in document.items() if name != "checksum"})
