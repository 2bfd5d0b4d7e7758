"""Lightning's loggers, as a run uses them: what they are given, and that they never end it."""

import csv
import importlib
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aalbert.common.json_files import read_record
from aalbert.errors import ConfigError
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.run import resume_downstream, start_downstream
from aalbert.train.loop import loggers
from aalbert.train.loop.loggers import LoggerKind, LoggerOfRun
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.run import start_pretraining
from aalbert.train.run_folder import RunFolder

SETTINGS = {"optimiser.learning_rate": 0.1, "seed": 0}
ROWS = [{"step": step, "train_loss": 1.0 / step} for step in (10, 20, 30)]


class Kept(Logger):
    """A logger that keeps what it is given, and fails while it is told to."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.fails = False

    @property
    def name(self) -> str:
        return "kept"

    @property
    def version(self) -> str:
        return "id-7"

    @property
    def experiment(self) -> None:
        return None

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if self.fails:
            raise ConnectionError("no route to server\nat all")
        self.calls.append((step, metrics))

    def log_hyperparams(self, params: Any) -> None:
        self.calls.append(params)

    def finalize(self, status: str) -> None:
        self.calls.append(status)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """Stands for the logger `mlflow`, under every id."""
    logger = Kept()

    def open_it(folder: Path, id: str | None) -> Logger:
        logger.calls.append(("open", id))
        return logger

    monkeypatch.setitem(loggers.LOGGERS, "mlflow", LoggerKind(open_it))
    yield logger


def open_logger(folder: Path, *, history: Any = (), kept: Any = ()) -> LoggerOfRun:
    return LoggerOfRun("mlflow", folder, SETTINGS, list(history), list(kept))


def test_a_resumed_run_goes_on_under_its_id_and_repeats_no_number(
    kept: Kept, tmp_path: Path
) -> None:
    first = open_logger(tmp_path)
    for row in ROWS:
        first.write(**row)
    first.close(failed=True)
    assert kept.calls[:3] == [("open", None), SETTINGS, (10, {"train_loss": 0.1})]
    assert kept.calls[-1] == "failed"
    kept.calls.clear()
    # From the state of step 20 on: step 30 is made again, and 40 is new.
    resumed = open_logger(tmp_path, history=ROWS, kept=ROWS[:2])
    for row in (ROWS[2], {"step": 30, "dev_loss": 2.0}, {"step": 40, "train_loss": 0.5}):
        resumed.write(**row)
    resumed.close(failed=False)
    numbers = [(30, {"dev_loss": 2.0}), (40, {"train_loss": 0.5})]
    assert kept.calls == [("open", "id-7"), *numbers, "success"]


def test_a_logger_that_is_new_to_a_resumed_run_gets_what_was_measured_before(
    kept: Kept, tmp_path: Path
) -> None:
    open_logger(tmp_path, history=ROWS, kept=ROWS[:2]).write(**ROWS[2])
    assert kept.calls[:2] == [("open", None), SETTINGS]
    assert [step for step, _ in kept.calls[2:]] == [10, 20, 30]


def test_a_server_that_is_gone_ends_no_run_and_gets_everything_later(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = open_logger(tmp_path)
    kept.calls.clear()
    kept.fails = True
    for row in ROWS[:2]:
        logger.write(**row)
    # Said once, since it is not tried again at every step.
    assert capsys.readouterr().err == (
        "warning: the logger 'mlflow' failed (no route to server): training goes on, and it is "
        "tried again after 10 minutes\n"
    )
    assert kept.calls == []
    kept.fails = False
    logger.retry_at = 0.0
    logger.write(**ROWS[2])
    assert [step for step, _ in kept.calls] == [10, 20, 30]
    kept.fails = True
    logger.write(step=40, train_loss=1.0)
    logger.close(failed=False)
    assert "did not take 1 measurements of this run" in capsys.readouterr().err


def test_a_logger_that_cannot_be_opened_ends_a_run_before_it_begins(
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(folder: Path, id: str | None) -> Logger:
        raise ConnectionError("no route to server")

    monkeypatch.setitem(loggers.LOGGERS, "comet", LoggerKind(refuse))
    config = replace(pretrain_config, loggers=("comet",))
    message = r"logger 'comet' cannot be opened \(no route to server\): see to it, or leave it out"
    with pytest.raises(ConfigError, match=message):
        start_pretraining(config, [librispeech_data], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_logger_that_is_not_installed_says_what_to_install(
    voxceleb1_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    config = DownstreamConfig(loggers=("csv", "wandb"))
    with pytest.raises(ConfigError, match=r"'wandb' is not installed: pip install 'aalbert\[wandb"):
        start_downstream(config, voxceleb1_data, "logmel", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def scalars(run: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows of a number, by step."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def measured(run: Path, name: str) -> list[tuple[int, Any]]:
    """What a run's own file has of a number, by step, up to the precision of others."""
    rows = RunFolder(run).read_metrics()
    return [(row["step"], pytest.approx(row[name])) for row in rows if name in row]


