"""Disturbed runs of `prepare`: after the same command again, the dataset is that of an undisturbed.

A run in this process judges, where nothing can crash: it takes a third of the time of a program.
"""

import errno
import io
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aalbert.cli import main
from aalbert.pipeline.corpora.synthesis import write_librispeech, write_voxceleb1
from aalbert.pipeline.prepare.output import remove_local
from tests.soak.programs import Ended, Programs, Running
from tests.soak.soak import Soak
from tests.trees import tree

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STOP_CODES = {128 + number for number in STOPS}
# A worker died too often, an input cannot be read now, or an error of storage.
REFUSED = ("exit 1", "exit 3", "exit 7")
# About as many of each event as an undisturbed run has in its output.
EVENTS = {"open": 60, "os.rename": 18, "os.mkdir": 12, "os.remove": 40, "os.rmdir": 6}
# Starting workers takes this many times as long as the work of a small corpus.
SLOWER = {1: 1.0, 2: 5.0, 3: 7.0}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A small corpus, what becomes of it, and the seconds that this takes undisturbed."""

    corpus: str
    root: Path
    reference: dict[str, bytes]
    seconds: float

    def command(self, out: Path, *more: object, workers: int = 1) -> list[str]:
        """The command line for an output."""
        settings = ("--set", "shard_bytes=40000", "--out", out, "--workers", workers, *more)
        return ["prepare", self.corpus, *(str(each) for each in (self.root, *settings))]

    def check(self, out: Path) -> None:
        """Fail unless the output is that of an undisturbed run, with nothing beside it."""
        found = tree(out)
        assert found.keys() == self.reference.keys(), found.keys() ^ self.reference.keys()
        different = [path for path, data in found.items() if self.reference[path] != data]
        assert not different, f"other bytes: {different}"
        assert folders(out) == {Path(path).parent.as_posix() for path in found}, folders(out)

    def finish(self, out: Path, *more: object) -> None:
        """Run the same command again, in this process, and check what comes of it."""
        assert run_here(self.command(out, *more)).outcome() == "right"
        self.check(out)


def folders(out: Path) -> set[str]:
    return {".", *(each.relative_to(out).as_posix() for each in out.rglob("*/"))}


def run_here(command: Sequence[str]) -> Ended:
    """Run the command line in this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = main(command)
    return Ended(code=code, stdout=stdout.getvalue(), stderr=stderr.getvalue(), peak_mib=0.0)


def make_job(corpus: str, root: Path, out: Path) -> Job:
    """Prepare a corpus undisturbed."""
    job = Job(corpus=corpus, root=root, reference={}, seconds=0.0)
    assert run_here(job.command(out)).outcome() == "right"
    return replace(job, reference=tree(out))


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory, programs: Programs) -> tuple[Job, ...]:
    """One corpus has transcripts, the other files of its own that the dataset keeps."""
    folder = tmp_path_factory.mktemp("jobs")
    size: dict[str, Any] = {"seed": 5, "seconds": (0.3, 0.6)}
    write_librispeech(folder / "LibriSpeech", speakers=3, utterances_per_speaker=3, **size)
    more: dict[str, Any] = {"subset": "dev-clean", "first_speaker": 500, **size}
    write_librispeech(folder / "LibriSpeech", speakers=1, utterances_per_speaker=2, **more)
    write_voxceleb1(
        folder / "vox", speakers=3, videos_per_speaker=3, utterances_per_video=1, **size
    )
    made = []
    for corpus, root in (("librispeech", "LibriSpeech"), ("voxceleb1", "vox")):
        job = make_job(corpus, folder / root, folder / corpus)
        began = time.monotonic()
        assert programs.run(*job.command(folder / f"{corpus}-again")).outcome() == "right"
        made.append(replace(job, seconds=time.monotonic() - began))
        job.check(folder / f"{corpus}-again")
    return tuple(made)


def inodes(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_ino for path in out.glob("*/*.tar")}


def workers_of(running: Running) -> list[int]:
    """Its workers, without the process that tracks shared memory."""
    found = []
    for pid in running.children():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"spawn_main" in command:
            found.append(pid)
    return found


