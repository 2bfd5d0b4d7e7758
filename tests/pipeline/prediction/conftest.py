from dataclasses import replace
from pathlib import Path

import pytest

from aalbert.models import HeadConfig
from aalbert.shards import Dataset
from aalbert.train.downstream.config import DownstreamConfig, LabelConfig, SplitConfig
from aalbert.train.downstream.run import start_downstream


@pytest.fixture(scope="session")
def phone_run(
    librispeech_data: Path,
    alignments: Path,
    pretrained: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a finished run that classifies frames, three of which are one."""
    config = DownstreamConfig(
        task="librispeech-phone",
        layers="last",
        head=HeadConfig(pooling="none"),
        labels=LabelConfig(alignments=str(alignments)),
        splits=SplitConfig(train="train-clean-100", dev="drawn", test="drawn"),
        epochs=2,
        crop_seconds=0.0,
        prefetch=0,
    )
    out = tmp_path_factory.mktemp("runs") / "phone"
    start_downstream(config, librispeech_data, str(pretrained), out)
    return out


@pytest.fixture(scope="session")
def verification_run(
    voxceleb1_data: Path,
    pretrained: Path,
    verification: DownstreamConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a finished run of verification, tested on all pairs of the test part."""
    dataset = Dataset(voxceleb1_data)
    rows, speakers = dataset.rows(["test"]), dataset.column("speaker")
    # As VoxCeleb's lists name them: speaker, video, file.
    sources = [str(source).removeprefix("wav/") for source in dataset.column("source")]
    folder = tmp_path_factory.mktemp("verification")
    lines = [
        f"{int(speakers[one] == speakers[other])} {sources[one]} {sources[other]}"
        for one in rows
        for other in rows
        if one < other
    ]
    (folder / "veri_test.txt").write_text("\n".join(lines))
    trials = replace(verification.trials, test=str(folder / "veri_test.txt"))
    config = replace(verification, trials=trials)
    start_downstream(config, voxceleb1_data, str(pretrained), folder / "run")
    return folder / "run"
