"""Pretraining that is disturbed: what it comes to in the end is that of an undisturbed run."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.soak.pretraining import PretrainRuns, somewhere
from tests.soak.programs import NEVER, Ended, Programs, Running
from tests.soak.run_files import files_of
from tests.soak.soak import Soak

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
REFUSALS = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.EACCES)
DAY_SECONDS = 86_400.0


@pytest.fixture(scope="session")
def runs(
    programs: Programs, librispeech_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> PretrainRuns:
    """Runs of one process, with an undisturbed one as the reference."""
    made = PretrainRuns(
        programs=programs,
        folder=tmp_path_factory.mktemp("pretrain"),
        original_data=librispeech_data,
    )
    made.clear()
    began = time.monotonic()
    assert made.start().wait().outcome() == "right"
    made.seconds, made.reference = time.monotonic() - began, files_of(made.run)
    return made


def require_stopped(ended: Ended, number: int) -> None:
    """Fail unless a program ended as the signal asked, or had finished before.

    Before training begins and after it has ended, a signal may end the program at once.
    """
    if ended.code == -number:
        assert not any(each in ended.stderr for each in NEVER), ended.stderr[-2000:]
        return
    assert ended.outcome() in ("right", f"exit {128 + number}"), ended.stderr[-1000:]


def test_signals(soak: Soak, runs: PretrainRuns) -> None:
    def disturb(random: Random, prefetch: int) -> None:
        number = random.choice((*STOP_SIGNALS, signal.SIGKILL, signal.SIGKILL))
        if random.random() < 0.1:
            place = somewhere(random) | {"action": "clock", "argument": DAY_SECONDS}
            assert runs.go_on(prefetch, aim=place).wait().outcome() == "right"
            return
        if random.random() < 0.5:
            action = random.choice(("signal", "group"))
            aim = somewhere(random) | {"action": action, "argument": int(number)}
            require_stopped(runs.go_on(prefetch, aim=aim).wait(), number)
            return
        running, group = runs.go_on(prefetch), random.random() < 0.5
        if not running.has_ended(random.uniform(0, runs.seconds)):
            running.send(number, group=group)
        # Schedulers repeat their signals; a second Ctrl-C means to end at once.
        if number not in (signal.SIGINT, signal.SIGKILL) and not running.has_ended(0.05):
            running.send(number, group=group)
        require_stopped(running.wait(), number)

    def fault(random: Random) -> str:
        runs.clear()
        prefetch = random.choice((0, 0, 2))
        for _ in range(random.choice((1, 1, 2, 3))):
            disturb(random, prefetch)
        runs.finish(prefetch)
        return "right"

    soak.run("pretrain: signals", fault)


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """Lay a file system with these options over a folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_scarce_resources(soak: Soak, runs: PretrainRuns) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    assert runs.reference is not None
    used_kib = sum(len(content) for content in runs.reference.values()) // 1024

    def require_resources(ended: Ended) -> None:
        assert ended.outcome() in ("right", "exit 7"), ended.stderr[-1000:]

    def full_disk(random: Random, prefetch: int) -> None:
        scarce = random.choice(
            (f"size={random.randint(4, 2 * used_kib)}k", f"nr_inodes={random.randint(2, 30)}")
        )
        with small_disk(runs.run, scarce):
            require_resources(runs.go_on(prefetch).wait())
            larger = ["mount", "-o", "remount,size=64m,nr_inodes=1000", str(runs.run)]
            subprocess.run(larger, check=True)
            runs.finish(prefetch)

    def refused(random: Random, prefetch: int) -> None:
        aim = somewhere(random) | {"action": "error", "argument": random.choice(REFUSALS)}
        require_resources(runs.go_on(prefetch, aim=aim).wait())
        runs.finish(prefetch)

    def limited(random: Random, prefetch: int) -> None:
        limits = random.choice(
            ({"FSIZE": random.randint(0, 1024 * used_kib)}, {"NOFILE": random.randint(6, 40)})
        )
        require_resources(runs.go_on(prefetch, limits=limits).wait())
        runs.finish(prefetch)

    def little_shared_memory(random: Random, prefetch: int) -> None:
        ended = runs.go_on(prefetch, shared_memory_bytes=4096).wait()
        assert ended.outcome() == "right"
        runs.require_right()

    def fault(random: Random) -> str:
        runs.clear()
        scarcity = random.choices(
            (full_disk, refused, limited, little_shared_memory), (8, 8, 6, 1)
        )[0]
        scarcity(random, random.choice((0, 0, 2)))
        return "right"

    soak.run("pretrain: scarce resources", fault)