def strike(random: Random, running: Running, numbers: Sequence[int]) -> None:
    """Send signals to the program, to its group, or to one of its workers."""
    whom = random.choice(("program", "program", "group", "worker"))
    for number in numbers:
        workers = workers_of(running) if whom == "worker" else []
        if workers:
            try:
                os.kill(random.choice(workers), number)
            except ProcessLookupError:
                continue
        else:
            running.send(number, group=whom == "group")
        time.sleep(random.uniform(0.0, 0.02))


def disturb(random: Random, programs: Programs, job: Job, out: Path, command: list[str]) -> Ended:
    """Run a command, and strike it at a moment of its time, or where it touches a file."""
    workers = int(command[command.index("--workers") + 1]) if "--workers" in command else 1
    number = random.choice((*STOPS, signal.SIGKILL))
    before = state(out)
    if workers == 1 and random.random() < 0.5:
        event = random.choice(list(EVENTS))
        aim = {"event": event, "path": str(out), "nth": random.randint(1, EVENTS[event])}
        how = {"action": random.choice(("signal", "group")), "argument": number}
        numbers = [number]
        ended = programs.run(*command, aim={**aim, **how})
    else:
        second = random.choice((*STOPS, signal.SIGKILL))
        numbers = [number, second] if random.random() < 0.3 else [number]
        running = programs.begin(*command)
        running.has_ended(random.uniform(0.0, job.seconds * SLOWER[workers]))
        strike(random, running, numbers)
        ended = running.wait()
    judge_struck(ended, numbers, out, before)
    return ended


def state(out: Path) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def judge_struck(ended: Ended, numbers: Sequence[int], out: Path, before: dict[Path, int]) -> None:
    """A first signal may come before it is handled or after the end; a second ends at once."""
    if ended.code < 0:
        assert -ended.code in numbers, ended
        if -ended.code != signal.SIGKILL and len(numbers) == 1:
            # What a finished command prints, of a part too, it prints last.
            finished = bool(ended.stdout)
            assert finished or state(out) == before, f"ended by {-ended.code} during its work"
        return
    outcome = ended.outcome()
    assert outcome == "right" or ended.code - 128 in numbers, outcome
    if ended.code in STOP_CODES and len(numbers) == 1:
        left = [path for path in out.rglob("*.partial") if path not in before]
        assert not left, f"unfinished files stay behind: {left}"


def test_signals(soak: Soak, programs: Programs, jobs: tuple[Job, ...], tmp_path: Path) -> None:
    def fault(random: Random) -> str:
        job, out = random.choice(jobs), tmp_path / "data"
        shutil.rmtree(out, ignore_errors=True)
        parts = random.choice((0, 0, 0, 2))
        for _ in range(random.choice((1, 1, 2, 3))):
            workers = random.choices((1, 2, 3), (20, 2, 1))[0]
            more = ("--part", f"{random.randint(1, parts)}/{parts}") if parts else ()
            command = job.command(out, *more, workers=workers)
            ended = disturb(random, programs, job, out, command)
            if ended.code == 0 and not parts:
                job.check(out)
        shards = inodes(out)
        if parts and random.random() < 0.5:
            for number in range(1, parts + 1):
                done = run_here(job.command(out, "--part", f"{number}/{parts}"))
                assert done.outcome() == "right"
            disturbed = ["prepare", "finalize", str(out)]
            ended = disturb(random, programs, job, out, disturbed)
            if ended.code != 0 and not (out / "manifest.json").exists():
                assert run_here(disturbed).outcome() == "right"
        job.finish(out)
        again = sum(inodes(out)[path] != before for path, before in shards.items())
        assert again <= 3, f"{again} finished shards were done again"
        return "right"

    soak.run("prepare: signals", fault)


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """The folder of a run that was killed."""

    job: Job
    folder: Path


@pytest.fixture(scope="session")
def unfinished(
    jobs: tuple[Job, ...], programs: Programs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Unfinished, ...]:
    """Runs that were killed midway, at the end, and in parts."""
    folder, made = tmp_path_factory.mktemp("unfinished"), []
    for job in jobs:
        for name, path, nth, more in (
            ("midway", ".tar", 3, ()),
            ("at-the-end", "manifest.json", 1, ()),
            ("indexes", "index/", 2, ()),
            ("part", ".tar", 2, ("--part", "1/2")),
        ):
            out = folder / f"{job.corpus}-{name}"
            aim = {"event": "os.rename", "path": path, "nth": nth}
            killed = {**aim, "action": "signal", "argument": signal.SIGKILL}
            if more:
                assert run_here(job.command(out, "--part", "2/2")).outcome() == "right"
            ended = programs.run(*job.command(out, *more), aim=killed)
            assert ended.code == -signal.SIGKILL, ended
            made.append(Unfinished(job=job, folder=out))
    return tuple(made)