def test_files_of_tensorboard_and_csv_have_every_number_once_after_a_resume(
    voxceleb1_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    config = DownstreamConfig(epochs=3, prefetch=0, loggers=("tensorboard", "csv"))
    start_downstream(config, voxceleb1_data, "logmel", run)
    # As if it had been killed after the second epoch, with what it logged since.
    [*_, last] = sorted((run / "checkpoints").glob("*.ckpt"))
    last.unlink()
    resume_downstream(run, "voxceleb1")
    with (run / "csv" / "metrics.csv").open() as stream:
        table = list(csv.DictReader(stream))
    for name in ("train_loss", "learning_rate", "dev_accuracy"):
        expected = measured(run, name)
        assert len(expected) == 3
        assert scalars(run, name) == expected
        rows = [(int(row["step"]), float(row[name])) for row in table if row[name]]
        assert rows == expected
    for folder in ("csv", "tensorboard"):
        settings = (run / folder / "hparams.yaml").read_text()
        assert "learning_rate: 0.03" in settings and "upstream: logmel" in settings


@pytest.mark.slow
def test_measurements_go_to_tensorboard_and_to_weights_and_biases_offline(
    librispeech_data: Path,
    pretrain_config: PretrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(sys, "argv", ["aalbert", "--data", "s3://me:swordfish@bucket"])
    run = tmp_path / "run"
    config = replace(pretrain_config, loggers=("tensorboard", "wandb"))
    start_pretraining(config, [librispeech_data], run)
    for name in ("train_loss", "validation_loss", "learning_rate"):
        assert scalars(run, name) == measured(run, name)
    [offline] = run.glob("wandb/offline-run-*/*.wandb")
    assert importlib.import_module("wandb").run is None, "the run was not ended"
    content = offline.read_bytes()
    assert b"validation_loss" in content and b"optimiser.learning_rate" in content
    ids = read_record(loggers.LoggerIds, run / "loggers.json", "").ids
    assert ids["wandb"] in offline.name
    written = [path.read_bytes() for path in run.rglob("*") if path.is_file()]
    assert not any(b"swordfish" in content for content in written)


def test_mlflow_gets_experiment_run_settings_and_measurements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's own logger, on a stand-in for the package, which is not installed here."""
    calls: list[Any] = []
    fake_mlflow(monkeypatch, calls)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "speech")
    for name in ("MLFLOW_TRACKING_URI", *loggers.MLFLOW_PATIENCE):
        # Set first, so that what the code under test sets is taken back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    one = LoggerOfRun("mlflow", tmp_path / "speaker", SETTINGS, [], [])
    one.write(**ROWS[0])
    one.close(failed=False)
    assert calls[0] == ("client", f"sqlite:///{tmp_path / 'speaker' / 'mlflow.db'}")
    assert ("experiment", "speech") in calls
    assert ("params", "run-1", {"optimiser.learning_rate": "0.1", "seed": "0"}) in calls
    assert ("metrics", "run-1", {("train_loss", 10): 0.1}) in calls
    assert calls[-1] == ("ended", "run-1", "FINISHED")
    again = LoggerOfRun("mlflow", tmp_path / "speaker", SETTINGS, ROWS[:1], ROWS[:1])
    again.write(**ROWS[1])
    assert calls[-1] == ("metrics", "run-1", {("train_loss", 20): 0.05})
    assert sum(call[0] == "created" for call in calls) == 1


def fake_mlflow(monkeypatch: pytest.MonkeyPatch, calls: list[Any]) -> None:
    """Put a module in the place of MLflow, with as much of it as Lightning uses."""

    class Entity(types.SimpleNamespace):
        pass

    class Client:
        def __init__(self, uri: str) -> None:
            calls.append(("client", uri))

        def get_experiment_by_name(self, name: str) -> None:
            calls.append(("experiment", name))

        def create_experiment(self, name: str, artifact_location: str) -> str:
            return "1"

        def create_run(self, experiment_id: str, tags: Any) -> Entity:
            calls.append(("created", tags))
            return Entity(info=Entity(run_id="run-1"))

        def get_run(self, run_id: str) -> Entity:
            return Entity(info=Entity(experiment_id="1"))

        def log_batch(self, run_id: str, params: Any = (), metrics: Any = ()) -> None:
            if params:
                calls.append(("params", run_id, {one.key: one.value for one in params}))
            if metrics:
                numbers = {(one.key, one.step): one.value for one in metrics}
                calls.append(("metrics", run_id, numbers))

        def set_terminated(self, run_id: str, status: str) -> None:
            calls.append(("ended", run_id, status))

    contents: dict[str, dict[str, Any]] = {
        "mlflow": {"set_tracking_uri": lambda uri: None},
        "mlflow.entities": {"Param": Entity, "Metric": Entity},
        "mlflow.tracking": {"MlflowClient": Client},
        "mlflow.tracking.context": {"resolve_tags": lambda tags: tags},
        "mlflow.utils": {},
        "mlflow.utils.mlflow_tags": {"MLFLOW_RUN_NAME": "mlflow.runName"},
    }
    for name, members in contents.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["mlflow.tracking"].context = sys.modules["mlflow.tracking.context"]  # type: ignore
    monkeypatch.setattr("pytorch_lightning.loggers.mlflow._MLFLOW_AVAILABLE", True)
