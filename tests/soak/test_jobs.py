"""What comes after pretraining, disturbed: it comes to what it comes to undisturbed."""

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from tests.soak.jobs import INPUTS, RUN, Job
from tests.soak.programs import NEVER, Ended, Programs
from tests.soak.soak import Soak

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REFUSALS = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.EACCES)
DAY_SECONDS = 86_400.0
# What may come of an input that is lost: without it, with parts of it, or without its reader; to
# work that was begun with it; or when it goes between a look at it and its use.
LOST = ("exit 1", "exit 3", "exit 4", "exit 5", "exit 6", "exit 7")
# The lists of what a job could not use.
FAILURES = ("failed.jsonl", "skipped.jsonl")
# What a program may say; a limit of the size of files is one of its stderr too.
MESSAGES_BYTES = 2_000
Disturbance = Callable[[Random, Job], None]


def end_by_signal(random: Random, job: Job) -> None:
    """Signal it at any moment."""
    number = random.choice((*STOP_SIGNALS, signal.SIGKILL, signal.SIGKILL))
    running, group = job.go_on(), random.random() < 0.5
    if not running.has_ended(random.uniform(0, job.seconds)):
        running.send(number, group=group)
    require_stopped(running.wait(), number)


def end_where_it_writes(random: Random, job: Job) -> None:
    """Signal it, or its group, while it touches a file."""
    number = random.choice((*STOP_SIGNALS, signal.SIGKILL, signal.SIGKILL))
    action = random.choice(("signal", "group"))
    aim = job.somewhere(random) | {"action": action, "argument": int(number)}
    require_stopped(job.go_on(aim=aim).wait(), number)


def require_stopped(ended: Ended, number: int) -> None:
    """Fail unless a program ended as the signal asked, or had finished before.

    Before its work begins and after that has ended, a signal may end the program at once.
    """
    if ended.code == -number:
        assert not any(each in ended.stderr for each in NEVER), ended.stderr[-2000:]
        return
    assert ended.outcome() in ("right", f"exit {128 + number}"), ended.stderr[-1000:]


def set_the_clock_back(random: Random, job: Job) -> None:
    """Set the clock back, which nothing depends on."""
    aim = job.somewhere(random) | {"action": "clock", "argument": DAY_SECONDS}
    assert job.go_on(aim=aim).wait().outcome() == "right"
    job.require_right()


def refuse_a_file(random: Random, job: Job) -> None:
    """Let the system refuse to open, rename or remove a file."""
    aim = job.somewhere(random) | {"action": "error", "argument": random.choice(REFUSALS)}
    ended = job.go_on(aim=aim).wait()
    allowed = ("right", "exit 7") if aim["path"] == f"{RUN}/" else ("right", "exit 7", *LOST)
    assert ended.outcome() in allowed, ended.stderr[-1000:]
    failures = {name: job.run / name for name in FAILURES if (job.run / name).is_file()}
    listed = {name: path.read_bytes() for name, path in failures.items()}
    if any(content != job.reference.get(name) for name, content in listed.items()):
        # A recording that may not be read is skipped, and the reason listed.
        assert aim["path"] == f"{INPUTS}/", listed
        assert os.strerror(aim["argument"]).encode() in b"".join(listed.values()), listed
        job.clear()


def limit(random: Random, job: Job) -> None:
    """Let it write only small files, or open few."""
    largest = max(map(len, job.reference.values()))
    limits = random.choice(
        (
            {"FSIZE": random.randint(0, 2 * largest) + MESSAGES_BYTES},
            {"NOFILE": random.randint(6, 40)},
        )
    )
    ended = job.go_on(limits=limits).wait()
    assert ended.outcome() in ("right", "exit 7"), ended.stderr[-1000:]


def fill_the_disk(random: Random, job: Job) -> None:
    """Let it write to a disk that is too small, or becomes read-only, and then is as it should."""
    used_kib = sum(map(len, job.reference.values())) // 1024
    files = len(job.reference)
    with small_disk(job.run):
        job.clear()
        scarce = random.choice(
            (
                f"size={random.randint(4, 2 * used_kib + 8)}k",
                f"nr_inodes={random.randint(2, 2 * files)}",
                "ro",
            )
        )
        running = None if random.random() < 0.5 else job.go_on()
        if running is not None:
            running.has_ended(random.uniform(0, job.seconds))
        # A disk that holds more cannot become so small, and one that is written to not read-only.
        remount(job.run, scarce, check=False)
        ended = (running or job.go_on()).wait()
        assert ended.outcome() in ("right", "exit 7"), ended.stderr[-1000:]
        remount(job.run, ENOUGH, check=True)
        job.finish()
    job.clear()


