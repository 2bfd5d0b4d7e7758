"""Damage to models and states: they are refused, or hold what they held."""

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from aalbert.common.files import file_digest
from aalbert.errors import AalbertError
from aalbert.models import PretrainedModel
from aalbert.models.training_states import HASH_SUFFIX
from tests.models.foreign.transformers import GENERATIONS, Sizes, make_head, make_transformer
from tests.soak.damage import SAME_SIZE
from tests.soak.mutations import damaged
from tests.soak.programs import Programs
from tests.soak.soak import Soak

# In the header of a safetensors file.
ODD: tuple[Any, ...] = (
    *(-1, 0, 2**62, 10**30, "x", None, [], {}, [0, 2**62], [8, 4], "F64", "BOOL"),
)
# More than the nursery has, and what one command may add to it; a second is enough for any.
LIMITS = {"AS": 8 * 2**30, "CPU": 30}
MOST_MIB = 1200.0


def tensors_of(place: Path | str) -> dict[str, Tensor]:
    """The weights of a model."""
    return PretrainedModel.from_pretrained(place).state_dict()


def require_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Fail unless these are the same weights."""
    assert found.keys() == expected.keys()
    other = [name for name in found if not torch.equal(found[name], expected[name])]
    assert not other, f"other weights: {other}"


def change_header(content: bytes, random: Random) -> bytes:
    """Change a value in the header of a safetensors file, which stays JSON."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    name = random.choice([name for name in header if name != "__metadata__"])
    if random.random() < 0.3:
        header[random.choice(("more", "", name * 40))] = header.pop(name)
    else:
        header[name][random.choice(sorted(header[name]))] = random.choice(ODD)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def test_damaged_models_are_refused_or_the_same(
    soak: Soak, model_folder: Path, tmp_path: Path
) -> None:
    expected = tensors_of(model_folder)

    def fault(random: Random) -> str:
        model = tmp_path / "model"
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(model_folder, model)
        path = random.choice((model / "config.json", model / "model.safetensors"))
        content, sealed = path.read_bytes(), random.random() < 0.5
        if path.suffix == ".safetensors" and sealed:
            change = random.choice((change_header, damaged))
            path.write_bytes(change(content, random))
            config = json.loads((model / "config.json").read_text())
            config["weights_xxh3"] = file_digest(path)
            (model / "config.json").write_text(json.dumps(config))
        else:
            path.write_bytes(damaged(content, random))
        changed = path.read_bytes() != content
        try:
            found = tensors_of(model)
        except AalbertError as error:
            assert str(model) in str(error), str(error)
            return f"exit {error.exit_code}"
        if path.suffix == ".safetensors" and changed:
            # With a checksum of its own, a file of other numbers is another model.
            assert sealed, "changed weights are taken"
            assert found.keys() == expected.keys()
        else:
            require_same(found, expected)
        return "right"

    soak.run("files: our checkpoints", fault)


def test_damaged_states_are_refused_or_the_same(
    soak: Soak, pretrained: Path, tmp_path: Path
) -> None:
    states = sorted((pretrained / "checkpoints").glob("*.ckpt"))
    expected = {state: tensors_of(f"{pretrained}@{step_of(state)}") for state in states}

    def fault(random: Random) -> str:
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(pretrained, run)
        original = random.choice(states)
        state = run / "checkpoints" / original.name
        content, sealed = state.read_bytes(), random.random() < 0.7
        change: Callable[[bytes, Random], bytes] = random.choice((damaged, rezipped, in_place))
        state.write_bytes(change(content, random))
        if sealed:
            seal = state.with_name(state.name + HASH_SUFFIX)
            seal.write_text(seal.read_text().replace(file_digest(original), file_digest(state)))
        try:
            found = tensors_of(f"{run}@{step_of(state)}")
        except AalbertError as error:
            assert state.name in str(error) or str(run) in str(error), str(error)
            return f"exit {error.exit_code}"
        if not sealed or state.read_bytes() == content:
            require_same(found, expected[original])
        assert found.keys() == expected[original].keys()
        return "right"

    soak.run("files: training states", fault)


def step_of(state: Path) -> int:
    """The step of a state, by its name."""
    return int(state.stem.removeprefix("step-"))


def in_place(content: bytes, random: Random) -> bytes:
    """Damage that leaves the size, mostly in numbers."""
    return random.choice(SAME_SIZE)(random, content)


def rezipped(content: bytes, random: Random) -> bytes:
    """Damage one member of a zip archive, with all of its checksums right."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        names = old.namelist()
        # The pickle is what means most.
        pickles = [name for name in names if name.endswith(".pkl")]
        chosen = random.choice([*names, *9 * pickles])
        for name in names:
            member = old.read(name)
            if name == chosen:
                kind = random.random()
                if kind < 0.1:
                    continue
                member = damaged(member, random)
            new.writestr(name, member)
            if name == chosen and random.random() < 0.05:
                new.writestr(f"{name}/../../x", member)
    return stream.getvalue()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Checkpoints of every layout, packed in the new way and the old one."""
    folder, sizes, found = tmp_path_factory.mktemp("foreign"), Sizes(), []
    for write in GENERATIONS.values():
        document: dict[str, Any] = write(sizes, make_transformer(sizes), make_head(sizes))
        for zipped in (True, False):
            torch.save(document, folder / "x", _use_new_zipfile_serialization=zipped)
            found.append((folder / "x").read_bytes())
    return found


def test_damaged_foreign_checkpoints_are_refused_or_read(
    soak: Soak, programs: Programs, foreign: list[bytes], tmp_path: Path
) -> None:
    def fault(random: Random) -> str:
        content, path = random.choice(foreign), tmp_path / "states.ckpt"
        changes = (
            (damaged, in_place, rezipped) if content.startswith(b"PK") else (damaged, in_place)
        )
        path.write_bytes(random.choice(changes)(content, random))
        out = tmp_path / "converted"
        shutil.rmtree(out, ignore_errors=True)
        command = random.choice((("inspect", path), ("convert", path, "--out", out)))
        before = set(tmp_path.rglob("*"))
        ended = programs.run(*command, folder=tmp_path, limits=LIMITS)
        outcome = ended.outcome()
        assert ended.peak_mib < MOST_MIB, f"{ended.peak_mib:.0f} MiB"
        made = {
            each for each in set(tmp_path.rglob("*")) - before if out not in (each, *each.parents)
        }
        assert not made, f"made {made}"
        assert outcome == "right" or not list(tmp_path.rglob("*.safetensors")), "half a model"
        return outcome

    soak.run("files: foreign checkpoints", fault)
