"""Synthetic corpora, and the datasets that are prepared from them."""

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.synthesis import write_librispeech, write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards.format.feature_settings import FbankSettings, LinearSettings, LogMelSettings
from aalbert.shards.reading.dataset import Dataset

CONFIG = PrepareConfig(features=(LogMelSettings(mels=20),))
LIMITS = PrepareLimits(engine=LocalEngine(workers=1))


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


@pytest.fixture(scope="session")
def librispeech_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve synthetic readers, prepared with 20 mel bands and a spectrum of 33 bins."""
    root = tmp_path_factory.mktemp("librispeech")
    write_librispeech(
        root / "corpus", speakers=12, utterances_per_speaker=2, seed=3, seconds=(1.0, 2.0)
    )
    spectrum = LinearSettings(fft_size=64, window_length_ms=4.0)
    config = PrepareConfig(features=(*CONFIG.features, spectrum))
    prepare(read_librispeech(root / "corpus"), root / "data", config, LIMITS)
    return root / "data"


@pytest.fixture(scope="session")
def alignments(librispeech_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phone for every 10 ms: loud or quiet, so that there is something to learn."""
    dataset = Dataset(librispeech_data)
    path = tmp_path_factory.mktemp("alignments") / "phones.txt"
    lines = []
    for row in range(len(dataset)):
        loudness = dataset.features(row, "logmel").astype(np.float32).mean(axis=1)[:-1]
        loud = loudness > np.quantile(loudness, 0.4)
        lines.append(" ".join([dataset.key(row), *("7" if each else "3" for each in loud)]))
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="session")
def voxceleb1_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four synthetic celebrities, prepared with 20 mel bands."""
    root = tmp_path_factory.mktemp("voxceleb1")
    write_voxceleb1(
        root / "corpus",
        speakers=4,
        videos_per_speaker=3,
        utterances_per_video=2,
        seed=3,
        seconds=(1.0, 1.5),
    )
    prepare(read_voxceleb1(root / "corpus"), root / "data", CONFIG, LIMITS)
    return root / "data"


@pytest.fixture(scope="session")
def cohort_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine synthetic celebrities; only two are in the trials of VoxCeleb1-O, most in -E and -H."""
    root = tmp_path_factory.mktemp("cohort")
    write_voxceleb1(
        root / "corpus",
        speakers=9,
        videos_per_speaker=3,
        utterances_per_video=2,
        seed=5,
        seconds=(0.6, 1.2),
    )
    shutil.copy(root / "corpus/veri_test.txt", root / "corpus/veri_test2.txt")
    listed = (root / "corpus/iden_split.txt").read_text().split()[1::2]
    lines = [
        f"{int(one.split('/')[0] == other.split('/')[0])} {one} {other}\n"
        for one, other in combinations(listed, 2)
    ]
    (root / "corpus/list_test_all2.txt").write_text("".join(lines[::7]))
    (root / "corpus/list_test_hard2.txt").write_text("".join(lines[3::11]))
    prepare(read_voxceleb1(root / "corpus"), root / "data", CONFIG, LIMITS)
    return root / "data"