ENOUGH = "rw,size=64m,nr_inodes=1000"


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Lay a file system over a folder; the folder is gone afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", ENOUGH, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str, *, check: bool) -> None:
    """Change the options of a file system, if that is possible."""
    command = ["mount", "-o", f"remount,{options}", str(folder)]
    subprocess.run(command, check=check, capture_output=True)


# Of these, others may be found at another time.
LISTED = (".flac", ".wav", ".txt")


def lose_an_input(random: Random, job: Job) -> None:
    """Take away what it reads, a file or a folder, and bring it back."""
    inputs, away = job.folder / INPUTS, job.folder / "away"
    lost = random.choice([*inputs.iterdir(), *(each for each in inputs.rglob("*.*"))])
    recordings = {each.stem for each in (lost, *lost.rglob("*")) if each.suffix in LISTED}
    running = job.go_on()
    running.has_ended(random.uniform(0, job.seconds))
    lost.rename(away)
    try:
        ended = running.wait()
    finally:
        away.rename(lost)
    outcome = ended.outcome()
    assert outcome in ("right", *LOST), outcome
    if recordings:
        # It may be complete without what was lost, and lists what it has or what failed.
        texts = {
            each.name: each.read_text()
            for each in job.run.glob("*.*")
            if each.suffix in (".jsonl", ".txt")
        }
        failed = "".join(text for name, text in texts.items() if name in FAILURES)
        missed = [name for name in recordings if name in failed]
        if outcome == "exit 5":
            assert missed
        listed = "".join(texts.values())
        if outcome == "right" and not missed and all(name in listed for name in recordings):
            job.require_right()
        job.clear()


def kill_its_children(random: Random, job: Job) -> None:
    """Kill the reader or a worker."""
    running = job.go_on()
    running.has_ended(random.uniform(0, job.seconds))
    children = running.children()
    for child in children:
        os.kill(child, signal.SIGKILL)
    ended = running.wait()
    allowed = ("right", "exit 1") if children else ("right",)
    assert ended.outcome() in allowed, ended.stderr[-1000:]


def begin_twice(random: Random, job: Job) -> None:
    """Begin it twice, at once or one after the other: one of them is right, the other or both."""
    first = job.go_on()
    if random.random() < 0.5:
        first.has_ended(random.uniform(0, job.seconds))
    outcomes = [each.wait().outcome() for each in (job.go_on(), first)]
    assert "right" in outcomes and set(outcomes) <= {"right", "exit 6"}, outcomes
    job.require_right()


DISTURBANCES: dict[Disturbance, int] = {
    end_by_signal: 5,
    end_where_it_writes: 6,
    set_the_clock_back: 1,
    refuse_a_file: 4,
    limit: 2,
    fill_the_disk: 3,
    lose_an_input: 3,
    kill_its_children: 2,
    begin_twice: 2,
}
CAN_MOUNT = os.geteuid() == 0 and shutil.which("mount") is not None


def disturbed(jobs: Sequence[Job]) -> Callable[[Random], str]:
    """Return the fault that disturbs one of these jobs, once or twice, and begins it again."""
    weights = {each: weight for each, weight in DISTURBANCES.items()}
    if not CAN_MOUNT:
        del weights[fill_the_disk]

    def fault(random: Random) -> str:
        job = random.choice(jobs)
        job.measure()
        job.clear()
        for each in random.choices(list(weights), list(weights.values()), k=random.choice((1, 2))):
            try:
                each(random, job)
            except AssertionError as error:
                raise AssertionError(f"{each.__name__}: {error}") from error
        job.finish()
        return "right"

    return fault


def copies(folder: Path, **inputs: Path) -> Path:
    """Copy what a job reads into its folder, by name, and return that."""
    for name, original in inputs.items():
        shutil.copytree(original, folder / INPUTS / name)
    return folder


def assignments(*settings: str) -> list[str]:
    """Return settings as options."""
    return [part for each in settings for part in ("--set", each)]


