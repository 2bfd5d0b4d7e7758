"""Models and finished runs, and what came of their evaluation."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from aalbert.common.configuration import load_config
from aalbert.models import (
    EncoderConfig,
    FrontEndConfig,
    HeadConfig,
    PretrainedModel,
    UpstreamConfig,
)
from aalbert.shards.format.feature_settings import LogMelSettings
from aalbert.shards.format.wave_settings import WaveSettings
from aalbert.train.downstream.config import DownstreamConfig, SplitConfig, TrialConfig
from aalbert.train.downstream.run import start_downstream
from aalbert.train.evaluation.evaluate import Evaluation, compare_evaluations, evaluate_runs
from aalbert.train.evaluation.report import write_reports
from aalbert.train.preset import read_preset
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.run import start_pretraining


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of two layers that stacks two frames of 20 mel bands; read only."""
    torch.manual_seed(4)
    config = UpstreamConfig(
        features=asdict(LogMelSettings(mels=20, wave=WaveSettings(loudness_db=-25.0))),
        front_end=FrontEndConfig(feature_dims=20, frames_stacked=2),
        encoder=EncoderConfig(layers=2, width=16, heads=2, feed_forward_width=32, initial_std=0.1),
    )
    folder = tmp_path_factory.mktemp("model")
    PretrainedModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pretrain_config() -> PretrainConfig:
    """A model that takes seconds."""
    return load_config(
        PretrainConfig,
        preset=read_preset("tiny"),
        assignments=(
            # s3prl, to which some tests export, has no rotary positions.
            "encoder.positions=sinusoidal",
            "encoder.norm=post",
            "optimiser.learning_rate=1e-3",
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
def verification() -> DownstreamConfig:
    """Verification by cosine, in which nothing is trained, on the list that the dataset stores.

    Of three utterances of a speaker two are on dev, so that there are trials of one speaker.
    """
    return DownstreamConfig(
        task="voxceleb1-verification",
        layers="mean",
        head=HeadConfig(classifier="none"),
        prefetch=0,
        splits=SplitConfig(dev="drawn", drawn_proportion=0.6),
        trials=TrialConfig(dev_count=8, known_speakers=True),
    )


@pytest.fixture(scope="session")
def normalised(verification: DownstreamConfig) -> DownstreamConfig:
    """Verification by cosine against a cohort, calibrated by quality."""
    return replace(
        verification,
        trials=TrialConfig(
            test="veri_test.txt", dev_count=40, normalisation="as-norm", calibration="quality"
        ),
    )


@pytest.fixture(scope="session")
def normalised_run(
    cohort_data: Path,
    pretrained: Path,
    normalised: DownstreamConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a finished run of `normalised`."""
    out = tmp_path_factory.mktemp("runs") / "normalised"
    start_downstream(normalised, cohort_data, str(pretrained), out)
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
