"""The loader with damaged bytes, missing files or a killed reader."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aalbert.common.signals import SAVE_SIGNALS
from aalbert.errors import AalbertError, IntegrityError, ReaderDiedError
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig
from aalbert.shards.loading.reader_client import start_process
from aalbert.shards.loading.shared_slots import make_shared_memory

CONFIG = LoaderConfig(order=OrderConfig(frames_per_batch=150), seed=1, prefetch=0)
AHEAD = replace(CONFIG, prefetch=2)


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    """A dataset to be damaged."""
    return Path(shutil.copytree(prepared, tmp_path / "copy"))


def damage(dataset: Dataset, row: int, bit: int = 3) -> str:
    """Flip a bit in the logmel of a row, and return its key."""
    offset = int(dataset.locations("logmel").offset[row]) + 10
    with dataset.shard_path(row).open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ (1 << bit)]))
    return dataset.key(row)


def read_all(loader: Loader) -> int:
    return sum(len(batch.rows) for batch in loader)


@pytest.mark.parametrize("config", [CONFIG, AHEAD], ids=["inline", "ahead"])
def test_a_wrong_byte_ends_the_run_and_names_shard_and_key(
    copy: Path, config: LoaderConfig
) -> None:
    dataset = Dataset(copy)
    key = damage(dataset, 17)
    loader = Loader(dataset.select(["*"]), config)
    with pytest.raises(IntegrityError) as caught:
        read_all(loader)
    assert str(caught.value) == (
        f"{dataset.shard_path(17)}: the logmel of '{key}' is not what was written (checksum); "
        "restore the shard or prepare the data again"
    )
    assert caught.value.exit_code == 4


def test_all_batches_before_a_wrong_byte_arrive(copy: Path) -> None:
    """Slots are reported several at once; those not yet reported are not lost."""
    dataset = Dataset(copy)
    damage(dataset, 17)

    def batches_before_the_error(config: LoaderConfig) -> list[list[int]]:
        found: list[list[int]] = []
        with pytest.raises(IntegrityError):
            found.extend(batch.rows.tolist() for batch in Loader(dataset.select(["*"]), config))
        return found

    inline = batches_before_the_error(CONFIG)
    assert len(inline) > 4
    for prefetch in (9, 12, 16, 20):
        assert batches_before_the_error(replace(AHEAD, prefetch=prefetch)) == inline


def test_a_hundred_flipped_bits_are_found_as_they_are_read(copy: Path) -> None:
    draws = np.random.default_rng(9)
    dataset = Dataset(copy)
    whole = {path: path.read_bytes() for path in dataset.shard_paths}
    places = dataset.locations("logmel")
    found = 0
    for _ in range(100):
        row = int(draws.integers(len(dataset)))
        path, start = dataset.shard_path(row), int(places.offset[row])
        data = bytearray(whole[path])
        data[start + int(draws.integers(places.bytes[row]))] ^= 1 << int(draws.integers(8))
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match=rf"the logmel of '{dataset.key(row)}' is not"):
            read_all(Loader(Dataset(copy).select(["*"]), CONFIG))
        found += 1
        path.write_bytes(whole[path])
    assert found == 100


def test_checksums_are_compared_as_configured(copy: Path) -> None:
    dataset = Dataset(copy)
    never, first, always = (
        Loader(dataset.select(["*"]), replace(CONFIG, verify=verify))
        for verify in ("never", "first-epoch", "always")
    )
    for loader in (never, first, always):
        assert read_all(loader) == len(dataset)
    damage(dataset, 4)
    assert read_all(never) == len(dataset)
    assert read_all(first) == len(dataset)
    with pytest.raises(IntegrityError):
        read_all(always)
    with pytest.raises(IntegrityError):
        read_all(Loader(dataset.select(["*"]), replace(CONFIG, verify="first-epoch")))


def test_swapped_shards_are_detected(copy: Path) -> None:
    """Shards of the same size, which differ only in their bytes."""
    dataset = Dataset(copy)
    first, second = [path for path in dataset.shard_paths if "train" in str(path)][:2]
    sizes = [path.stat().st_size for path in (first, second)]
    payloads = [path.read_bytes() for path in (first, second)]
    for path, payload, size in zip((first, second), reversed(payloads), sizes, strict=True):
        path.write_bytes(payload[:size].ljust(size, b"\0"))
    with pytest.raises(IntegrityError, match=r"is not what was written \(checksum\)"):
        read_all(Loader(Dataset(copy).select(["train*"]), CONFIG))


@pytest.mark.parametrize("fault", ["missing", "cut", "extra"])
def test_a_shard_that_is_not_as_recorded_is_refused_before_the_first_batch(
    copy: Path, fault: str
) -> None:
    shard = Dataset(copy).shard_paths[0]
    if fault == "missing":
        shard.unlink()
    elif fault == "cut":
        os.truncate(shard, shard.stat().st_size - 512)
    else:
        shutil.copy(shard, shard.with_name("000099.tar"))
    name = shard.with_name("000099.tar") if fault == "extra" else shard
    with pytest.raises(IntegrityError, match=str(name)) as caught:
        Dataset(copy)
    assert caught.value.exit_code == 4


def children() -> set[int]:
    """The process ids of this process's readers."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        int(child)
        for child in found
        if b"shards.loading.reader_process" in Path(f"/proc/{child}/cmdline").read_bytes()
    }


