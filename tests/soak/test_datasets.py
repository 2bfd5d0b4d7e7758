"""Damage to finished datasets: `verify` finds it, and nothing that is loaded is ever wrong."""

import shutil
from pathlib import Path
from random import Random

import pytest

from aalbert.pipeline.corpora.synthesis import write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards.format.feature_settings import FbankSettings, LogMelSettings
from tests.soak.damage import BYTES, edit_and_seal
from tests.soak.programs import run_here
from tests.soak.soak import Soak


@pytest.fixture(scope="session")
def celebrities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of a dozen utterances in several shards, with files of the corpus; read only."""
    root = tmp_path_factory.mktemp("celebrities")
    write_voxceleb1(
        root / "corpus",
        speakers=3,
        videos_per_speaker=2,
        utterances_per_video=2,
        seed=3,
        seconds=(0.3, 0.8),
    )
    config = PrepareConfig(
        features=(LogMelSettings(mels=20), FbankSettings(mels=23)), shard_bytes=12_000
    )
    limits = PrepareLimits(engine=LocalEngine(workers=1))
    prepare(read_voxceleb1(root / "corpus"), root / "data", config, limits)
    return root / "data"


def fresh_copy(dataset: Path, folder: Path) -> Path:
    """A copy of the dataset in an empty folder, to be damaged."""
    if folder.exists():
        shutil.rmtree(folder)
    return Path(shutil.copytree(dataset, folder))


def test_verify_finds_every_damage(soak: Soak, celebrities: Path, tmp_path: Path) -> None:
    def fault(random: Random) -> str:
        data = fresh_copy(celebrities, tmp_path / "data")
        if random.random() < 0.5:
            damage = random.choice(BYTES)
            damage(random, data)
            what = damage.__name__
        else:
            what = edit_and_seal(random, data)
        outcome = run_here("shards", "verify", data).outcome()
        assert outcome != "right", f"{what}, and nothing says so"
        return outcome

    soak.run("datasets: damage, verified", fault)
