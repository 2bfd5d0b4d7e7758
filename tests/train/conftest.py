from pathlib import Path

import pytest

from aalbert.common.configuration import load_config
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.synthesis import write_librispeech, write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards.format.feature_settings import LinearSettings, LogMelSettings
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.run import start_downstream
from aalbert.train.evaluation.evaluate import Evaluation, compare_evaluations, evaluate_runs
from aalbert.train.evaluation.report import write_reports
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.run import start_pretraining
from aalbert.train.recipes import read_preset

CONFIG = PrepareConfig(features=(LogMelSettings(mels=20),))
LIMITS = PrepareLimits(engine=LocalEngine(workers=1))


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
def pretrain_config() -> PretrainConfig:
    """A model that takes seconds."""
    return load_config(
        PretrainConfig,
        preset=read_preset("tiny"),
        assignments=(
            "encoder.width=32",
            "encoder.feed_forward_width=64",
            "encoder.dropout=0.1",
            "front_end.feature_dims=20",
            "data.batch_seconds=6",
            "data.prefetch=0",
            "steps=12",
            "validate_every_steps=4",
            "log_every_steps=1",
        ),
        environment={},
    )


@pytest.fixture(scope="session")
def pretrained(
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a finished pretraining run."""
    out = tmp_path_factory.mktemp("runs") / "pretrain"
    start_pretraining(pretrain_config, [librispeech_data], out)
    return out


@pytest.fixture(scope="session")
def speaker_run(
    voxceleb1_data: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a finished downstream run."""
    out = tmp_path_factory.mktemp("runs") / "speaker"
    start_downstream(DownstreamConfig(epochs=3, prefetch=0), voxceleb1_data, str(pretrained), out)
    return out


@pytest.fixture(scope="session")
def evaluations(
    speaker_run: Path, voxceleb1_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Evaluation]:
    """A run and one of plain features in a folder with a hostile name, evaluated together."""
    out = tmp_path_factory.mktemp("runs") / "<script>alert(1)<"
    config = DownstreamConfig(epochs=1, prefetch=0)
    start_downstream(config, voxceleb1_data, "logmel", out)
    evaluated = evaluate_runs([speaker_run, out])
    write_reports(evaluated, compare_evaluations(evaluated))
    return evaluated
