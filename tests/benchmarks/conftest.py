from pathlib import Path

import pytest

from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.synthesis import write_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.prepare import prepare
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.shards.reading.dataset import Dataset


@pytest.fixture(scope="session")
def phone_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `data`, and the labels and lists of phones."""
    root = tmp_path_factory.mktemp("race")
    write_librispeech(root, speakers=4, utterances_per_speaker=4, seed=1, seconds=(1.0, 1.5))
    prepare(read_librispeech(root), root / "data", PrepareConfig(features=(LogMelSettings(),)))
    keys = Dataset(root / "data").table.column("key").to_pylist()
    for part, own in (("train", keys[:8]), ("dev", keys[8:10]), ("test", keys[10:])):
        (root / f"{part}_list.txt").write_text("\n".join(own) + "\n")
    return root