def damage(random: Random, out: Path) -> str:
    """Do something to the folder that a disk or a person may do; returns what."""
    places = sorted(out.rglob("*"))
    if not places:
        return "nothing is left"
    path = random.choice(places)
    if random.random() < 0.1:
        extra = (path if path.is_dir() else path.parent) / "extra"
        extra.write_bytes(random.randbytes(random.randrange(100)))
        return f"add {extra.relative_to(out)}"
    how = random.choice(("flip", "cut", "empty", "swap", "delete", "link", "dangling", "folder"))
    if path.is_dir() and how not in ("link", "dangling"):
        how = "delete"
    if how in ("flip", "cut", "empty", "swap") and path.is_file():
        rewrite(random, path, how, random.choice([each for each in places if each.is_file()]))
    elif how not in ("flip", "cut", "empty", "swap"):
        replace_by(path, how, out.with_name("elsewhere"))
    return f"{how} {path.relative_to(out)}"


def rewrite(random: Random, path: Path, how: str, other: Path) -> None:
    content = bytearray(path.read_bytes()) or bytearray(1)
    if how == "flip":
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    elif how == "cut":
        del content[random.randrange(len(content)) :]
    elif how == "empty":
        content.clear()
    else:
        theirs = other.read_bytes()
        other.write_bytes(content)
        content[:] = theirs
    path.write_bytes(content)


def replace_by(path: Path, how: str, elsewhere: Path) -> None:
    if elsewhere.is_dir():
        shutil.rmtree(elsewhere)
    elsewhere.unlink(missing_ok=True)
    if how == "link":
        path.rename(elsewhere)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    if how in ("link", "dangling"):
        path.symlink_to(elsewhere)
    elif how == "folder":
        path.mkdir()


def test_damage_between_runs(
    soak: Soak, unfinished: tuple[Unfinished, ...], tmp_path: Path
) -> None:
    def fault(random: Random) -> str:
        stopped, out = random.choice(unfinished), tmp_path / "data"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(stopped.folder, out)
        job = stopped.job
        done = [damage(random, out) for _ in range(random.choice((1, 1, 2, 4)))]
        ended = run_here(job.command(out))
        outcome = ended.outcome()
        if outcome == "right":
            for each in done:
                added = out / each.removeprefix("add ")
                if each.startswith("add ") and not each.startswith("add .prepare"):
                    # Or what later damage has put in its place.
                    remove_local(added)
            check_damaged(job, out, done)
        else:
            assert not (out / "manifest.json").exists(), (done, ended.stderr)
        return outcome

    soak.run("prepare: damage between runs", fault)


def check_damaged(job: Job, out: Path, done: Sequence[str]) -> None:
    try:
        job.check(out)
    except AssertionError as error:
        raise AssertionError(f"after {done}: {error}") from error


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[bool]:
    """Mount a small file system there, if this user may."""
    folder.mkdir(exist_ok=True)
    arguments = f"-t tmpfs -o size={megabytes}m tmpfs"
    works = os.geteuid() == 0 and os.system(f"mount {arguments} {folder} 2>/dev/null") == 0
    try:
        yield works
    finally:
        if works:
            assert os.system(f"umount {folder}") == 0


ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.EACCES, errno.EROFS, errno.EPERM, errno.ESTALE),
)


