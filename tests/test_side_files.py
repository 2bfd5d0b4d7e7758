"""Files that macOS, NFS and Windows put everywhere on their own: neither damage nor content."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aalbert.common.files import is_side_file, require_empty
from aalbert.common.store import Store
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.folder import FolderOptions, read_folder
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.synthesis import write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, finalize, prepare, prepare_part
from aalbert.pipeline.prepare.work_folder import Part
from aalbert.shards import Dataset
from aalbert.shards.verification.verify import verify
from aalbert.train.places import digest_places
from tests.trees import tree

SYSTEM_FILES = (".DS_Store", "Thumbs.db", "desktop.ini", ".nfs000000000a1b2c3d00000001")
APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "


def sprinkle(root: Path) -> None:
    """Put into every folder what systems put there, and `._NAME` beside every entry."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        for path in list(folder.iterdir()):
            path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)
        for name in SYSTEM_FILES:
            (folder / name).write_bytes(APPLE_DOUBLE)


def content(root: Path) -> dict[str, bytes]:
    return {path: data for path, data in tree(root).items() if data != APPLE_DOUBLE}


def found(corpus: Corpus) -> tuple[object, ...]:
    listed = [(u.key, u.source, u.split, u.speaker, u.fields) for u in corpus.utterances]
    return listed, corpus.skipped, corpus.notes, sorted(corpus.attachments)


def test_what_is_a_side_file_is_told_by_its_name() -> None:
    assert all(map(is_side_file, ["a/._b.tar", ".DS_Store", "a/.ds_store", "x/Thumbs.db"]))
    assert not any(map(is_side_file, ["a._b", "._a/b", "a.DS_Store", "thumbs.db.tar", ".hidden"]))


def test_a_dataset_with_side_files_is_whole(dataset_copy: Path, prepared: Path) -> None:
    sprinkle(dataset_copy)
    assert (dataset_copy / "train-clean-100" / "._000000.tar").is_file()
    assert verify(dataset_copy) == []
    dataset = Dataset(dataset_copy)
    assert dataset.keys(range(len(dataset))) == Dataset(prepared).keys(range(len(dataset)))
    (dataset_copy / "train-clean-100" / "000099.tar").write_bytes(b"")
    (problem,) = verify(dataset_copy)
    assert problem.path.endswith("/000099.tar")


def test_a_store_with_side_files_is_whole(dataset_copy: Path, prepared: Path) -> None:
    sprinkle(dataset_copy)
    store = Store("memory://with-side-files")
    for path, data in tree(dataset_copy).items():
        store.write(path, data)
    assert verify(store.url) == []
    dataset = Dataset(store.url)
    expected = Dataset(prepared).features(1, "logmel")
    np.testing.assert_array_equal(dataset.features(1, "logmel"), expected)


@pytest.mark.parametrize("begun", [False, True], ids=["empty", "unfinished"])
def test_prepare_works_among_side_files(
    begun: bool,
    librispeech_folder: Path,
    small_config: PrepareConfig,
    prepared: Path,
    tmp_path: Path,
) -> None:
    corpus = read_librispeech(librispeech_folder)
    out, engine = tmp_path / "out", LocalEngine(workers=1)
    out.mkdir()
    if begun:
        prepare_part(corpus, out, small_config, engine, Part(number=1, count=2))
    sprinkle(out)
    prepare(corpus, out, small_config, PrepareLimits(engine=engine))
    sprinkle(out)
    prepare(corpus, out, small_config, PrepareLimits(engine=engine))
    finalize(out, 0.001)
    assert content(out) == tree(prepared)


def test_a_folder_of_side_files_is_empty(tmp_path: Path) -> None:
    sprinkle(tmp_path)
    require_empty(tmp_path)


@pytest.mark.parametrize(
    "read",
    [read_voxceleb1, lambda root: read_folder(root, FolderOptions(speaker_level=2))],
    ids=["voxceleb1", "folder"],
)
def test_a_corpus_among_side_files_is_the_same(
    read: Callable[[Path], Corpus], tmp_path: Path
) -> None:
    write_voxceleb1(
        tmp_path,
        speakers=3,
        videos_per_speaker=2,
        utterances_per_video=2,
        seed=4,
        seconds=(0.2, 0.3),
    )
    before = found(read(tmp_path))
    sprinkle(tmp_path)
    assert (tmp_path / "wav" / "._id10001").exists() and (tmp_path / "._iden_split.txt").exists()
    assert found(read(tmp_path)) == before


def test_librispeech_among_side_files_is_the_same(librispeech_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "LibriSpeech"
    for path, data in tree(librispeech_folder).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    before = found(read_librispeech(root))
    sprinkle(root)
    assert found(read_librispeech(root)) == before
    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / "dev-clean.tar.gz", "w:gz") as archive:
        archive.add(root / "dev-clean", "LibriSpeech/dev-clean")
    sprinkle(packed)
    corpus = read_librispeech(packed, cache=tmp_path / "cache")
    expected = read_librispeech(librispeech_folder, ["dev-clean"])
    assert [u.key for u in corpus.utterances] == [u.key for u in expected.utterances]
    assert corpus.skipped == ()


def test_a_folder_that_was_looked_at_has_the_same_digest(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "model.safetensors").write_bytes(b"weights")
    places = {"upstream": str(tmp_path)}
    before = digest_places(places)
    sprinkle(tmp_path)
    assert digest_places(places) == before
