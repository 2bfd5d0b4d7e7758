import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from aalbert.errors import WorkersDiedError
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.output import LocalOutput
from aalbert.pipeline.prepare.plan import ShardTask, make_plan
from aalbert.pipeline.prepare.work_folder import Amount, fragment_name


@pytest.fixture
def tasks(librispeech_folder: Path, small_config: PrepareConfig) -> list[ShardTask]:
    return make_plan(read_librispeech(librispeech_folder), small_config)


@dataclass(frozen=True, kw_only=True)
class DeadlyOutput(LocalOutput):
    """Kills the process that writes this file, the first time or every time."""

    path: str
    always: bool = False

    @contextmanager
    def build(self, path: str) -> Iterator[Path]:
        marker = self.folder / "died"
        if path == self.path and (self.always or not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield self.folder / path


@dataclass(frozen=True, kw_only=True)
class FullOutput(LocalOutput):
    """Has no space for this file."""

    path: str

    @contextmanager
    def build(self, path: str) -> Iterator[Path]:
        if path == self.path:
            raise OSError(28, "No space left on device", path)
        yield self.folder / path


def run(tasks: list[ShardTask], output: LocalOutput, workers: int = 2) -> list[Amount]:
    shown: list[Amount] = []
    LocalEngine(workers=workers).run(tasks, output, shown.append)
    return shown


def test_only_the_shard_of_a_killed_worker_is_computed_again(
    tasks: list[ShardTask], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = DeadlyOutput(folder=tmp_path, path=f"{tasks[2].name}.tar")
    shown = run(tasks, output)
    assert (tmp_path / "died").exists()
    assert all(output.has(fragment_name(task.name)) for task in tasks)
    check_counts(shown, tasks)
    assert capsys.readouterr().err == f"a worker died; shard {tasks[2].name} is computed again\n"


def test_a_shard_that_kills_its_worker_repeatedly_ends_the_run(
    tasks: list[ShardTask], tmp_path: Path
) -> None:
    output = DeadlyOutput(folder=tmp_path, path=f"{tasks[1].name}.tar", always=True)
    with pytest.raises(WorkersDiedError) as caught:
        run(tasks, output)
    assert str(caught.value) == (
        f"the process that computed shard {tasks[1].name} died 3 times: is there enough memory? "
        "Fewer --workers need less. In a script, call prepare below "
        'if __name__ == "__main__":'
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_one_shard_ends_the_run_and_leaves_no_half_shard(
    tasks: list[ShardTask], tmp_path: Path, workers: int
) -> None:
    output = FullOutput(folder=tmp_path, path=f"{tasks[0].name}.tar")
    with pytest.raises(OSError, match="No space left"):
        run(tasks, output, workers)
    assert not list(tmp_path.rglob("*.partial"))
    assert not output.has(fragment_name(tasks[0].name))


def test_progress_counts_every_file_and_never_passes_their_number(
    tasks: list[ShardTask], tmp_path: Path
) -> None:
    check_counts(run(tasks, LocalOutput(folder=tmp_path), workers=1), tasks)


def check_counts(shown: list[Amount], tasks: list[ShardTask]) -> None:
    """The shown progress rises to the number of files."""
    files = sum(len(task.utterances) for task in tasks)
    counts = [amount.taken + amount.skipped for amount in shown]
    assert counts == sorted(counts)
    assert counts[-1] == files
    assert 0.3 * files < shown[-1].seconds < 0.8 * files
