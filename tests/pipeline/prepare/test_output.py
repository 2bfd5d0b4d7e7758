import errno
import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from aalbert.common.files import write_text
from aalbert.errors import ConfigError, OutputInUseError, StorageError
from aalbert.pipeline.prepare.output import (
    LocalOutput,
    Output,
    RemoteOutput,
    open_output,
    require_space,
)
from aalbert.shards.format.writer import Sample, write_shard

Opener = Callable[[], Output]
SHARD = "train/000000.tar"


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens one output, in each kind of place, as a new process would."""
    places = {
        "folder": str(tmp_path / "out"),
        "file": f"file://{tmp_path}/out",
        "memory": "memory://out",
    }
    place = places.get(request.param) or f"{request.getfixturevalue('s3')}/some/out/"
    yield lambda: open_output(place, tmp_path / "staging")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def remote(s3: str, tmp_path: Path) -> Output:
    return open_output(f"{s3}/out", tmp_path / "staging")


def build(output: Output, path: str, text: str = "content\n") -> None:
    with output.build(path) as local:
        write_text(local, text)


def test_a_built_file_is_visible_under_its_name_to_all(opener: Opener) -> None:
    build(opener(), "train/000000.tar", "shard\n")
    build(opener(), ".prepare/train/000000.arrow", "rows\n")
    output = pickle.loads(pickle.dumps(opener()))
    assert output.has("train/000000.tar")
    assert not output.has("train/000001.tar")
    assert output.has("train")
    assert output.sizes() == {".prepare/train/000000.arrow": 5, "train/000000.tar": 6}
    assert output.fetch("train/000000.tar").read_text() == "shard\n"


def test_an_output_that_does_not_exist_yet_is_empty(opener: Opener) -> None:
    output = opener()
    assert output.sizes() == {}
    assert not output.has("manifest.json")
    output.remove(".prepare")
    free = output.free_bytes()
    assert free is not None
    assert free > 2**20


def test_a_file_that_is_built_again_takes_the_place_of_the_old_one(opener: Opener) -> None:
    output = opener()
    build(output, "manifest.json", "old\n")
    assert output.fetch("manifest.json").read_text() == "old\n"
    build(opener(), "manifest.json", "newer\n")
    assert output.fetch("manifest.json").read_text() == "newer\n"
    assert output.sizes() == {"manifest.json": 6}


def test_a_block_that_raises_publishes_nothing_and_a_rerun_works(
    opener: Opener, tmp_path: Path
) -> None:
    output = opener()
    with pytest.raises(ZeroDivisionError), output.build("train/000000.tar") as local:
        write_text(local.with_name("other"), "beside it\n")
        1 / 0  # noqa: B018 - the fault
    assert not output.has("train/000000.tar")
    build(output, "train/000000.tar")
    assert output.has("train/000000.tar")
    assert not (tmp_path / "staging" / "train" / "000000.tar").exists()


def test_a_stale_file_in_staging_is_never_published(tmp_path: Path, s3: str) -> None:
    output = open_output(f"{s3}/out", tmp_path / "staging")
    write_text(tmp_path / "staging" / "manifest.json", "left by a killed run\n")
    with pytest.raises(FileNotFoundError), output.build("manifest.json"):
        pass
    assert output.sizes() == {}


def test_files_of_other_processes_are_seen_after_a_listing(remote: Output, s3_client: Any) -> None:
    build(remote, SHARD)
    assert remote.sizes() == {SHARD: 8}
    s3_client.put_object(Bucket="bucket", Key="out/train/000001.tar", Body=b"x")
    assert remote.has("train/000001.tar")
    s3_client.delete_object(Bucket="bucket", Key=f"out/{SHARD}")
    assert not remote.has(SHARD)
    assert remote.sizes() == {"train/000001.tar": 1}


def test_empty_objects_that_stand_for_folders_are_no_files(remote: Output, s3_client: Any) -> None:
    for key in ("out/", "out/train/", "out/train/000000.tar", "outside"):
        s3_client.put_object(Bucket="bucket", Key=key, Body=b"" if key.endswith("/") else b"x")
    assert remote.sizes() == {SHARD: 1}


BUILD = """
import pickle, sys
with pickle.load(sys.stdin.buffer).build("train/000000.tar") as local:
    local.write_bytes(b"shard")