def test_downstream(
    soak: Soak, programs: Programs, voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    folder = copies(tmp_path, data=voxceleb1_data, upstream=pretrained)
    places = ("--data", f"{INPUTS}/data", "--upstream", f"{INPUTS}/upstream")
    settings = (
        ("epochs=3", "prefetch=0"),
        ("epochs=2", "prefetch=2"),
        ("epochs=3", "prefetch=0", "cache_embeddings=true"),
    )
    jobs = [
        Job(
            programs=programs,
            folder=folder,
            command=("downstream", "voxceleb1", *places, *assignments(*each), "--out", RUN),
            continued=("downstream", "voxceleb1", "--resume", "--out", RUN),
        )
        for each in settings
    ]
    soak.run("downstream: signals and scarce resources", disturbed(jobs))


def test_sweep(
    soak: Soak, programs: Programs, voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    folder = copies(tmp_path, data=voxceleb1_data, upstream=pretrained)
    places = ("--data", f"{INPUTS}/data", "--upstream", f"{INPUTS}/upstream")
    settings = assignments("lr=1e-3,1e-2", "epochs=1", "prefetch=0")
    jobs = [
        Job(
            programs=programs,
            folder=folder,
            command=("sweep", "voxceleb1", *places, *settings, *options, "--out", RUN),
        )
        for options in ((), ("--cache-embeddings",))
    ]
    soak.run("sweep: signals and scarce resources", disturbed(jobs))


def test_evaluate(
    soak: Soak,
    programs: Programs,
    voxceleb1_data: Path,
    speaker_run: Path,
    tmp_path: Path,
) -> None:
    folder = copies(tmp_path, data=voxceleb1_data)
    job = Job(
        programs=programs,
        folder=folder,
        command=("evaluate", RUN, "--data", f"{INPUTS}/data"),
        begun=speaker_run,
    )
    soak.run("evaluate: signals and scarce resources", disturbed([job]))


def test_extract(
    soak: Soak, programs: Programs, librispeech_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    folder = copies(tmp_path, audio=librispeech_folder / "dev-clean", model=model_folder)
    places = ("--model", f"{INPUTS}/model", f"{INPUTS}/audio", "--out", RUN)
    pieces = "\n".join(
        (
            "from aalbert.pipeline.embeddings.extract import ExtractConfig",
            "ExtractConfig.__init__.__kwdefaults__['piece_bytes'] = 5_000",
        )
    )
    jobs = [
        Job(programs=programs, folder=folder, setup=pieces, command=("extract", *places, *options))
        for options in (
            ("--layers", "all"),
            ("--format", "safetensors"),
            ("--format", "shards", "--pooling", "mean"),
        )
    ]
    soak.run("extract: signals and scarce resources", disturbed(jobs))


def test_predict(
    soak: Soak, programs: Programs, voxceleb1_data: Path, speaker_run: Path, tmp_path: Path
) -> None:
    audio = voxceleb1_data.parent / "corpus" / "wav"
    folder = copies(tmp_path, audio=audio, model=speaker_run / "export")
    places = (f"{INPUTS}/model", f"{INPUTS}/audio", "--out", RUN)
    pieces = "\n".join(
        (
            "from aalbert.pipeline.prediction.predict import PredictConfig",
            "PredictConfig.__init__.__kwdefaults__['piece_seconds'] = 3.0",
        )
    )
    jobs = [
        Job(programs=programs, folder=folder, setup=pieces, command=("predict", *places, *options))
        for options in (("--top", "2"), ("--format", "csv"), ("--format", "parquet"))
    ]
    soak.run("predict: signals and scarce resources", disturbed(jobs))


SIMPLE_ALIGNER = """
from aalbert.pipeline.alignment import align as aligning

def align_phones(wave, words, known):
    phones = ["SIL", *(phone for word in words for phone in known[word][0])]
    frames = len(wave) // 160
    return [phones[frame * len(phones) // frames] for frame in range(frames)]

aligning.align_phones = align_phones
aligning.PIECE_UTTERANCES = 1
"""


def test_align(soak: Soak, programs: Programs, tmp_path: Path) -> None:
    """In one process: in others the aligner, which knows no noise, could not be replaced."""
    chapter = tmp_path / INPUTS / "LibriSpeech" / "train-clean-100" / "1" / "2"
    chapter.mkdir(parents=True)
    generator = np.random.default_rng(7)
    for number in range(4):
        wave = generator.standard_normal(16_000) * 0.05
        soundfile.write(chapter / f"1-2-{number:04}.flac", wave, 16_000)
    texts = ("HELLO WORLD", "THE CAT", "A XYZZYX HELLO", "NO")
    lines = (f"1-2-{number:04} {text}\n" for number, text in enumerate(texts))
    (chapter / "1-2.trans.txt").write_text("".join(lines))
    job = Job(
        programs=programs,
        folder=tmp_path,
        setup=SIMPLE_ALIGNER,
        command=("align", f"{INPUTS}/LibriSpeech", "--out", RUN, "--workers", "1"),
    )
    soak.run("align: signals and scarce resources", disturbed([job]))
