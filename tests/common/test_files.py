"""Files in folders where somebody else may have put links before."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aalbert.commands.console import exit_code_of
from aalbert.common.files import (
    atomic_write,
    plain_file,
    remove_unfinished,
    replacing,
    sole_file,
    write_text,
)
from aalbert.common.locking import hold
from aalbert.common.store import Store
from aalbert.errors import OutputInUseError
from aalbert.pipeline.corpora.archive import list_members
from aalbert.pipeline.corpora.librispeech_download import download_subset
from aalbert.shards.reading.shard_cache import ShardCache, lock_file, open_lock
from aalbert.train.measurements import MetricsWriter
from aalbert.train.run_folder import RunFolder

SECRET = "not to be lost\n"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of somebody that nothing here may change."""
    path = tmp_path / "elsewhere" / "secret"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


def test_a_link_at_the_old_temporary_name_or_at_the_name_itself_is_not_followed(
    secret: Path, tmp_path: Path
) -> None:
    for name in ("a.json", "a.json.partial"):
        (tmp_path / name).symlink_to(secret)
    write_text(tmp_path / "a.json", "new")
    assert secret.read_text() == SECRET
    assert (tmp_path / "a.json").read_text() == "new" and not (tmp_path / "a.json").is_symlink()


def test_a_folder_that_is_a_link_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    write_text(tmp_path / "out" / "a", "new")
    assert (tmp_path / "disk" / "a").read_text() == "new"


@pytest.mark.parametrize("planted", ["link", "dangling link", "file"])
def test_even_a_guessed_temporary_name_is_not_opened(
    planted: str, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", bytes)
    temporary = tmp_path / f"a.{0:016x}.partial"
    if planted == "file":
        temporary.hardlink_to(secret)
    else:
        temporary.symlink_to(secret if planted == "link" else secret.with_name("new"))
    with pytest.raises(FileExistsError) as caught, atomic_write(tmp_path / "a"):
        pass
    assert caught.value.filename == str(tmp_path / "a")
    assert os.listdir(secret.parent) == ["secret"] and secret.read_text() == SECRET


def test_two_writers_of_a_file_do_not_share_a_temporary_one(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as one, atomic_write(tmp_path / "a") as other:
        one.write(b"one")
        other.write(b"other")
        assert len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "a").read_bytes() == b"one"


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_the_umask_decides_who_may_read_and_write(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a", "text")
        with hold(tmp_path / "work" / "lock"):
            pass
    finally:
        os.umask(before)
    for path in (tmp_path / "a", tmp_path / "work" / "lock"):
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "a" + "é" * 127, "語" * 85])
def test_the_longest_names_can_be_written(name: str, tmp_path: Path) -> None:
    write_text(tmp_path / name, "text")
    assert os.listdir(tmp_path) == [name]


def test_a_name_that_is_too_long_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        with atomic_write(tmp_path / ("n" * 256)):
            pytest.fail("the work begins")

    assert exit_code_of(command) == 7
    assert capsys.readouterr().err == (
        f"aalbert: File name too long: {tmp_path / ('n' * 256)}: choose another path\n"
    )


def test_a_folder_in_place_of_the_file_is_named_by_its_final_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_text(tmp_path / "a", "text")
    assert caught.value.filename == str(tmp_path / "a")
    assert os.listdir(tmp_path) == ["a"]


def test_what_killed_processes_left_is_removed_by_name(tmp_path: Path) -> None:
    left = [f"a/x.tar.{7:016x}.partial", "a/x.tar.partial", f"a/y.tar.{7:016x}.partial"]
    for name in (*left, "a/x.tar", "a/x.tar.partial.txt"):
        write_text(tmp_path / name, "half")
    remove_unfinished(tmp_path, {"a/x.tar"})
    assert sorted(os.listdir(tmp_path / "a")) == [
        "x.tar",
        "x.tar.partial.txt",
        f"y.tar.{7:016x}.partial",
    ]
    remove_unfinished(tmp_path)
    assert sorted(os.listdir(tmp_path / "a")) == ["x.tar", "x.tar.partial.txt"]


