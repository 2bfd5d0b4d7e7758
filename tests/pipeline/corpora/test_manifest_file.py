import datetime
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from aalbert.cli import main
from aalbert.errors import AalbertError, InputError
from aalbert.pipeline.corpora.corpus import Utterance
from aalbert.pipeline.corpora.manifest_file import read_manifest_file
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.plan import stored_bytes
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards import Dataset
from aalbert.shards.format.feature_settings import LogMelSettings

CONFIG = PrepareConfig(features=(LogMelSettings(),))
# What a spreadsheet would run, and what breaks lines, cells and Markdown.
NASTY = ["=cmd()", "+1", "-1", "@x", 'a "quoted" b', "two\nlines", "a|b", "a,b", "\t", "007", " x "]
COLUMNS = ("path", "speaker", "take", "text")
ROWS = [
    ("a/1.wav", "007", "1.50", "hello, you"),
    ("a/2.wav", "anna", "1e3", '"no", she said'),
    ("b/3.flac", None, None, None),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files that are found, not read."""
    for name, *_ in ROWS:
        path = tmp_path / "corpus" / str(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"audio")
    return tmp_path / "corpus"


def listed(folder: Path, text: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8", newline="")
    return path


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    """Quote everything, as RFC 4180 says."""
    lines = [
        ",".join("" if cell is None else '"' + cell.replace('"', '""') + '"' for cell in row)
        for row in (columns, *rows)
    ]
    return "\r\n".join(lines) + "\r\n"


def write_as(kind: str, folder: Path) -> Path:
    path = folder / f"list.{kind}"
    if kind == "parquet":
        columns = dict(zip(COLUMNS, map(list, zip(*ROWS, strict=True)), strict=True))
        pq.write_table(pa.table(columns), path)
        return path
    if kind == "jsonl":
        lines = [
            json.dumps({name: cell for name, cell in zip(COLUMNS, row, strict=True) if cell})
            for row in ROWS
        ]
        return listed(folder, "\n".join(lines), path.name)
    if kind == "tsv":
        lines = ["\t".join(cell or "" for cell in row) for row in (COLUMNS, *ROWS)]
        return listed(folder, "\n".join(lines), path.name)
    return listed(folder, csv_text(COLUMNS, ROWS), path.name)


def read(path: Path, root: Path | None = None) -> list[Utterance]:
    return list(read_manifest_file(path, root).utterances)


def message(path: Path, root: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_manifest_file(path, root)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_table_gives_the_same_utterances(folder: Path, kind: str) -> None:
    corpus = read_manifest_file(write_as(kind, folder), None)
    assert corpus.fields == ("take", "text")
    assert [
        (u.source, u.speaker, u.fields["take"], u.fields["text"]) for u in corpus.utterances
    ] == ROWS
    assert [(u.key, u.split, u.size, u.start, u.end) for u in corpus.utterances] == [
        ("a-1", "all", 5, 0.0, None),
        ("a-2", "all", 5, 0.0, None),
        ("b-3--flac", "all", 5, 0.0, None),
    ]
    assert [u.path for u in corpus.utterances] == [folder / str(name) for name, *_ in ROWS]
    assert (corpus.skipped, corpus.notes) == ((), ())


def test_numbers_in_json_stay_as_they_are_written(folder: Path) -> None:
    line = '{"path": "a/1.wav", "start": 1.50, "n": 12345678901234567890123, "f": 1.10, "b": true}'
    (utterance,) = read(listed(folder, line, "x.jsonl"))
    assert utterance.start == 1.5
    assert dict(utterance.fields) == {"n": "12345678901234567890123", "f": "1.10", "b": "true"}


def test_columns_of_parquet_become_text(folder: Path) -> None:
    table = pa.table(
        {
            "path": pa.array(["a/1.wav", "a/2.wav"]).dictionary_encode(),
            "start": pa.array([0.1, None], pa.float32()),
            "age": pa.array([7, None], pa.int8()),
            "day": pa.array([datetime.date(2020, 1, 2), None]),
            "ok": pa.array([True, None]),
            "nothing": pa.nulls(2),
        }
    )
    pq.write_table(table, folder / "x.parquet")
    first, second = read(folder / "x.parquet")
    assert first.start == 0.1
    assert dict(first.fields) == {"age": "7", "day": "2020-01-02", "ok": "true", "nothing": None}
    assert set(second.fields.values()) == {None}


def test_folders_of_a_parquet_file_are_no_columns(folder: Path) -> None:
    (folder / "split=train").mkdir()
    path = folder / "split=train" / "x.parquet"
    pq.write_table(pa.table({"path": ["a/1.wav"]}), path)
    assert [u.split for u in read(path, folder)] == ["all"]


def test_the_known_columns_give_key_speaker_split_and_part(folder: Path) -> None:
    text = "path,key,speaker,split,start,end\na/1.wav,k,anna,train,12.5,17.25\na/2.wav,,,,,3\n"
    first, second = read(listed(folder, text))
    assert (first.key, first.speaker, first.split) == ("k", "anna", "train")
    assert (first.start, first.end) == (12.5, 17.25)
    assert (second.key, second.speaker, second.split) == ("a-2--0-3000", None, "all")
    assert (second.start, second.end) == (0.0, 3.0)


def test_parts_of_one_file_have_keys_of_their_own(folder: Path) -> None:
    text = "path,start,end\na/1.wav,0,1.5\na/1.wav,1.5,\na/1.wav,,\n"
    assert [u.key for u in read(listed(folder, text))] == ["a-1--0-1500", "a-1--1500-end", "a-1"]


def test_a_byte_order_mark_is_no_part_of_the_first_column(folder: Path) -> None:
    for name, text in (("x.csv", "path\na/1.wav\n"), ("x.jsonl", '{"path": "a/1.wav"}\n')):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert [u.source for u in read(folder / name)] == ["a/1.wav"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
def test_every_line_end_is_read_and_blank_lines_are_not_rows(folder: Path, line_end: str) -> None:
    path = listed(folder, line_end.join(["path,x", "", "a/1.wav,1", "", "a/2.wav,2", ""]))
    assert [u.fields["x"] for u in read(path)] == ["1", "2"]


def test_a_line_separator_of_unicode_is_no_line_end(folder: Path) -> None:
    line = '{"path": "a/1.wav", "text": "a\u2028b\x85c"}\n'
    assert [u.fields["text"] for u in read(listed(folder, line, "x.jsonl"))] == ["a\u2028b\x85c"]


def test_relative_paths_count_from_the_root(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    path = listed(elsewhere, "path\n./a//1.wav\n")
    (utterance,) = read(path, folder)
    assert (utterance.source, utterance.path) == ("a/1.wav", folder / "a/1.wav")


def test_absolute_paths_below_the_root_are_stored_relative_to_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside.wav"
    outside.write_bytes(b"x")
    path = listed(folder, f"path\n{folder}/a/1.wav\n{outside}\n../outside.wav\n")
    sources = ["a/1.wav", str(outside), "../outside.wav"]
    assert [u.source for u in read(path)] == sources
    monkeypatch.chdir(tmp_path)
    assert [u.source for u in read(path, Path("corpus"))] == sources


def test_files_that_are_not_there_are_skipped_with_the_reason(folder: Path) -> None:
    (folder / "gone.wav").symlink_to(folder / "nowhere")
    corpus = read_manifest_file(listed(folder, "path\na/1.wav\nno.wav\na\ngone.wav\n"), None)
    assert [(skip.source, skip.reason) for skip in corpus.skipped] == [
        ("no.wav", "cannot be read: No such file or directory"),
        ("a", "is not a file but a folder or a device"),
        ("gone.wav", "is a link to a file that is not there"),
    ]
    assert len(corpus.utterances) == 1


def test_when_no_file_is_there_an_example_and_the_root_are_named(folder: Path) -> None:
    path = listed(folder, "path\nx/1.wav\nx/2.wav\n")
    assert message(path) == (
        f"none of the 2 recordings that {path} lists can be read; for example x/1.wav: cannot be "
        f"read: No such file or directory (paths count from {folder}; see --root)"
    )


def test_without_a_column_of_speakers_there_is_a_note(folder: Path) -> None:
    path = listed(folder, "path\na/1.wav\n")
    assert read_manifest_file(path, None).notes == (
        f"{path} has no column 'speaker': the speakers are unknown",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,speaker\na/1.wav,x\n", " has no column 'path': it has file, speaker"),
        ("path;speaker\na/1.wav;x\n", " has no column 'path': it has path;speaker"),
        ("", " is empty: expected a row for every recording"),
        ("path,speaker\n", " is empty: expected a row for every recording"),
        ("path,x\n,1\n", ":2: path is '': name a file in every row"),
        ("path\na\0b\n", ":2 holds a NUL, as UTF-16 without a byte order mark"),
        ("path,x,x\na/1.wav,1,2\n", " has two columns 'x': rename one of them"),
        ("path, x\na/1.wav,1\n", ": column 2 is named ' x': give it a name without spaces"),
        ("path,\na/1.wav,1\n", ": column 2 is named '': give it a name without spaces"),
        (
            "path,shard\na/1.wav,1\n",
            " has the column 'shard', a name that the index of a dataset needs for itself: "
            "rename it, for example to 'corpus_shard'",
        ),
        ("path,logmel_offset\na/1.wav,1\n", " has the column 'logmel_offset', a name that"),
        ("path,x\na/1.wav\n", ":2 has 1 cells, the header 2: put text with separators into"),
        ("path,x\n\n\na/1.wav,1,2\n", ":4 has 3 cells, the header 2: put text with"),
        ('path,x\n"a\nb",1\na/1.wav,"x\n', ":4 cannot be read: unexpected end of data"),
        ("path,start\na/1.wav,soon\n", ":2: start is 'soon': expected seconds from 0 on, such as"),
        ("path,start\na/1.wav,-1\n", ":2: start is '-1': expected seconds from 0 on, such as"),
        ("path,end\na/1.wav,nan\n", ":2: end is 'nan': expected seconds from 0 on, such as 12.5"),
        ("path,end\na/1.wav,inf\n", ":2: end is 'inf': expected seconds from 0 on, such as 12.5"),
        ("path,end\na/1.wav,1_0\n", ":2: end is '1_0': expected seconds from 0 on, such as 12.5"),
        (
            "path,start,end\na/1.wav,2,1.5\n",
            ":2: end is 1.5, start is 2: a part ends after it starts (seconds)",
        ),
        ("path,end\na/1.wav,0\n", ":2: end is 0, start is 0: a part ends after it starts"),
        ("path,key\na/1.wav,a.b\n", ":2: key is 'a.b': a key has up to 80 letters (a-z, A-Z), "),
        ("path,key\na/1.wav,../x\n", ":2: key is '../x': a key has up to 80 letters"),
        ("path,split\na/1.wav,../x\n", ":2 would be in the split '../x': a split is the name of"),
    ],
)
def test_an_invalid_value_is_refused_with_file_line_and_value(
    folder: Path, text: str, expected: str
) -> None:
    path = listed(folder, text)
    assert message(path).startswith(f"{path}{expected}")


def test_two_rows_with_one_key_are_both_named(folder: Path) -> None:
    # The first row takes two lines.
    path = listed(folder, 'path,text\na/1.wav,"x\ny"\na/2.wav,z\na/1.wav,z\n')
    assert message(path) == (
        f"{path}:2 and {path}:5 have the same key 'a-1': remove one of them, or give them keys "
        "in a column 'key'"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", ":2 is not JSON: "),
        ("[" * 100_000, ":2 is not JSON: "),
        ('["a/1.wav"]', ":2 is '[\"a/1.wav\"]': expected a JSON object"),
        ('{"path": "a/1.wav", "x": [1]}', ":2: 'x' is [\"1\"]: a column holds text or numbers, "),
        ('{"path": "a/1.wav", "x": {}}', ":2: 'x' is {}: a column holds text or numbers, no"),
        (r'{"path": "a/1.wav", "x": "\ud800"}', ":2 is not JSON: half a surrogate pair is no text"),
        (r'{"\uDC00": "x", "path": "a/1.wav"}', ":2 is not JSON: half a surrogate pair is no text"),
        ('{"speaker": "x"}', ":2: path is '': name a file in every row"),
        ('{"path": "a/1.wav", "end": NaN}', ":2: end is 'NaN': expected seconds from 0 on"),
    ],
)
def test_an_invalid_line_of_json_is_refused_with_its_number(
    folder: Path, line: str, expected: str
) -> None:
    path = listed(folder, f'{{"path": "a/2.wav"}}\n{line}\n', "x.jsonl")
    assert message(path).startswith(f"{path}{expected}")


@pytest.mark.parametrize(
    ("column", "kind"),
    [([["x"]], "list<"), ([{"a": 1}], "struct<"), ([b"x"], "binary")],
    ids=["list", "struct", "bytes"],
)
def test_nested_and_binary_columns_are_refused(
    folder: Path, column: list[object], kind: str
) -> None:
    path = folder / "x.parquet"
    pq.write_table(pa.table({"path": ["a/1.wav"], "x": column}), path)
    assert message(path).startswith(f"{path}: column 'x' is of the type {kind}")
    assert message(path).endswith("no lists, objects or bytes; leave it out")


def test_a_row_of_parquet_is_named_by_its_number(folder: Path) -> None:
    path = folder / "x.parquet"
    pq.write_table(pa.table({"path": ["a/1.wav", "a/2.wav"], "start": [0.5, -0.5]}), path)
    assert message(path).startswith(f"{path}, row 2: start is '-0.5': expected seconds from 0")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"path\na/1.wav\n"], ids=["empty", "cut", "csv"])
def test_an_incomplete_parquet_file_is_named(folder: Path, content: bytes) -> None:
    path = folder / "x.parquet"
    path.write_bytes(content)
    assert message(path).startswith(f"{path} is not a complete Parquet file: ")


def test_text_in_another_encoding_is_named_with_its_line(folder: Path) -> None:
    path = folder / "x.csv"
    path.write_bytes("path,x\na/1.wav,a\na/2.wav,é\n".encode("latin-1"))
    assert message(path) == f"{path}:3 is not UTF-8 (byte 0xe9): save it as UTF-8"


def test_a_file_of_another_kind_is_refused_with_the_known_ones(folder: Path) -> None:
    assert message(listed(folder, "path\n", "x.xlsx")) == (
        f"{folder}/x.xlsx is not a known kind of table: its name must end in one of "
        "(.csv, .tsv, .jsonl, .json, .parquet; text also packed, as .csv.gz)"
    )
    assert message(folder / "no.csv") == (
        f"there is no file {folder}/no.csv: expected a table (.csv, .tsv, .jsonl, .json, "
        ".parquet; text also packed, as .csv.gz)"
    )


def test_texts_that_a_spreadsheet_would_run_survive_as_they_are(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).uniform(-0.5, 0.5, 1_600)
    files = [f"{text}.wav" for text in NASTY]
    for name in files:
        soundfile.write(tmp_path / name, noise, 16_000)
    (tmp_path / "broken\n|.wav").write_bytes(b"x")
    rows = list(zip([*files, "broken\n|.wav"], [*NASTY, "x"], [*NASTY, "x"], strict=True))
    path = listed(tmp_path, csv_text(["path", "speaker", "=text|"], rows))
    corpus = read_manifest_file(path, None)
    prepare(corpus, tmp_path / "data", CONFIG, PrepareLimits(engine=LocalEngine(workers=1)))
    dataset = Dataset(tmp_path / "data")
    columns = [dataset.column(name) for name in ("source", "speaker", "=text|")]
    assert sorted(zip(*columns, strict=True)) == sorted(rows[:-1])
    members = [json_member(tmp_path / "data", key) for key in dataset.column("key")]
    found = [(member["source"], member["speaker"], member["=text|"]) for member in members]
    assert sorted(found) == sorted(rows[:-1])
    (skip,) = (tmp_path / "data" / "skipped.jsonl").read_text("utf-8").splitlines()
    assert json.loads(skip)["source"] == "broken\n|.wav"


def json_member(data: Path, key: str | None) -> dict[str, str]:
    for shard in sorted(data.glob("*/*.tar")):
        with tarfile.open(shard) as tar:
            if f"{key}.json" in tar.getnames():
                stream = tar.extractfile(f"{key}.json")
                assert stream is not None
                document: dict[str, str] = json.load(stream)
                return document
    raise AssertionError(key)


def test_an_error_with_a_line_break_in_it_stays_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = listed(tmp_path, 'path\n"a\n\x1b[2Jb.wav"\n')
    assert main(["prepare", "manifest", str(path), "--out", str(tmp_path / "data")]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert r"for example a\n\x1b[2Jb.wav: cannot be read: No such file" in line


def test_the_estimate_of_a_part_follows_its_seconds(folder: Path) -> None:
    (part,) = read(listed(folder, "path,start,end\na/1.wav,2,5\n"))
    # 100 frames a second of 80 numbers in two bytes each.
    assert stored_bytes(part, CONFIG.features) == 3 * 100 * 80 * 2


def test_any_broken_table_raises_an_error_of_this_package(folder: Path) -> None:
    raw = write_as("parquet", folder).read_bytes()
    rng = np.random.default_rng(11)
    path = folder / "flipped.parquet"
    refused = 0
    for position in rng.integers(0, len(raw), 200):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read_manifest_file(path, folder)
        except AalbertError:
            refused += 1
    assert refused > 20


def test_listed_audio_that_is_not_decoded_is_skipped_with_the_way_to_convert_it(
    folder: Path,
) -> None:
    (folder / "a" / "talk.m4a").write_bytes(b"audio")
    corpus = read_manifest_file(listed(folder, "path\na/1.wav\na/talk.m4a\na/gone.m4a\n"))
    assert {skip.source: skip.reason for skip in corpus.skipped} == {
        "a/talk.m4a": "is .m4a audio, which must be converted with ffmpeg first: "
        "ffmpeg -i a/talk.m4a -ac 1 -ar 16000 a/talk.flac",
        "a/gone.m4a": "cannot be read: No such file or directory",
    }
