"""Runs of two processes that communicate over gloo, started as `torchrun` starts them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch.distributed import DistNetworkError, TCPStore  # type: ignore[attr-defined]

from aalbert.common.configuration import to_yaml
from aalbert.errors import ConfigError, LostRankError
from aalbert.models.training_states import step_of
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig
from aalbert.shards.loading.loader import Stream
from aalbert.shards.reading.dataset import Selection
from aalbert.train.loop import ranks as ranks_module
from aalbert.train.loop.ranks import Ranks, describe_failure
from aalbert.train.pretraining.build import PretrainSelections, make_loaders
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.pretraining.run import resume_pretraining, start_pretraining
from aalbert.train.pretraining.start import open_start
from aalbert.train.run_folder import RunFolder
from tests.two_ranks import LIMIT_S, Started, wait_for_metrics

STEPS = 8

# Joins two ranks, of which the first gets a signal while the other waits for what it computes.
LOSE_THE_FIRST = """
import os, signal, socket, sys
from datetime import timedelta
import torch.distributed as dist
from aalbert.errors import LostRankError
from aalbert.train.loop import ranks as ranks_module
from aalbert.train.loop.ranks import find_ranks

ranks_module.GRACE_S = 1.0
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = str(probe.getsockname()[1])
first = os.fork()
rank = "1" if first else "0"
os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
               "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
               "TORCHELASTIC_RUN_ID": "test"}
dist.init_process_group("gloo", timeout=timedelta(seconds=30))
ranks = find_ranks(timeout_s=5.0)
ranks.join()
try:
    with ranks.reporting_failures():
        # After this, both are there.
        ranks.from_first(os.getpid)
        ranks.from_first(lambda: os.kill(os.getpid(), signal.Signals[sys.argv[1]]))
except LostRankError as error:
    print(error, flush=True)
os.kill(first, signal.SIGKILL)
os._exit(0)
"""


def losses_of(run: Path) -> list[tuple[int, str, float]]:
    """Return every loss that a run measured, with its step and name."""
    return [
        (row["step"], name, row[name])
        for row in RunFolder(run).read_metrics()
        for name in ("train_loss", "validation_loss")
        if name in row
    ]


@pytest.fixture(scope="module")
def config(pretrain_config: PretrainConfig) -> PretrainConfig:
    """Two batches a step, without dropout, which depends on the rank."""
    return replace(
        pretrain_config,
        encoder=replace(pretrain_config.encoder, dropout=0.0),
        data=replace(pretrain_config.data, batch_seconds=3.0, crop_seconds=2.0),
        steps=STEPS,
        validate_every_steps=2,
        keep_checkpoints=4,
        batches_per_step=2,
        timeout_s=60.0,
    )


@pytest.fixture(scope="module")
def one_process(
    config: PretrainConfig, librispeech_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run of one process, which accumulates the gradients of both batches."""
    run = tmp_path_factory.mktemp("one") / "run"
    start_pretraining(config, [librispeech_data], run)
    return run


