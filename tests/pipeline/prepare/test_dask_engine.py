import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aalbert.commands.prepare_corpus import make_engine
from aalbert.errors import ConfigError, InputError, WorkersDiedError
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.dask_engine import DaskEngine
from aalbert.pipeline.prepare.plan import make_plan
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.pipeline.prepare.work_folder import Amount
from tests.pipeline.prepare.test_engine import DeadlyOutput
from tests.trees import tree

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        silence_logs="CRITICAL",
    ) as cluster:
        yield cluster


@pytest.fixture
def corpus(librispeech_folder: Path) -> Corpus:
    return read_librispeech(librispeech_folder)


def test_a_cluster_of_two_workers_writes_the_bytes_of_one_process(
    cluster: Any, prepared: Path, corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    engine = DaskEngine(address=cluster.scheduler_address)
    assert engine.workers == 2
    prepare(corpus, tmp_path / "data", small_config, PrepareLimits(engine=engine))
    assert tree(tmp_path / "data") == tree(prepared)


def test_the_shard_of_a_killed_worker_is_computed_by_another(
    cluster: Any, prepared: Path, corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    out.mkdir()
    tasks = make_plan(corpus, small_config)
    shown: list[Amount] = []
    output = DeadlyOutput(folder=out, path=f"{tasks[2].name}.tar")
    DaskEngine(address=cluster.scheduler_address).run(tasks, output, shown.append)
    assert (out / "died").exists()
    assert shown[-1].taken == len(corpus.utterances)
    written = {path: data for path, data in tree(out).items() if path.endswith(".tar")}
    assert written == {p: data for p, data in tree(prepared).items() if p.endswith(".tar")}


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a scheduler that has no workers, and starts none."""
    with distributed.LocalCluster(
        n_workers=0,
        processes=False,
        dashboard_address="127.0.0.1:0",
        protocol="tcp",
        host="127.0.0.1",
    ) as cluster:
        yield cluster.scheduler_address


def test_a_cluster_without_workers_ends_the_run(
    scheduler: str,
    corpus: Corpus,
    small_config: PrepareConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aalbert.pipeline.prepare.dask_engine.NO_WORKER_LIMIT_S", 0.5)
    monkeypatch.setattr("aalbert.pipeline.prepare.dask_engine.POLL_S", 0.1)
    with pytest.raises(WorkersDiedError) as caught:
        prepare(
            corpus,
            tmp_path / "data",
            small_config,
            PrepareLimits(engine=DaskEngine(address=scheduler)),
        )
    assert str(caught.value) == (
        f"{scheduler} has had no worker for 0.5 s: they died, or none was started. Start "
        "workers, with enough memory, and run the same command again: it continues"
    )


@pytest.mark.slow
def test_workers_that_died_and_are_not_restarted_end_the_run(
    scheduler: str,
    corpus: Corpus,
    small_config: PrepareConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aalbert.pipeline.prepare.dask_engine.NO_WORKER_LIMIT_S", 2)
    monkeypatch.setattr("aalbert.pipeline.prepare.dask_engine.POLL_S", 0.2)
    tasks = make_plan(corpus, small_config)
    output = DeadlyOutput(folder=tmp_path, path=f"{tasks[0].name}.tar", always=True)
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--no-nanny"]
    worker = subprocess.Popen([*command, "--no-dashboard"], stderr=subprocess.DEVNULL)
    try:
        with distributed.Client(scheduler) as client:
            client.wait_for_workers(1, timeout=60)
        with pytest.raises(WorkersDiedError, match="has had no worker for 2 s: they died"):
            DaskEngine(address=scheduler).run(tasks, output, lambda _: None)
        assert worker.wait(timeout=10) == -signal.SIGKILL
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_ends_the_run(
    cluster: Any,
    corpus: Corpus,
    small_config: PrepareConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dask tries it on others, or stops starting workers; the run ends either way."""
    monkeypatch.setattr("aalbert.pipeline.prepare.dask_engine.NO_WORKER_LIMIT_S", 30)
    tasks = make_plan(corpus, small_config)
    output = DeadlyOutput(folder=tmp_path, path=f"{tasks[0].name}.tar", always=True)
    with pytest.raises(WorkersDiedError, match=r"kept dying|has had no worker for 30 s"):
        DaskEngine(address=cluster.scheduler_address).run(tasks, output, lambda _: None)


def test_a_scheduler_that_is_not_there_is_named(
    corpus: Corpus, small_config: PrepareConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aalbert.pipeline.prepare.dask_engine.CONNECT_S", 0.5)
    engine = DaskEngine(address="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="no Dask scheduler responds at tcp://127.0.0.1:9: "):
        prepare(corpus, tmp_path / "data", small_config, PrepareLimits(engine=engine))


def test_an_engine_needs_its_own_options_and_no_others() -> None:
    with pytest.raises(ConfigError, match="--engine dask needs --dask-address"):
        make_engine("dask")
    with pytest.raises(ConfigError, match="leave out --workers"):
        make_engine("dask", workers=2, dask_address="tcp://127.0.0.1:9")
    with pytest.raises(ConfigError, match="--dask-address tcp://x:1 needs --engine dask"):
        make_engine("local", dask_address="tcp://x:1")
    assert make_engine("local", workers=3).workers == 3
    assert make_engine().workers >= 1