def change(path: Path, content: bytes) -> None:
    """Let a file of a dataset have another content.

    A shard changes in its place, since what is read of it is verified each time. An index is
    mapped after it was verified once, so it is replaced, as by a program that copies it.
    """
    if path.suffix == ".tar":
        with path.open("r+b") as stream:
            stream.write(content)
            stream.truncate()
    else:
        changed = path.with_name("changed")
        changed.write_bytes(content)
        changed.replace(path)


def test_what_it_reads_is_lost(soak: Soak, runs: PretrainRuns) -> None:
    away = runs.folder / "away"

    def lose(random: Random, running: Running) -> tuple[str, ...]:
        """Take something away, and return what may come of it."""
        files = [each for each in sorted(runs.data.rglob("*")) if each.is_file()]
        shards = [each for each in files if each.suffix == ".tar"]
        path = random.choice([*shards, *(each for each in files if each.stat().st_size)])
        loss = random.choice(("reader", "reader", "folder", "file", "end", "byte"))
        if loss == "reader":
            for child in running.children():
                os.kill(child, signal.SIGKILL)
            return ("exit 1",)
        if loss == "folder":
            runs.data.rename(away)
        elif loss == "file":
            path.unlink()
        else:
            content = bytearray(path.read_bytes())
            if loss == "end":
                del content[random.randrange(len(content)) :]
            else:
                content[random.randrange(len(content))] ^= 1 << random.randrange(8)
            change(path, bytes(content))
        # 7: it goes between a look at it and its use.
        return ("exit 3", "exit 4", "exit 1", "exit 7")

    def fault(random: Random) -> str:
        runs.clear()
        shutil.rmtree(away, ignore_errors=True)
        prefetch = random.choice((0, 2, 2))
        if random.random() < 0.3:
            aim = somewhere(random) | {"action": "signal", "argument": int(signal.SIGKILL)}
            runs.go_on(prefetch, aim=aim).wait()
        running = runs.go_on(prefetch)
        if not running.has_ended(random.uniform(0, runs.seconds)):
            expected = lose(random, running)
            outcome = running.wait().outcome()
            assert outcome in ("right", *expected), outcome
            # As long as it is lost, a resumed run says so or needs no more of it.
            assert runs.go_on(prefetch).wait().outcome() in ("right", *expected)
        else:
            running.wait()
        shutil.rmtree(runs.data, ignore_errors=True)
        shutil.copytree(runs.original_data, runs.data)
        runs.finish(prefetch)
        return "right"

    soak.run("pretrain: what it reads is lost", fault)


# Longer than a busy machine keeps a rank waiting.
TIMEOUT_SECONDS = 15.0


