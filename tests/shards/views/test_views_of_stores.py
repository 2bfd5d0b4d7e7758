"""`aalbert shards ...` of datasets at URLs: a local S3 server, and other stores of fsspec."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aalbert.cli import main
from aalbert.common.store import Store
from aalbert.shards import Dataset
from aalbert.shards.views.info import describe
from tests.trees import tree

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning")

SHARD = "train-clean-100/000000.tar"


@pytest.fixture
def url(s3: str, s3_client: Any, prepared: Path) -> str:
    """The dataset in a bucket."""
    for path, content in tree(prepared).items():
        s3_client.put_object(Bucket="bucket", Key=f"data/{path}", Body=content)
    return f"{s3}/data"


def damaged(content: bytes) -> bytes:
    """The content with one bit of its middle flipped."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def fetch(dataset: Dataset) -> Path:
    """Fetch the shard into the cache as training does, and return its copy."""
    copy = dataset.folder / SHARD
    dataset.fetch_shard(dataset.shard_paths.index(copy))
    return copy


def problems(url: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    code = main(["shards", "verify", url, "--json"])
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["problems"]
    assert code == (4 if found else 0)
    return found


def test_info_of_a_bucket_is_that_of_the_folder_and_fetches_no_shard(
    url: str,
    prepared: Path,
    s3_client: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in Dataset(prepared).shard_paths:
        key = f"data/{path.relative_to(prepared)}"
        s3_client.delete_object(Bucket="bucket", Key=key)
    assert main(["shards", "info", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == describe(prepared) | {"data": url}


@pytest.mark.slow
def test_stats_and_show_of_a_bucket_are_those_of_the_folder(
    url: str, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = Dataset(prepared).key(3)
    shown = {}
    for place in (url, str(prepared)):
        assert main(["shards", "stats", place, "--json"]) == 0
        statistics = json.loads(capsys.readouterr().out)
        assert statistics.pop("data") == place
        picture = tmp_path / "picture.png"
        assert main(["shards", "show", place, key, "--out", str(picture), "--json"]) == 0
        shown[place] = statistics, json.loads(capsys.readouterr().out), picture.read_bytes()
    assert shown[url] == shown[str(prepared)]
    assert main(["shards", "show", url, "nobody"]) == 3
    assert f"{url} has no utterance 'nobody'" in capsys.readouterr().err


def test_verify_reads_every_object_of_a_bucket_and_holds_one_at_a_time(
    url: str,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    get, fetched = Store.get, []

    def local_files() -> int:
        return sum(path.is_file() for path in (tmp_path / "user-cache").rglob("*"))

    def noted(store: Store, path: str, local: Path) -> None:
        get(store, path, local)
        assert local_files() == 1
        fetched.append(path)

    monkeypatch.setattr(Store, "get", noted)
    files = tree(prepared)
    assert main(["shards", "verify", url, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["data"] == url
    assert document["bytes"] == sum(map(len, files.values()))
    assert document["files"] == len(files)
    assert sorted([*fetched, "manifest.json"]) == sorted(files)
    assert local_files() == 0


def test_damage_in_a_bucket_is_found_beside_an_intact_copy_in_the_cache(
    url: str, s3_client: Any, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(Dataset(url))
    content = damaged((prepared / SHARD).read_bytes())
    s3_client.put_object(Bucket="bucket", Key=f"data/{SHARD}", Body=content)
    (problem,) = problems(url, capsys)
    assert problem["path"] == f"{url}/{SHARD}"
    assert "is not what was written, bytes" in problem["what"]


def test_a_damaged_copy_in_the_cache_is_found_beside_an_intact_bucket(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = fetch(Dataset(url))
    copy.write_bytes(damaged(copy.read_bytes()))
    (problem,) = problems(url, capsys)
    assert problem["path"] == str(copy)
    assert problem["what"] == (
        f"is a damaged copy of {url}/{SHARD} (checksum): delete it, and it is fetched again"
    )
    copy.unlink()
    assert problems(url, capsys) == []


@pytest.mark.slow
def test_every_kind_of_file_is_checked(
    url: str, s3_client: Any, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases: list[tuple[str, Callable[[bytes], bytes] | None, str]] = [
        ("index/dev-clean.arrow", damaged, "is not what was written (checksum)"),
        ("README.md", lambda content: content[:-1], "were written"),
        (SHARD, lambda content: content[:-1], "were written"),
        ("manifest.json", damaged, "(without it no other file can be checked)"),
        ("statistics/dev-clean.arrow", None, "is missing"),
        (SHARD, None, "is missing"),
    ]
    for path, change, what in cases:
        key, content = f"data/{path}", (prepared / path).read_bytes()
        if change is None:
            s3_client.delete_object(Bucket="bucket", Key=key)
        else:
            s3_client.put_object(Bucket="bucket", Key=key, Body=change(content))
        found = problems(url, capsys)
        assert {problem["path"] for problem in found} == {f"{url}/{path}"}
        assert what in found[0]["what"]
        s3_client.put_object(Bucket="bucket", Key=key, Body=content)


def test_objects_that_do_not_belong_are_found(
    url: str, s3_client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    s3_client.put_object(Bucket="bucket", Key="data/old/000000.tar", Body=b"x")
    s3_client.put_object(Bucket="bucket", Key="data/a.tar.partial", Body=b"x")
    s3_client.put_object(Bucket="bucket", Key="database/a.tar", Body=b"of another folder")
    assert [(problem["path"], problem["what"]) for problem in problems(url, capsys)] == [
        (
            f"{url}/a.tar.partial",
            "does not belong to the dataset (a file that was never finished): delete or move it",
        ),
        (f"{url}/old/000000.tar", "does not belong to the dataset: delete or move it"),
    ]


@pytest.mark.parametrize(
    ("place", "code", "message"),
    [
        ("s3://bucket/nothing", 3, "there is nothing at s3://bucket/nothing: check the URL, and "),
        ("s3://no-such-bucket/data", 3, "there is nothing at s3://no-such-bucket/data: check "),
        ("s3://bucket/index", 3, "s3://bucket/index has no manifest.json: it is not a dataset"),
        ("s3://", 2, "s3:// names no bucket or host"),
        ("nonsense://user:word@host/x", 2, "nonsense://user:***@host/x: fsspec knows no 'nons"),
    ],
)
def test_a_place_without_a_dataset_is_one_line_and_an_exit_code(
    place: str,
    code: int,
    message: str,
    s3: str,
    s3_client: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    s3_client.put_object(Bucket="bucket", Key="index/train.arrow", Body=b"x")
    for command in (["info", place], ["verify", place], ["stats", place], ["show", place, "KEY"]):
        assert main(["shards", *command]) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"aalbert: {message}")


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_other_stores_are_read_too(
    protocol: str, prepared: Path, dataset_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"file://{dataset_copy}" if protocol == "file" else "memory://verified"
    if protocol == "memory":
        store = Store(url)
        for path, content in tree(prepared).items():
            store.write(path, content)
    assert main(["shards", "info", url, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {**document, "data": str(prepared)} == describe(prepared)
    assert problems(url, capsys) == []
    Store(url).write(SHARD, damaged((prepared / SHARD).read_bytes()))
    (problem,) = problems(url, capsys)
    assert problem["path"].endswith(SHARD)
    Store(url).remove("")
