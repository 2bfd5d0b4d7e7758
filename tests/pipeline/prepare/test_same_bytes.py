"""The bytes of a dataset depend on its inputs and settings alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from tests.trees import tree

SETTINGS = ["--set", "shard_bytes=60000", "--feature", "logmel", "--feature", "fbank"]
OTHER_MACHINE = {
    "LC_ALL": "C",
    "TZ": "Pacific/Kiritimati",
    "HOME": "/nonexistent",
    "USER": "somebody",
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "PYTHONHASHSEED": "7",
}


def test_locale_time_zone_umask_user_home_and_threads_change_nothing(
    librispeech_folder: Path, prepared: Path, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    subprocess.run(
        [sys.executable, "-m", "aalbert", "prepare", "librispeech", str(librispeech_folder)]
        + ["--out", str(out), "--workers", "2", *SETTINGS],
        env={**os.environ, **OTHER_MACHINE},
        umask=0o077,
        check=True,
        capture_output=True,
    )
    assert tree(out) == tree(prepared)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_any_number_of_workers_writes_the_same_bytes(
    shared: Path, small_config: PrepareConfig, tmp_path: Path, workers: int
) -> None:
    """On real speech, in shards of about 20 s."""
    corpus = read_librispeech(shared / "data" / "LibriSpeech", ["test-clean", "train-clean-100"])
    some = [item for item in corpus.utterances if item.split == "test-clean"]
    some += [item for item in corpus.utterances if item.split != "test-clean"][:60]
    corpus = type(corpus)(**{**vars(corpus), "utterances": tuple(some)})
    config = PrepareConfig(features=small_config.features, shard_bytes=640_000)
    for name, count in (("a", 1), ("b", workers)):
        prepare(corpus, tmp_path / name, config, PrepareLimits(engine=LocalEngine(workers=count)))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
