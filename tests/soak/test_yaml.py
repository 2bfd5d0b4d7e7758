"""Settings that are damaged: refused at once, or read as another parser of YAML reads them."""

import json
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.soak.mutations import HOSTILE, damaged
from tests.soak.programs import run_here
from tests.soak.soak import Soak

PRESETS = resources.files("aalbert.train") / "presets" / "pretrain"
SHOW = ("config", "show", "--json")
MOST_SECONDS = 10.0


def leaves(document: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """The scalars of a document in which all of them are text."""
    if isinstance(document, dict):
        pairs = [(str(name), inner) for name, inner in document.items()]
    elif isinstance(document, list):
        pairs = [(str(number), inner) for number, inner in enumerate(document)]
    else:
        return {path: str(document)}
    return {
        place: text for name, inner in pairs for place, text in leaves(inner, (*path, name)).items()
    }


def number_of(text: str) -> float | None:
    try:
        return float(int(text, 0)) if text[:2] in ("0x", "0o") else float(text)
    except ValueError:
        return None


def is_same(text: str, other: str) -> bool:
    """Whether a scalar means the same as one that Python or JSON has written."""
    if text == other:
        return True
    if number_of(text) is not None:
        return number_of(text) == number_of(other)
    nothing = ("", "~", "null", "none")
    if text.lower() in nothing:
        return other.lower() in nothing
    return text.lower() == other.lower() in ("true", "false")


def test_damaged_settings_are_refused_or_read_as_another_parser_reads_them(
    soak: Soak, tmp_path: Path
) -> None:
    names = [each.name.removesuffix(".yaml") for each in PRESETS.iterdir()]
    whole = [
        yaml.safe_dump(json.loads(run_here(*SHOW, "--preset", name, most_seconds=60).stdout))
        for name in names
    ]
    flat = sorted({".".join(path) for path in leaves(yaml.safe_load(whole[0]))})
    file, copy = tmp_path / "settings.yaml", tmp_path / "copy.yaml"

    def fault(random: Random) -> str:
        content = random.choice(whole).encode()
        options: list[str] = []
        if random.random() < 0.3:
            value = random.choice((*HOSTILE, *(word.encode() for word in content.decode().split())))
            name = random.choice(flat)
            if random.random() < 0.2:
                name = damaged(name.encode(), random).decode("utf-8", "replace")
            options = ["--set", f"{name}={value.decode('utf-8', 'replace')}"]
        else:
            content = damaged(content, random)
        file.write_bytes(content)
        ended = run_here(*SHOW, "--config", file, *options, most_seconds=MOST_SECONDS)
        outcome = ended.outcome()
        if outcome == "exit 3":
            assert "UTF-" in ended.stderr, ended.stderr
        if outcome != "right":
            return outcome
        shown = json.loads(ended.stdout)
        copy.write_text(yaml.safe_dump(shown, sort_keys=False))
        again = run_here(*SHOW, "--config", copy, most_seconds=MOST_SECONDS)
        assert again.stdout == ended.stdout, "what is shown is read back as something else"
        if not options:
            found = leaves(shown)
            for place, text in leaves(yaml.load(content, yaml.BaseLoader)).items():
                # A list may be shorter than the default's: only what is written is compared.
                if place in found:
                    assert is_same(text, found[place]), f"{place}: {text!r}, {found[place]!r}"
        return "right"

    soak.run("files: YAML", fault)