@pytest.fixture
def arguments(config: PretrainConfig, librispeech_data: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    settings = ["pretrain", "--config", str(tmp_path / "config.yaml")]
    return [*settings, "--data", str(librispeech_data), "--out", str(tmp_path / "run")]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(
    one_process: Path, arguments: list[str], tmp_path: Path
) -> None:
    """Two ranks, one shard, and a last batch that is smaller: training and held-out losses."""
    assert [code for code, _ in Started(tmp_path, arguments).finish()] == [0, 0]
    expected, measured = losses_of(one_process), losses_of(tmp_path / "run")
    assert [loss[:2] for loss in measured] == [loss[:2] for loss in expected]
    assert [loss[2] for loss in measured] == pytest.approx([loss[2] for loss in expected], rel=1e-4)
    records = [RunFolder(run).read_record() for run in (one_process, tmp_path / "run")]
    one, two = (record["trivial_predictors"] for record in records)
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.slow
def test_two_processes_continue_from_a_model_as_one_does(
    one_process: Path,
    arguments: list[str],
    config: PretrainConfig,
    librispeech_data: Path,
    tmp_path: Path,
) -> None:
    start = open_start(one_process)
    start_pretraining(config, [librispeech_data], tmp_path / "one", start=start)
    results = Started(tmp_path, [*arguments, "--from", str(one_process)]).finish()
    assert [code for code, _ in results] == [0, 0]
    assert ["continues from" in error for _, error in results] == [True, False]
    expected, measured = losses_of(tmp_path / "one"), losses_of(tmp_path / "run")
    assert [loss[:2] for loss in measured] == [loss[:2] for loss in expected]
    assert [loss[2] for loss in measured] == pytest.approx([loss[2] for loss in expected], rel=1e-4)


def test_held_out_utterances_have_the_same_numbers_on_every_rank(
    config: PretrainConfig, librispeech_data: Path
) -> None:
    """Also with a dataset that has too few of them for some ranks: masks depend on the numbers."""
    data = Dataset(librispeech_data)
    few, more = (Selection(data, np.array(rows)) for rows in ([3], [1, 2]))
    training = [Selection(data, np.arange(4, len(data)))] * 2
    selections = PretrainSelections(training, [few, more])
    held_out = [make_loaders(config, selections, Ranks(rank, 2))[1] for rank in range(2)]
    rows = [[row for batch in loader for row in batch.rows.tolist()] for loader in held_out]
    assert [sorted(of_rank) for of_rank in rows] == [[3, len(data) + 1], [len(data) + 2]]
    for rank in range(3):
        with pytest.raises(ConfigError, match="3 ranks need 3 held-out utterances"):
            make_loaders(config, selections, Ranks(rank, 3))


@pytest.mark.slow
def test_a_run_moves_from_one_process_to_two_and_back(one_process: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(one_process, run)
    expected = losses_of(one_process)
    forget_after(run, step=2)
    results = Started(tmp_path, ["pretrain", "--resume", "--out", str(run)]).finish()
    assert [code for code, _ in results] == [0, 0]
    assert [loss[:2] for loss in losses_of(run)] == [loss[:2] for loss in expected]
    forget_after(run, step=6)
    resume_pretraining(run)
    measured = losses_of(run)
    assert [loss[:2] for loss in measured] == [loss[:2] for loss in expected]
    assert [loss[2] for loss in measured] == pytest.approx([loss[2] for loss in expected], rel=1e-4)


def forget_after(run: Path, step: int) -> None:
    """Remove the states after a step."""
    for path in run.glob("checkpoints/*.ckpt"):
        if step_of(path) > step:
            path.unlink()


@pytest.mark.slow
def test_a_rank_with_other_settings_is_reported_before_the_first_step(
    arguments: list[str], tmp_path: Path
) -> None:
    results = Started(tmp_path, arguments, {"1": {"AALBERT_SEED": "5"}}).finish()
    for code, error in results:
        assert code == 2
        assert "aalbert: rank 1 (" in error
        assert "has settings" in error and "start all ranks with the same command" in error
    assert not list((tmp_path / "run").glob("checkpoints/*.ckpt"))


@pytest.mark.slow
def test_a_killed_rank_ends_the_others_which_report_it(
    arguments: list[str], tmp_path: Path
) -> None:
    started = Started(tmp_path, [*arguments, "--set", "steps=100000"])
    wait_for_metrics(tmp_path / "run")
    os.kill(started.pids[1], signal.SIGKILL)
    killed = time.monotonic()
    code, error = started.finish()[0]
    assert time.monotonic() - killed < 60
    assert code == 1
    assert f"process {started.pids[1]}) ended without a message" in error


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_after_the_same_step(
    arguments: list[str], tmp_path: Path
) -> None:
    started = Started(tmp_path, [*arguments, "--set", "steps=100000"])
    wait_for_metrics(tmp_path / "run")
    os.kill(started.pids[1], signal.SIGTERM)
    results = started.finish()
    assert [code for code, _ in results] == [143, 143]
    saved = max(path.name for path in (tmp_path / "run").glob("checkpoints/*.ckpt"))
    step = int(saved.removeprefix("step-").removesuffix(".ckpt"))
    assert all(f"stopped by SIGTERM, saved at step {step}" in error for _, error in results)


def test_batches_that_ranks_cannot_share_are_refused() -> None:
    with pytest.raises(ConfigError, match="batches_per_step 3 cannot be shared by 2 ranks: set it"):
        Ranks(size=2).share(3)
    assert Ranks(size=2).share(4) == 2


def test_the_message_about_failed_ranks_has_their_names_and_reasons() -> None:
    names = ["rank 0 (a)", "rank 1 (b)", "rank 2 (c)"]
    reasons = {0: "", 1: "no space left"}
    assert describe_failure(reasons, names, 0, "timed out") == "rank 1 (b) ended: no space left"
    silent = describe_failure({0: "", 2: ""}, names, 0, "timed out")
    assert silent.startswith("rank 1 (b) ended without a message")
    unanswered = describe_failure({}, names, 1, "timed out")
    assert unanswered.startswith("rank 0 (a) ended without a message")
    all_there = describe_failure({0: "", 1: "", 2: ""}, names, 0, "timed out")
    assert all_there == "the connection between the ranks broke (timed out)"


def test_a_first_rank_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranks_module, "GRACE_S", 0.05)
    monkeypatch.setattr(ranks_module, "ANSWER_S", 0.05)
    answer = threading.Event()
    # As that of a stopped rank: nothing ends the wait.
    store: Any = SimpleNamespace(set=lambda *_: None, check=lambda _: not answer.wait())
    ranks = Ranks(1, 2, names=["rank 0 (a)", "rank 1 (b)"], _store=store)
    lost = pytest.raises(LostRankError, match=r"rank 0 \(a\) ended without a message")
    with lost, ranks.reporting_failures():
        raise RuntimeError("gloo: timed out")
    answer.set()


def test_a_first_rank_that_is_stopped_while_it_works_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranks_module, "GRACE_S", 0.05)
    monkeypatch.setattr(ranks_module, "ANSWER_S", 0.05)
    answer, one_at_a_time = threading.Event(), threading.Lock()

    def ask(*_: Any) -> bool:
        with one_at_a_time:
            return not answer.wait()

    store: Any = SimpleNamespace(set=ask, check=ask)
    ranks = Ranks(1, 2, timeout_s=0.05, names=["rank 0 (a)", "rank 1 (b)"], _store=store)
    began = time.monotonic()
    lost = pytest.raises(LostRankError, match=r"rank 0 \(a\) ended without a message")
    with lost, ranks.reporting_failures():
        ranks.from_first(lambda: None)
    assert time.monotonic() - began < 5.0
    answer.set()