def test_a_link_that_is_left_is_removed_and_not_its_target(secret: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.partial").symlink_to(secret)
    remove_unfinished(tmp_path / "run")
    assert os.listdir(tmp_path / "run") == [] and secret.read_text() == SECRET


def take_lock(folder: Path) -> Path:
    with hold(folder / "lock"):
        pass
    return folder / "lock"


def take_run(folder: Path) -> Path:
    with RunFolder(folder).hold():
        pass
    return folder / "checkpoints" / "lock"


def continue_download(folder: Path) -> Path:
    download_subset("dev-clean", folder, base_url="http://127.0.0.1:9")
    return folder / "dev-clean.tar.gz.partial"


def list_archive(folder: Path) -> Path:
    list_members(folder / "none.tar.gz", folder / "a.index")
    return folder / "a.lock"


def open_shard_lock(folder: Path) -> Path:
    open_lock(folder / "a.tar").close()
    return lock_file(folder / "a.tar")


def reserve(folder: Path) -> Path:
    with ShardCache(folder=folder)._sizes_locked():
        pass
    return folder / "cache.lock"


KNOWN_NAMES: dict[str, Callable[[Path], Path]] = {
    "lock": take_lock,
    "checkpoints/lock": take_run,
    "dev-clean.tar.gz.partial": continue_download,
    "a.lock": list_archive,
    "a.tar.lock": open_shard_lock,
    "cache.lock": reserve,
}
# These may be shortened, so that a second name of another file is refused too.
SHORTENED = ("lock", "checkpoints/lock", "dev-clean.tar.gz.partial")


@pytest.mark.parametrize("target", ["secret", "new"])
@pytest.mark.parametrize("name", KNOWN_NAMES)
def test_a_link_at_a_known_name_is_refused(
    name: str, target: str, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(secret.with_name(target))
    assert exit_code_of(lambda: KNOWN_NAMES[name](tmp_path / "out") and None) == 6
    assert capsys.readouterr().err == (
        f"aalbert: {link} is a link, and no file is written through one: delete it, and run the "
        "command again\n"
    )
    assert os.listdir(secret.parent) == ["secret"] and secret.read_text() == SECRET


@pytest.mark.parametrize("name", SHORTENED)
def test_a_hard_link_at_a_known_name_is_refused(name: str, secret: Path, tmp_path: Path) -> None:
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.hardlink_to(secret)
    with pytest.raises(OutputInUseError) as caught:
        KNOWN_NAMES[name](tmp_path / "out")
    assert str(caught.value) == (
        f"{link} is a file that has another name too (a hard link): delete it, and run the "
        "command again"
    )
    assert secret.read_text() == SECRET


def test_a_pipe_at_a_known_name_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(OutputInUseError) as caught, hold(tmp_path / "lock"):
        pass
    assert str(caught.value) == (
        f"{tmp_path / 'lock'} is no plain file: delete it, and run the command again"
    )


def test_measurements_are_not_appended_through_a_link(secret: Path, tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "metrics.jsonl", ["loss"])
    for name in ("metrics.csv", "metrics.jsonl"):
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(secret)
        with pytest.raises(OutputInUseError, match=rf"^{tmp_path / name} is a link, "):
            writer.write(step=1, loss=0.5)
    assert secret.read_text() == SECRET


def test_files_of_a_store_that_is_a_folder_are_not_written_through_links(
    secret: Path, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    for name in ("a", "a.partial"):
        (tmp_path / "store" / name).symlink_to(secret)
    (tmp_path / "local").write_text("new")
    Store(f"file://{tmp_path}/store").put(tmp_path / "local", "a")
    assert (tmp_path / "store" / "a").read_text() == "new" and secret.read_text() == SECRET


def test_a_file_that_is_fetched_replaces_a_link(secret: Path, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(secret)
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new" and secret.read_text() == SECRET


@pytest.mark.parametrize("opener", [plain_file, sole_file])
def test_a_file_of_ours_is_opened_again(opener: Callable[[str, int], int], tmp_path: Path) -> None:
    for _ in range(2):
        with open(tmp_path / "a", "a", opener=opener) as stream:
            stream.write("line\n")
    assert (tmp_path / "a").read_text() == "line\nline\n"