def aimed_error(random: Random, job: Job, out: Path) -> dict[str, Any]:
    """An error of the system in the output, or one of the moment in the corpus."""
    if random.random() < 0.2:
        number = random.choice((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
        place = {"event": "open", "path": str(job.root), "nth": random.randint(1, 24)}
    else:
        number, event = random.choice(ERRORS), random.choice(list(EVENTS))
        place = {"event": event, "path": str(out), "nth": random.randint(1, EVENTS[event])}
    return {**place, "action": "error", "argument": number}


def address_space(programs: Programs) -> int:
    """The bytes of address space that a program has as it starts."""
    running = programs.begin("--version")
    status = Path(f"/proc/{running.pid}/status").read_text()
    running.wait()
    return 1024 * int(status.partition("VmSize:")[2].split()[0])


def test_scarce_resources(
    soak: Soak, programs: Programs, jobs: tuple[Job, ...], tmp_path: Path
) -> None:
    space = address_space(programs)

    def scarce(random: Random, job: Job, out: Path) -> Ended:
        workers = random.choices((1, 2), (20, 1))[0]
        command = job.command(out, workers=workers)
        what = random.choice(("FSIZE", "NOFILE", "AS", "error", "error", "error"))
        if what == "error":
            return programs.run(*command, aim=aimed_error(random, job, out))
        limit = {
            "FSIZE": lambda: random.randrange(1, 100_000),
            "NOFILE": lambda: random.randrange(4, 40),
            "AS": lambda: space + random.randrange(0, 200 * 2**20),
        }[what]()
        return programs.run(*command, limits={what: limit})

    def small_disk(random: Random, job: Job, disk: Path) -> Ended:
        filler = disk / "filler"
        filler.write_bytes(bytes(2**20 - random.randrange(0, 400_000)))
        ended = programs.run(*job.command(disk / "data"))
        filler.unlink()
        return ended

    def fault(random: Random) -> str:
        job = random.choice(jobs)
        if random.random() < 0.15:
            with mounted(tmp_path / "disk", 1) as works:
                if works:
                    judge(small_disk(random, job, tmp_path / "disk"), tmp_path / "disk/data")
                    job.finish(tmp_path / "disk/data")
                    return "right"
        out = tmp_path / "data"
        shutil.rmtree(out, ignore_errors=True)
        for _ in range(random.choice((1, 1, 2))):
            judge(scarce(random, job, out), out)
        job.finish(out)
        return "right"

    def judge(ended: Ended, out: Path) -> None:
        outcome = ended.outcome()
        assert outcome in ("right", *REFUSED), f"{outcome}: {ended.stderr}"
        left = [each.name for each in out.rglob("*.partial")]
        assert not left, f"unfinished files stay behind: {left}: {ended.stderr}"

    soak.run("prepare: scarce resources", fault)


def change(random: Random, root: Path) -> None:
    """Change a file of a corpus, or a folder, so that its size is another one."""
    paths = sorted(each for each in root.rglob("*") if each.is_file())
    path = random.choice(paths)
    how = random.choice(("remove", "empty", "cut", "append", "other", "folder", "link", "add"))
    if how == "remove":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        os.truncate(path, random.randrange(path.stat().st_size or 1))
    elif how == "append":
        with path.open("ab") as stream:
            stream.write(b"\n")
    elif how == "other":
        same = [each for each in paths if each.suffix == path.suffix and each != path]
        other = random.choice(same or paths)
        temporary = path.with_name("temporary")
        shutil.copy(other, temporary)
        temporary.replace(path)
    elif how == "add":
        shutil.copy(path, path.with_name(f"{path.stem}9{path.suffix}"))
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
        else:
            path.symlink_to("nowhere")


def test_inputs_that_change(
    soak: Soak, programs: Programs, jobs: tuple[Job, ...], tmp_path: Path
) -> None:
    def fault(random: Random) -> str:
        old, root, out = random.choice(jobs), tmp_path / "corpus", tmp_path / "data"
        for folder in (root, out, tmp_path / "new"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(old.root, root)
        job = replace(old, root=root)
        running = programs.begin(*job.command(out))
        if random.random() < 0.7:
            running.has_ended(random.uniform(0.0, job.seconds))
        else:
            running.has_ended(random.uniform(0.0, job.seconds))
            running.send(signal.SIGKILL)
            running.has_ended(5.0)
        change(random, root)
        first = running.wait()
        expected = run_here(job.command(tmp_path / "new"))
        new = replace(job, reference=tree(tmp_path / "new"))
        if first.code != -signal.SIGKILL:
            outcome = first.outcome()
            assert outcome in ("right", "exit 3", "exit 5", "exit 6"), first
            if (out / "manifest.json").exists():
                assert tree(out) in (old.reference, new.reference), "neither old nor new"
        again = run_here(job.command(out))
        outcome = again.outcome()
        if outcome == "right":
            new.check(out)
        if outcome == "exit 6":
            assert "delete it first" in again.stderr, again.stderr
        elif outcome != "right":
            assert outcome == expected.outcome(), again.stderr
        return outcome

    soak.run("prepare: inputs that change", fault)