"""


def test_a_new_process_finds_the_server_in_its_environment(remote: Output) -> None:
    # fsspec reads such variables when it is imported.
    environment = {**os.environ, "FSSPEC_S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL_S3"]}
    del environment["AWS_ENDPOINT_URL_S3"]
    command = [sys.executable, "-W", "error", "-c", BUILD]
    subprocess.run(command, input=pickle.dumps(remote), env=environment, check=True)
    assert remote.sizes() == {SHARD: 5}


def test_files_and_whole_folders_are_removed(opener: Opener) -> None:
    output = opener()
    for path in (".prepare/plan.json", ".prepare/train/000000.arrow", ".prepared", "README.md"):
        build(output, path)
    output.fetch(".prepare/plan.json")
    output.remove(".prepare")
    output.remove("README.md")
    output.remove("README.md")
    assert list(output.sizes()) == [".prepared"]


def test_temporary_files_are_not_counted(opener: Opener) -> None:
    output = opener()
    build(output, "train/000000.tar.partial")
    assert output.sizes() == {}


def test_a_second_run_is_refused_and_a_third_one_works(opener: Opener) -> None:
    output, lock = opener(), ".prepare/lock"
    with output.hold(lock):
        for shared in (False, True):
            with pytest.raises(OutputInUseError) as caught, opener().hold(lock, shared=shared):
                pass
            assert str(caught.value) == (
                f"{output.name} is being written by process {os.getpid()} on "
                f"{platform.node()}: wait for it, or choose another --out"
            )
    with opener().hold(lock):
        pass


def test_parts_share_the_lock_and_keep_a_whole_run_out(opener: Opener) -> None:
    output, lock = opener(), ".prepare/lock"
    with output.hold(lock, shared=True), opener().hold(lock, shared=True):
        with output.hold(".prepare/lock-1-of-2"), pytest.raises(OutputInUseError):
            opener().hold(".prepare/lock-1-of-2").__enter__()
        with pytest.raises(OutputInUseError, match="is being written by process"):
            opener().hold(lock).__enter__()
    with output.hold(lock):
        pass


def test_the_work_folder_can_be_removed_under_the_lock(opener: Opener) -> None:
    output = opener()
    with output.hold(".prepare/lock"):
        build(output, ".prepare/plan.json")
        build(output, "manifest.json")
        output.remove(".prepare")
    assert list(output.sizes()) == ["manifest.json"]


def test_paths_stay_paths_and_urls_become_remote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_output("data/out") == LocalOutput(Path("data/out"))
    assert open_output(f"file://{tmp_path}") == LocalOutput(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, again, other = (open_output(f"s3://bucket/{name}") for name in ("a", "a/", "b"))
    assert first == again
    assert isinstance(first, RemoteOutput)
    assert isinstance(other, RemoteOutput)
    assert first.staging.parent == tmp_path / "aalbert" / "staging"
    assert first.staging != other.staging


def test_a_password_is_never_shown() -> None:
    output = RemoteOutput("sftp://me:se@cret@host/data", Path("staging"))
    assert output.name == "sftp://me:***@host/data"
    assert "cret" not in repr(output)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("ftq://host/x", "ftq://host/x: fsspec knows no 'ftq://', try s3://"),
        ("s3://", "s3:// names no bucket or host"),
        (
            "simplecache::s3://bucket/x",
            "simplecache::s3://bucket/x is a chain of URLs, which cannot be written: give one URL",
        ),
    ],
)
def test_an_unusable_url_is_refused(out: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_output(out)
    assert str(caught.value) == message


def test_a_missing_backend_is_named_with_the_extra_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(protocol: str) -> None:
        raise ImportError(f"Install something to access {protocol}")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(ConfigError) as caught:
        open_output("s3://bucket/data")
    assert str(caught.value) == (
        "s3://bucket/data needs a package that is not installed: pip install 'aalbert[s3]'"
    )
    with pytest.raises(ConfigError, match="not installed: Install something to access sftp"):
        open_output("sftp://host/data")


def write_features(path: Path, shard: int) -> None:
    frames = np.full((16_384, 80), shard, dtype=np.float32)  # 2.5 MiB as float16
    sample = Sample(
        key=f"utterance-{shard}",
        split="train",
        speaker="a",
        samples=1,
        source="a.flac",
        source_sample_rate=16_000,
        source_channels=1,
        features={"logmel": frames},
    )
    write_shard(path, [sample], shard=shard, feature_dims={"logmel": 80}, fields=())


def test_a_full_disk_leaves_only_finished_shards_and_reports_no_space_left(
    small_disk: Path,
) -> None:
    output = LocalOutput(small_disk / "out")
    assert output.free_bytes() <= 8 * 2**20
    for shard in range(3):
        with output.build(f"train/{shard:06d}.tar") as path:
            write_features(path, shard)
    with pytest.raises(OSError) as caught, output.build("train/000003.tar") as path:
        write_features(path, 3)
    assert caught.value.errno == errno.ENOSPC
    seen = [path.name for path in small_disk.rglob("*") if path.is_file()]
    assert sorted(seen) == ["000000.tar", "000001.tar", "000002.tar"]
    assert len(set(output.sizes().values())) == 1
    output.remove("train/000000.tar")
    with output.build("train/000003.tar") as path:
        write_features(path, 3)
    assert output.has("train/000003.tar")


def test_a_full_staging_disk_reports_no_space_left_and_publishes_nothing(
    small_disk: Path, s3: str
) -> None:
    output = open_output(f"{s3}/out", small_disk / "staging")
    write_text(small_disk / "other", "x" * 7 * 2**20)
    with pytest.raises(OSError) as caught, output.build("train/000000.tar") as path:
        write_features(path, 0)
    assert caught.value.errno == errno.ENOSPC
    (small_disk / "other").unlink()
    assert output.sizes() == {}
    with output.build("train/000000.tar") as path:
        write_features(path, 0)
    write_text(small_disk / "other", "x" * 7 * 2**20)
    with pytest.raises(OSError) as caught:
        output.fetch("train/000000.tar")
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["other"]


def test_a_read_only_disk_is_refused_before_any_work(small_disk: Path) -> None:
    output = LocalOutput(small_disk / "out")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError) as caught:
        output.hold(".prepare/lock").__enter__()
    assert caught.value.errno == errno.EROFS
    assert list(small_disk.iterdir()) == []


def test_too_little_space_is_refused_with_both_sizes() -> None:
    with pytest.raises(StorageError) as caught:
        require_space(57 * 2**30, 3 * 2**29, "/data/out")
    assert str(caught.value) == (
        "needs about 57.0 GiB, 1.5 GiB free in /data/out: make room there, or choose another --out"
    )
    assert caught.value.exit_code == 7


def test_exactly_enough_space_is_accepted() -> None:
    require_space(2**30, 2**30, "/data/out")