@pytest.mark.slow
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGSTOP"])
def test_a_first_rank_that_is_lost_while_others_wait_for_its_work_is_reported(
    signal_name: str,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSE_THE_FIRST, signal_name],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("rank 0 (") and "ended without a message" in done.stdout


def test_a_first_rank_that_listens_and_is_stopped_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranks_module, "GRACE_S", 0.5)
    with socket.socket() as listener:
        # As that of a stopped rank: the system accepts, and nothing is read.
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        host, port = listener.getsockname()
        timeout = timedelta(seconds=0.1)
        ranks = Ranks(1, 2, timeout_s=0.1)
        began = time.monotonic()
        lost = pytest.raises(LostRankError, match="rank 1 does not reach all other ranks")
        with lost, ranks.reporting_failures():
            ranks.in_time(lambda: TCPStore(host, port, is_master=False, timeout=timeout))
        assert 0.5 < time.monotonic() - began < 5.0


def test_an_error_as_ranks_connect_is_raised() -> None:
    def refuse() -> None:
        raise ConfigError("of its own")

    with pytest.raises(ConfigError, match="^of its own$"):
        Ranks(1, 2).in_time(refuse)


def test_a_rank_that_never_reached_the_others_says_so() -> None:
    ranks = Ranks(1, 2)
    lost = pytest.raises(LostRankError, match="rank 1 does not reach all other ranks: one of the 2")
    with lost, ranks.reporting_failures():
        raise RuntimeError("The client socket has timed out while trying to connect")
    with lost, ranks.reporting_failures():
        raise DistNetworkError("Failed to recv, got 0 bytes. Connection was likely closed.")
    with pytest.raises(RuntimeError, match="of its own"), ranks.reporting_failures():
        raise RuntimeError("of its own")


def test_a_single_process_agrees_with_itself_and_totals_its_own_values(tmp_path: Path) -> None:
    ranks = Ranks()
    ranks.require_same({"settings": "abc"})
    assert ranks.gather(json.dumps(1)) == ["1"] and ranks.total(1.0, 2.0) == [1.0, 2.0]


def test_a_stream_continues_where_more_ranks_left_it(librispeech_data: Path) -> None:
    dataset = Dataset(librispeech_data)
    settings = LoaderConfig(order=OrderConfig(frames_per_batch=300), prefetch=0)
    two = Stream(Loader(dataset.select(["train*"]), settings, world_size=2), 4)
    batches = iter(two)
    next(batches), next(batches)
    one = Stream(Loader(dataset.select(["train*"]), settings), 8)
    one.load_state_dict(two.state_dict())
    assert one.taken == 4 and one.loader.position == two.loader.position
    assert len(list(one)) == 4
