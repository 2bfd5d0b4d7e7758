import shutil
from pathlib import Path

import pytest

from aalbert.pipeline.librispeech import read_librispeech
from aalbert.pipeline.plan import PrepareConfig
from aalbert.pipeline.pool import LocalEngine
from aalbert.pipeline.prepare import PrepareLimits, prepare
from aalbert.pipeline.synthesis import write_librispeech
from aalbert.shards.settings import FbankSettings, LogMelSettings


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real speech and golden numbers beside the project."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is not beside the project")
    return folder


@pytest.fixture(autouse=True)
def no_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what tests cache out of the user's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture(scope="session")
def librispeech_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic LibriSpeech, 24 + 6 utterances of half a second; read only."""
    root = tmp_path_factory.mktemp("corpora") / "LibriSpeech"
    write_librispeech(root, speakers=4, utterances_per_speaker=6, seed=3, seconds=(0.3, 0.8))
    write_librispeech(
        root,
        speakers=2,
        utterances_per_speaker=3,
        seed=3,
        seconds=(0.3, 0.8),
        subset="dev-clean",
        first_speaker=500,
    )
    return root


@pytest.fixture(scope="session")
def small_config() -> PrepareConfig:
    """Both features, in shards of a few utterances."""
    return PrepareConfig(features=(LogMelSettings(), FbankSettings()), shard_bytes=60_000)


@pytest.fixture(scope="session")
def prepared(
    librispeech_folder: Path, small_config: PrepareConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The dataset of `librispeech_folder`; read only."""
    out = tmp_path_factory.mktemp("prepared") / "data"
    prepare(
        read_librispeech(librispeech_folder),
        out,
        small_config,
        PrepareLimits(engine=LocalEngine(workers=1)),
    )
    return out


@pytest.fixture
def dataset_copy(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, to be damaged."""
    return Path(shutil.copytree(prepared, tmp_path / "data"))
