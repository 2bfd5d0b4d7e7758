import os
import signal
import sys
from pathlib import Path

import hypothesis
import pytest
import torch

# Fixtures.
from tests.datasets import (  # noqa: F401
    alignments,
    cohort_data,
    dataset_copy,
    librispeech_data,
    librispeech_folder,
    prepared,
    small_config,
    voxceleb1_data,
)
from tests.runs import (  # noqa: F401
    evaluations,
    model_folder,
    normalised,
    normalised_run,
    pretrain_config,
    pretrained,
    speaker_run,
    verification,
)
from tests.spoken import recognition_run, regression_run, spoken_data  # noqa: F401
from tests.stores import (  # noqa: F401
    hub,
    hub_model,
    s3,
    s3_client,
    s3_port,
    small_disk,
)

# On a busy machine one example may take longer than Hypothesis allows by default.
hypothesis.settings.register_profile("without deadlines", deadline=None)
hypothesis.settings.load_profile("without deadlines")


def pytest_configure() -> None:
    """Compute with one thread here and in all processes that tests start.

    Tests run beside each other, and the threads of several processes on the same cores wait for
    one another. Nothing asks the real hub, whose client reads the variable when it is imported,
    here by what is imported above.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    if "huggingface_hub" in sys.modules:
        sys.modules["huggingface_hub"].constants.HF_HUB_OFFLINE = True
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