def start(loader: Loader) -> int:
    """Read a first batch, and return the process id of the loader's reader."""
    before = children()
    next(iter(loader))
    [reader] = children() - before
    return reader


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
def test_a_killed_reader_ends_the_run_with_its_reason(prepared: Path) -> None:
    dataset = Dataset(prepared)
    loader = Loader(dataset.select(["*"]), AHEAD)
    os.kill(start(loader), signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(ReaderDiedError) as caught:
        for _ in range(100):
            read_all(loader)
    assert time.monotonic() - began < 30
    assert str(caught.value).startswith(
        "the process that reads ahead was ended by SIGKILL (out of memory?) at "
    )
    assert any(f"utterance '{key}'" in str(caught.value) for key in dataset.column("key"))


@linux
def test_a_shard_truncated_while_it_is_read_ends_the_run_and_is_named(copy: Path) -> None:
    dataset = Dataset(copy)
    loader = Loader(dataset.select(["*"]), replace(AHEAD, prefetch=1))
    read_all(loader)
    for path in dataset.shard_paths:
        os.truncate(path, 0)
    with pytest.raises(ReaderDiedError, match=r"by SIGBUS \(was the file cut off .*\.tar, utt"):
        for _ in range(100):
            read_all(loader)


@pytest.mark.parametrize("size", [0, 512])
def test_a_shard_truncated_while_this_process_reads_it_is_named(copy: Path, size: int) -> None:
    """Without the error the system would end this process, and the tests with it."""
    dataset = Dataset(copy)
    loader = Loader(dataset.select(["*"]), CONFIG)
    read_all(loader)
    dataset.features(0, "logmel")
    for path in dataset.shard_paths:
        os.truncate(path, size)
    message = rf"\.tar has {size} bytes, the manifest says \d+ bytes; restore it, or delete "
    with pytest.raises(IntegrityError, match=message):
        read_all(loader)
    with pytest.raises(IntegrityError, match=message):
        dataset.features(0, "logmel")


def test_a_shard_deleted_while_it_is_mapped_stays_whole(copy: Path) -> None:
    dataset = Dataset(copy)
    before = dataset.features(0, "logmel").copy()
    for path in dataset.shard_paths:
        path.unlink()
    np.testing.assert_array_equal(dataset.features(0, "logmel"), before)


@pytest.mark.parametrize("config", [CONFIG, AHEAD], ids=["inline", "ahead"])
def test_a_shard_that_vanishes_before_it_is_read_is_named(copy: Path, config: LoaderConfig) -> None:
    dataset = Dataset(copy)
    loader = Loader(dataset.select(["train*"]), replace(config, prefetch=min(1, config.prefetch)))
    next(iter(loader))
    for path in dataset.shard_paths:
        path.unlink()
    with pytest.raises(IntegrityError, match=r"\.tar is missing, the manifest says \d+ bytes"):
        read_all(loader)


@linux
def test_a_reader_ends_with_its_loader(prepared: Path) -> None:
    loader = Loader(Dataset(prepared).select(["*"]), AHEAD)
    reader = start(loader)
    del loader
    assert not Path(f"/proc/{reader}").exists()


@linux
def test_a_reader_ends_with_its_parent_and_not_before(prepared: Path, tmp_path: Path) -> None:
    """It outlives the signals that the parent may want to save its state on."""
    script = (
        "import sys, time\n"
        "from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig\n"
        "order = OrderConfig(frames_per_batch=150)\n"
        "loader = Loader(Dataset(sys.argv[1]).select(['*']), LoaderConfig(order=order))\n"
        "next(iter(loader))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(prepared)], stdout=subprocess.PIPE, cwd=tmp_path
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    [reader] = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    for number in SAVE_SIGNALS:
        os.kill(int(reader), number)
    time.sleep(0.2)
    assert Path(f"/proc/{reader}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{reader}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{reader}").exists()


def test_a_reader_that_just_starts_leaves_signals_to_its_parent() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(make_shared_memory(1), "rb") as memory:
        reader = start_process(theirs.fileno(), memory.fileno())
        for number in SAVE_SIGNALS:
            reader.send_signal(number)
        assert reader.stdin is not None
        reader.stdin.close()
        assert reader.wait(60) == 0


def test_a_dataset_replaced_while_it_is_loaded_is_refused(copy: Path) -> None:
    loader = Loader(Dataset(copy).select(["*"]), AHEAD)
    (copy / "manifest.json").unlink()
    with pytest.raises(AalbertError, match=r"has no manifest\.json"):
        next(iter(loader))


class SlowCopy:
    """A copy to a device that is not complete before something waits for it."""

    over = False

    def query(self) -> bool:
        return self.over

    def synchronize(self) -> None:
        self.over = True


def test_the_loader_waits_for_copies_in_progress_from_all_slots(prepared: Path) -> None:
    """As when the training loop is far ahead of its GPU."""
    dataset = Dataset(prepared)
    loader = Loader(dataset.select(["*"]), replace(AHEAD, prefetch=1))
    seen = 0
    for batch in loader:
        assert batch.lease is None or not batch.lease.copies
        if batch.lease is not None:
            batch.lease.copies.append(SlowCopy())
        seen += len(batch.rows)
    loader.close()
    assert seen == len(dataset)


def target_of(descriptor: Path) -> str | None:
    """What an open file of this process is, None if it was closed meanwhile."""
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:
        return None


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed in /proc")
def test_mapped_shards_keep_no_file_open(prepared: Path) -> None:
    dataset = Dataset(prepared)
    arrays = [dataset.features(row, "logmel") for row in range(len(dataset))]
    assert len(set(dataset.shards().tolist())) > 3
    # Other tests may leave files for the collector of garbage, so that their number says nothing.
    opened = [path for each in Path("/proc/self/fd").iterdir() if (path := target_of(each))]
    assert opened and not [path for path in opened if str(prepared) in path]
    # What was mapped stays valid without the dataset.
    copies = [array.copy() for array in arrays]
    del dataset
    assert all(np.array_equal(one, other) for one, other in zip(arrays, copies, strict=True))


def test_a_dataset_and_a_selection_say_what_they_hold(prepared: Path) -> None:
    dataset = Dataset(prepared)
    described = (
        f"Dataset({str(prepared)!r}: 30 utterances, 0.00 hours, 6 speakers; "
        "splits dev-clean, train-clean-100; features logmel 80, fbank 80)"
    )
    assert repr(dataset) == described
    assert repr(dataset.select(["dev*"])) == f"Selection(6 utterances of {described})"
    half = dataset.select(["dev*"], weight=0.5)
    assert repr(half) == f"Selection(6 utterances of {described}, weight 0.5)"
