"""Damage to finished datasets: `verify` finds it, and nothing that is loaded is ever wrong."""

import shutil
from pathlib import Path
from random import Random

from tests.soak.programs import Programs
from tests.soak.soak import Soak


def test_verify_finds_every_damage(
    soak: Soak, programs: Programs, prepared: Path, tmp_path: Path
) -> None:
    def fault(random: Random) -> str:
        data = tmp_path / "data"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(prepared, data)
        path = random.choice(sorted(each for each in data.rglob("*") if each.is_file()))
        content = bytearray(path.read_bytes()) or bytearray(1)
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(content)
        outcome = programs.run("shards", "verify", data).outcome()
        assert outcome != "right", f"{path.name} is damaged, and nothing says so"
        return outcome

    soak.run("datasets: damage, verified", fault)