@contextmanager
def two_processes(runs: PretrainRuns) -> Iterator[list[Running]]:
    """Start or continue a run as `torchrun` does, with two processes, which end with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    same = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    same |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "soak"}
    resumed = (runs.run / "run.json").is_file()
    started = [
        (runs.go_on if resumed else runs.start)(
            environment={**same, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(2)
    ]
    try:
        yield started
    finally:
        for running in started:
            running.send(signal.SIGKILL, group=True)


@pytest.fixture(scope="session")
def ranks(
    programs: Programs, librispeech_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> PretrainRuns:
    """Runs of two processes, with an undisturbed one as the reference."""
    made = PretrainRuns(
        programs=programs,
        folder=tmp_path_factory.mktemp("ranks"),
        original_data=librispeech_data,
        settings=("batches_per_step=2", "data.batch_seconds=3", f"timeout_s={TIMEOUT_SECONDS}"),
    )
    made.clear()
    began = time.monotonic()
    with two_processes(made) as started:
        assert [running.wait().outcome() for running in started] == ["right", "right"]
    made.seconds, made.reference = time.monotonic() - began, files_of(made.run)
    return made


@pytest.mark.slow
def test_two_ranks(soak: Soak, ranks: PretrainRuns) -> None:
    def lose(random: Random, number: int) -> None:
        """Kill a rank, or cut it off; the other one says which it was."""
        struck = random.randrange(2)
        with two_processes(ranks) as started:
            if not started[struck].has_ended(random.uniform(0, ranks.seconds)):
                started[struck].send(number)
            other = started[1 - struck].wait()
            if number == signal.SIGSTOP:
                started[struck].send(signal.SIGKILL)
            lost = started[struck].wait()
        outcome = other.outcome()
        assert outcome in ("right", "exit 1"), other.stderr[-1000:]
        if outcome != "right":
            # Before they are connected, it knows only that one is missing.
            named = f"rank {struck} (" in other.stderr or "does not reach all" in other.stderr
            assert lost.code == -signal.SIGKILL and named, other.stderr

    def stop(random: Random, number: int) -> None:
        """Signal one rank, which stops both after the same step."""
        struck = random.randrange(2)
        with two_processes(ranks) as started:
            if not started[struck].has_ended(random.uniform(0, ranks.seconds)):
                started[struck].send(number)
            ended = [running.wait() for running in started]
        require_stopped(ended[struck], number)
        outcome = ended[1 - struck].outcome()
        if ended[struck].code == 0 or "saved at step" in ended[struck].stderr:
            assert outcome == ended[struck].outcome()
        else:
            # It was struck before training began, or after the other one had finished.
            assert outcome in ("right", "exit 1"), ended[1 - struck].stderr[-1000:]

    def fault(random: Random) -> str:
        ranks.clear()
        for _ in range(random.choice((1, 1, 2))):
            number = random.choice((signal.SIGKILL,) * 4 + STOP_SIGNALS + (signal.SIGSTOP,))
            (stop if number in STOP_SIGNALS else lose)(random, number)
        with two_processes(ranks) as started:
            assert [running.wait().outcome() for running in started] == ["right", "right"]
        ranks.require_right()
        return "right"

    soak.run("pretrain: two ranks", fault)


# Where a run touches files of its folder before it trains; first of all when it is not there yet.
BEGINNINGS = (
    ("os.mkdir", "run"),
    ("os.mkdir", "run"),
    ("open", "run/checkpoints/lock"),
    ("open", "run/config.yaml"),
    ("os.rename", "run/config.yaml"),
    ("open", "run/run.json"),
    ("os.rename", "run/run.json"),
)


def test_two_runs_in_one_folder(soak: Soak, runs: PretrainRuns) -> None:
    def at_once(random: Random) -> None:
        """Start two runs in a new folder: one of them is made, and recorded as its own.

        The first one is stopped for a while where it begins, so that the second one overtakes it.
        """
        event, path = random.choice(BEGINNINGS)
        stop = {"action": "signal", "argument": int(signal.SIGSTOP)}
        read_ahead = random.choice(((0, 2), (2, 0)))
        first = runs.start(read_ahead[0], aim={"event": event, "path": path, "nth": 1} | stop)
        while not (first.has_ended(0.01) or first.is_stopped()):
            pass
        second = runs.start(read_ahead[1])
        second.has_ended(random.uniform(0, 1.5 * runs.seconds))
        first.send(signal.SIGCONT)
        outcomes = [each.wait().outcome() for each in (first, second)]
        assert sorted(outcomes) == ["exit 6", "right"], outcomes
        prefetch = read_ahead[outcomes.index("right")]
        command = json.loads((runs.run / "run.json").read_text())["command"]
        assert f"data.prefetch={prefetch}" in command
        assert f"prefetch: {prefetch}\n" in (runs.run / "config.yaml").read_text()

    def later(random: Random) -> None:
        """Start or resume a run while another one trains in its folder."""
        first = runs.start(random.choice((0, 2)))
        first.has_ended(random.uniform(0, runs.seconds))
        resumed = random.random() < 0.5 and (runs.run / "run.json").is_file()
        second = (runs.go_on if resumed else runs.start)()
        outcomes = [each.wait().outcome() for each in (second, first)]
        expected = [["exit 6", "right"], ["right", "exit 6"]]
        # A run that has finished can be resumed, which changes nothing.
        assert outcomes in (expected + [["right", "right"]] if resumed else expected), outcomes

    def both_resume(random: Random) -> None:
        """Resume a killed run twice at once."""
        aim = somewhere(random) | {"action": "signal", "argument": int(signal.SIGKILL)}
        runs.start(aim=aim).wait()
        outcomes = [each.wait().outcome() for each in (runs.go_on(), runs.go_on())]
        assert "right" in outcomes and set(outcomes) <= {"right", "exit 6"}, outcomes

    def fault(random: Random) -> str:
        runs.clear()
        random.choice((at_once, at_once, later, both_resume))(random)
        runs.require_right()
        return "right"

    soak.run("pretrain: two runs in one folder", fault)
