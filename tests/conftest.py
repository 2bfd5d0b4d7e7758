import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
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
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.synthesis import write_librispeech, write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards.format.feature_settings import FbankSettings, LinearSettings, LogMelSettings
from aalbert.shards.format.wave_settings import WaveSettings
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import DownstreamConfig, SplitConfig, TrialConfig
from aalbert.train.downstream.run import start_downstream
from aalbert.train.evaluation.evaluate import Evaluation, compare_evaluations, evaluate_runs
from aalbert.train.evaluation.report import write_reports
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.run import start_pretraining
from aalbert.train.recipes import read_preset
from tests.hub_server import FakeHub, Repository
from tests.local_server import serving

# Fixtures.
from tests.spoken import recognition_run, regression_run, spoken_data  # noqa: F401

# On a busy machine one example may take longer than Hypothesis allows by default.
hypothesis.settings.register_profile("without deadlines", deadline=None)
hypothesis.settings.load_profile("without deadlines")


def pytest_configure() -> None:
    """Compute with one thread here and in all processes that tests start.

    Tests run beside each other, and the threads of several processes on the same cores wait for
    one another. Nothing asks the real hub, whose client reads the variable when it is imported.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def signals_that_nobody_ignores() -> None:
    """In the background SIGINT may be ignored, under nohup SIGHUP is, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run `-n auto` with half as many more processes as there are cores.

    Tests that wait, for programs that they start or for time to pass, leave a core idle.
    """
    return len(os.sched_getaffinity(0)) * 3 // 2 if sys.platform == "linux" else os.cpu_count() or 1


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


@pytest.fixture
def dataset_copy(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, to be damaged."""
    return Path(shutil.copytree(prepared, tmp_path / "data"))


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """An S3 server on a free port of this machine.

    These fixtures import what they need themselves: tests that need a GPU run without it.
    """
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def s3_client(s3_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of that server that is not fsspec; environment variables lead others there."""
    import boto3  # type: ignore[import-untyped]

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{s3_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    client = boto3.client("s3")
    yield client
    client.close()


@pytest.fixture
def s3(s3_client: Any) -> Iterator[str]:
    """The URL of an empty bucket."""
    import s3fs

    s3_client.create_bucket(Bucket="bucket")
    # fsspec keeps instances, and with them the environment of their time.
    s3fs.S3FileSystem.clear_instance_cache()
    yield "s3://bucket"
    s3fs.S3FileSystem.clear_instance_cache()
    for item in s3_client.list_objects_v2(Bucket="bucket").get("Contents", []):
        s3_client.delete_object(Bucket="bucket", Key=item["Key"])
    s3_client.delete_bucket(Bucket="bucket")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on this machine, and its client, which keeps what it fetches in a folder of the test.

    The client has read its settings from the environment when it was imported.
    """
    from huggingface_hub import close_session, constants

    with serving(FakeHub()) as server:
        address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "HF_HUB_OFFLINE": False,
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": address,
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server
        close_session()


@pytest.fixture
def hub_model(hub: FakeHub, model_folder: Path) -> Repository:
    """The repository `user/model` with the model of `model_folder`, and a tag of it."""
    repository = Repository()
    files = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    repository.references["v1"] = repository.commit({**files, "big.bin": bytes(2**20)})
    hub.repositories["user/model"] = repository
    return repository


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a small disk needs root")
    command = [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    tried = subprocess.run(command, capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {tried.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


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
