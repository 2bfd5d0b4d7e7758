"""`aalbert prepare --out s3://...` against a local S3 server."""

from pathlib import Path
from typing import Any

import pytest

from aalbert.common.store import Store
from aalbert.errors import OutputInUseError, StorageError
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.output import RemoteOutput
from aalbert.pipeline.prepare.prepare import PrepareLimits, finalize, prepare, prepare_part
from aalbert.pipeline.prepare.work_folder import Part
from tests.trees import tree

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utc:DeprecationWarning")


@pytest.fixture
def corpus(librispeech_folder: Path) -> Corpus:
    return read_librispeech(librispeech_folder)


def objects(client: Any) -> dict[str, bytes]:
    """Every object below `data/` of the bucket, read by another client than ours."""
    listed = client.list_objects_v2(Bucket="bucket", Prefix="data/").get("Contents", [])
    return {
        item["Key"].removeprefix("data/"): client.get_object(Bucket="bucket", Key=item["Key"])[
            "Body"
        ].read()
        for item in listed
    }


def test_a_bucket_gets_the_bytes_of_a_folder(
    s3: str,
    s3_client: Any,
    corpus: Corpus,
    prepared: Path,
    small_config: PrepareConfig,
) -> None:
    limits = PrepareLimits(engine=LocalEngine(workers=2))
    manifest = prepare(corpus, f"{s3}/data", small_config, limits)
    assert manifest.utterances == len(corpus.utterances)
    assert objects(s3_client) == tree(prepared)
    before = s3_client.list_objects_v2(Bucket="bucket")["Contents"]
    assert prepare(corpus, f"{s3}/data", small_config, limits) == manifest
    assert s3_client.list_objects_v2(Bucket="bucket")["Contents"] == before


def test_a_run_whose_uploads_failed_is_continued(
    s3: str,
    s3_client: Any,
    corpus: Corpus,
    prepared: Path,
    small_config: PrepareConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload, uploads = Store.upload, []

    def failing(self: Store, local: Path, path: str, size: int, digest: str) -> None:
        uploads.append(path)
        if len(uploads) > 9:
            raise ConnectionResetError(104, "Connection reset by peer")
        upload(self, local, path, size, digest)

    monkeypatch.setattr("aalbert.common.store.RETRY_WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(Store, "upload", failing)
    limits = PrepareLimits(engine=LocalEngine(workers=1))
    with pytest.raises(StorageError, match="Connection reset by peer .tried 3 times"):
        prepare(corpus, f"{s3}/data", small_config, limits)
    left = objects(s3_client)
    assert all(left[path] == data for path, data in tree(prepared).items() if path in left)
    assert "manifest.json" not in left
    monkeypatch.setattr(Store, "upload", upload)
    prepare(corpus, f"{s3}/data", small_config, limits)
    assert objects(s3_client) == tree(prepared)


def test_parts_are_combined_in_a_bucket(
    s3: str, s3_client: Any, corpus: Corpus, prepared: Path, small_config: PrepareConfig
) -> None:
    for number in (2, 1):
        part = Part(number=number, count=2)
        prepare_part(corpus, f"{s3}/data", small_config, LocalEngine(workers=1), part)
    finalize(f"{s3}/data", max_skipped=0.001)
    assert objects(s3_client) == tree(prepared)


def test_a_second_prepare_of_a_bucket_is_refused(
    s3: str, corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    output = RemoteOutput(f"{s3}/data", tmp_path / "staging")
    with (
        output.hold(".prepare/lock"),
        pytest.raises(OutputInUseError, match="is being written by process"),
    ):
        prepare(corpus, f"{s3}/data", small_config)


@pytest.mark.parametrize(
    "name",
    [
        "br[1]",
        pytest.param("run?", marks=pytest.mark.slow),
        pytest.param("a*b", marks=pytest.mark.slow),
    ],
)
def test_a_name_that_looks_like_a_pattern_is_a_name(
    name: str,
    s3: str,
    s3_client: Any,
    corpus: Corpus,
    prepared: Path,
    small_config: PrepareConfig,
) -> None:
    others = {"run1/.prepare/lock.json", "br1/.prepare/lock.json", "aXb/.prepare/lock.json"}
    for key in others:
        s3_client.put_object(Bucket="bucket", Key=key, Body=b"of another run")
    limits = PrepareLimits(engine=LocalEngine(workers=1))
    prepare_part(
        corpus, f"{s3}/{name}", small_config, LocalEngine(workers=1), Part(number=1, count=2)
    )
    for _ in range(2):
        prepare(corpus, f"{s3}/{name}", small_config, limits)
    listed = s3_client.list_objects_v2(Bucket="bucket")["Contents"]
    found = {item["Key"] for item in listed}
    assert found == others | {f"{name}/{path}" for path in tree(prepared)}


def test_a_lock_of_a_dead_process_under_a_name_like_a_pattern_is_taken_over(
    s3: str, s3_client: Any, corpus: Corpus, small_config: PrepareConfig
) -> None:
    dead = b'{"pid": 1, "host": "elsewhere", "time": 0, "token": "x"}'
    s3_client.put_object(Bucket="bucket", Key="br[1]/.prepare/lock.json", Body=dead)
    limits = PrepareLimits(engine=LocalEngine(workers=1))
    assert prepare(corpus, f"{s3}/br[1]", small_config, limits).utterances == len(corpus.utterances)


@pytest.mark.slow
def test_objects_beyond_the_first_page_of_a_listing_are_found(s3: str, s3_client: Any) -> None:
    for number in range(1_050):
        s3_client.put_object(Bucket="bucket", Key=f"data/train/{number:06d}.tar", Body=b"x")
    store = Store(f"{s3}/data")
    assert len(store.sizes()) == len(store.files_in("train")) == 1_050
    assert store.has("train/001049.tar") and not store.has("train/001050.tar")
    store.remove("train")
    assert store.sizes() == {}
