import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from aalbert.errors import InputError
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.manifest_file import read_manifest_file
from aalbert.pipeline.corpora.recordings import audio_of
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards import Dataset
from aalbert.shards.format.feature_settings import LogMelSettings

CONFIG = PrepareConfig(features=(LogMelSettings(),))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/aalbert/parquet"


def recording(number: int) -> bytes:
    noise = np.random.default_rng(number).uniform(-0.5, 0.5, 4_000 + 100 * number)
    stream = io.BytesIO()
    soundfile.write(stream, noise, 16_000, format="FLAC")
    return stream.getvalue()


def write(place: Path, numbers: range, **columns: list[Any]) -> Path:
    audio = [{"bytes": recording(each), "path": f"84-1-{each:04}.flac"} for each in numbers]
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"audio": audio, **columns}), place, row_group_size=3)
    return place


def contents(corpus: Corpus) -> list[Path | bytes]:
    return [audio_of(each) for each in corpus.utterances]


def test_rows_are_recordings_with_their_bytes_and_labels(tmp_path: Path, cache: Path) -> None:
    ids = [f"84-1-{number:04}" for number in range(8)]
    path = write(
        tmp_path / "train-00000-of-00001.parquet",
        range(8),
        id=ids,
        speaker_id=[84] * 8,
        text=["HI"] * 8,
        path=["/somewhere/x"] * 8,
        words=[["a"]] * 8,
    )
    corpus = read_manifest_file(path)
    assert contents(corpus) == [recording(number) for number in range(8)]
    assert [each.key for each in corpus.utterances] == ids
    assert {(each.split, each.speaker) for each in corpus.utterances} == {("train", "84")}
    assert corpus.utterances[3].source == "84-1-0003.flac"
    assert dict(corpus.utterances[0].fields) == {"text": "HI"}
    assert corpus.notes == ("left out, since they hold no text: words",)
    (copy,) = cache.glob("*.bytes")
    written = copy.stat().st_mtime_ns
    assert read_manifest_file(path).utterances == corpus.utterances
    assert copy.stat().st_mtime_ns == written


def test_the_dataset_is_that_of_the_same_recordings_in_files(tmp_path: Path) -> None:
    table = write(tmp_path / "x.parquet", range(6), speaker=list("aabbcc"))
    folder = tmp_path / "files"
    folder.mkdir()
    lines = ["path,speaker"]
    for number, speaker in enumerate("aabbcc"):
        (folder / f"84-1-{number:04}.flac").write_bytes(recording(number))
        lines.append(f"84-1-{number:04}.flac,{speaker}")
    (folder / "list.csv").write_text("\n".join(lines))
    limits = PrepareLimits(engine=LocalEngine(workers=1))
    for source, out in ((table, "a"), (folder / "list.csv", "b")):
        prepare(read_manifest_file(source), tmp_path / out, CONFIG, limits)
    first, second = Dataset(tmp_path / "a"), Dataset(tmp_path / "b")
    assert first.table.equals(second.table)
    ours, theirs = (tmp_path / out / "all/000000.tar" for out in ("a", "b"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_folder_of_them_is_one_corpus_with_splits_by_name(tmp_path: Path) -> None:
    write(tmp_path / "data/train-00000-of-00002.parquet", range(2))
    write(tmp_path / "data/train-00001-of-00002.parquet", range(2, 4))
    write(tmp_path / "data/test-00000-of-00001.parquet", range(4, 5), text=["x"])
    corpus = read_manifest_file(tmp_path / "data")
    assert [each.split for each in corpus.utterances] == ["test", *["train"] * 4]
    assert contents(corpus) == [recording(number) for number in (4, 0, 1, 2, 3)]
    assert len({each.key for each in corpus.utterances}) == 5


def test_common_voice_from_the_hub_has_speakers_and_texts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.parquet",
        range(2),
        client_id=["s1", "s2"],
        path=["/x/1.mp3", "/x/2.mp3"],
        sentence=['"Ja.', "Nein"],
    )
    corpus = read_manifest_file(path)
    assert [(each.speaker, each.fields["text"]) for each in corpus.utterances] == [
        ("s1", '"Ja.'),
        ("s2", "Nein"),
    ]


def test_a_row_without_bytes_is_skipped(tmp_path: Path) -> None:
    audio = [
        {"bytes": recording(0), "path": None},
        {"bytes": None, "path": "b.flac"},
        {"bytes": recording(1), "path": "/else/where.flac"},
    ]
    pq.write_table(pa.table({"sound": audio}), tmp_path / "x.parquet")
    corpus = read_manifest_file(tmp_path / "x.parquet")
    assert [each.source for each in corpus.utterances] == ["x/0", "where.flac"]
    assert contents(corpus) == [recording(0), recording(1)]
    (skip,) = corpus.skipped
    assert (skip.source, skip.reason) == ("b.flac", "has no bytes in its table")


def test_a_changed_file_is_copied_again_and_so_is_a_damaged_copy(
    tmp_path: Path, cache: Path
) -> None:
    path = write(tmp_path / "x.parquet", range(3))
    read_manifest_file(path)
    (copy,) = cache.glob("*.bytes")
    copy.write_bytes(b"x")
    assert contents(read_manifest_file(path)) == [recording(number) for number in range(3)]
    write(path, range(3, 6))
    assert contents(read_manifest_file(path)) == [recording(number) for number in range(3, 6)]


def test_a_copy_that_is_gone_is_an_error_with_the_way_out(tmp_path: Path, cache: Path) -> None:
    corpus = read_manifest_file(write(tmp_path / "x.parquet", range(1)))
    (copy,) = cache.glob("*.bytes")
    copy.unlink()
    with pytest.raises(InputError, match=r"cannot be read \(No such file.*\): run the command aga"):
        contents(corpus)


def test_a_folder_with_another_table_in_it_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", range(1))
    pq.write_table(pa.table({"path": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError) as caught:
        read_manifest_file(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/b.parquet holds no recordings: none of its columns (path) is a struct of "
        "'bytes' and 'path'"
    )


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", range(9))
    data = bytearray(path.read_bytes())
    data[4:100] = b"\xff" * 96
    path.write_bytes(data)
    with pytest.raises(InputError, match="x.parquet is not a complete Parquet file: "):
        read_manifest_file(path)
