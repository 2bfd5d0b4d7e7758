import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aalbert.common import json_files
from aalbert.common.json_files import (
    MOST_DEPTH,
    parse_json,
    parse_record,
    parse_records,
    read_record,
)
from aalbert.common.locking import hold, holder
from aalbert.common.work_folder import claim
from aalbert.errors import InputError, IntegrityError, OutputInUseError


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int
    name: str | None


@dataclass(frozen=True, kw_only=True)
class Outer:
    parts: tuple[Inner, ...]
    share: float


OUTER = Outer(parts=(Inner(size=3, name="a"), Inner(size=2**62, name=None)), share=0.5)
TEXT = json.dumps(asdict(OUTER)).encode()
NO_JSON = {
    "empty": b"",
    "cut": TEXT[:-3],
    "two": TEXT * 2,
    "latin": b'{"share": "\xff"}',
    "utf-16": TEXT.decode().encode("utf-16"),
    "nul": b"\0" * 40,
    "nan": b'{"parts": [], "share": NaN}',
    "infinity": b'{"parts": [], "share": -Infinity}',
    "beyond float64": b'{"parts": [], "share": 1e999}',
    "twice": b'{"parts": [], "share": 1, "share": 2}',
    "digits": b'{"parts": [], "share": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "half a pair": b'{"parts": [{"size": 1, "name": "\\ud800"}], "share": 1}',
}
OF_OTHER_TYPES = {
    "list": b"[]",
    "number": b"5",
    "null": b"null",
    "missing": b'{"parts": []}',
    "more": b'{"parts": [], "share": 1, "more": 1}',
    "text": b'{"parts": [{"size": "3", "name": "a"}], "share": 1}',
    "boolean": b'{"parts": [{"size": true, "name": "a"}], "share": 1}',
    "fraction": b'{"parts": [{"size": 1.0, "name": "a"}], "share": 1}',
    "inner list": b'{"parts": [[]], "share": 1}',
    "inner mapping": b'{"parts": {}, "share": 1}',
}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(TEXT)
    assert read_record(Outer, tmp_path / "a.json", "restore it") == OUTER


@pytest.mark.parametrize("content", [*NO_JSON.values(), *OF_OTHER_TYPES.values()])
def test_whatever_else_is_one_error(content: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_record(Outer, content, "data/a.json", "restore it")
    message = str(caught.value)
    assert message.startswith("data/a.json is damaged (") and message.endswith("); restore it")
    assert "\n" not in message and len(message) < 300


def test_an_error_names_the_value_and_its_place() -> None:
    with pytest.raises(InputError) as caught:
        parse_record(Outer, OF_OTHER_TYPES["text"], "a.json", "restore it", InputError)
    assert str(caught.value) == (
        "a.json is damaged (parts.0.size = '3': Input should be a valid integer); restore it"
    )


def test_lines_are_named_by_their_numbers_and_end_at_line_feeds_alone() -> None:
    line = json.dumps({"name": "a\u2028b\x85c"}, ensure_ascii=False).encode()
    assert (
        parse_records(dict[str, str], line + b"\n" + line + b"\n", "a", "")
        == [{"name": "a\u2028b\x85c"}] * 2
    )
    assert parse_records(dict[str, str], b"", "a", "") == []
    with pytest.raises(IntegrityError, match="^a.jsonl:2 is damaged"):
        parse_records(dict[str, str], line + b"\n{x\n" + line, "a.jsonl", "restore it")


def test_depth_is_bounded() -> None:
    assert parse_json("[" * MOST_DEPTH + "]" * MOST_DEPTH)
    with pytest.raises(ValueError, match="nested more than 50 deep"):
        parse_json("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1))


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert parse_json(r'["\ud83d\ude00", "\\ud800"]') == ["\U0001f600", r"\ud800"]
    for document in (r'"\ud800"', r'[["a\uDFFFb"]]', r'{"\udc00": 1}', r'"\ude00\ud83d"'):
        with pytest.raises(ValueError, match="^half a surrogate pair is no text$"):
            parse_json(document)


def test_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "MOST_BYTES", len(TEXT) - 1)
    (tmp_path / "a.json").write_bytes(TEXT)
    with pytest.raises(IntegrityError, match="more than .* bytes"):
        read_record(Outer, tmp_path / "a.json", "restore it")


@given(st.integers(0, len(TEXT) - 1), st.integers(0, 255), st.booleans())
def test_changed_and_cut_bytes_are_a_record_or_the_error(at: int, byte: int, cut: bool) -> None:
    content = TEXT[:at] if cut else TEXT[:at] + bytes([byte]) + TEXT[at + 1 :]
    try:
        assert isinstance(parse_record(Outer, content, "a.json", "restore it"), Outer)
    except IntegrityError as error:
        assert str(error).startswith("a.json is damaged (")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(ANYTHING, st.sampled_from(["parts", "share", "size", "name"]))
def test_a_swapped_value_is_a_record_or_the_error(value: Any, name: str) -> None:
    document = json.loads(TEXT)
    (document if name in document else document["parts"][0])[name] = value
    try:
        record = parse_record(Outer, json.dumps(document).encode(), "a.json", "restore it")
        assert json.loads(json.dumps(asdict(record))) == document
    except IntegrityError as error:
        assert str(error).startswith("a.json is damaged (")


@pytest.mark.parametrize("content", [*NO_JSON.values(), b"[]", b"5", b"{}"])
def test_a_damaged_plan_of_work_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "plan.json").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"plan\.json is damaged .*; delete .*/\.work and"):
        claim(tmp_path / ".work", "plan", "work")


@pytest.mark.parametrize(
    "content", [*NO_JSON.values(), b'{"pid": "a", "host": 3}', b'{"pid": -1, "host": "x"}']
)
def test_a_damaged_lock_file_names_nobody_and_still_locks(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "work" / "lock"
    with hold(path):
        path.write_bytes(content)
        assert holder(path) == "another process"
        with pytest.raises(OutputInUseError), hold(path):
            pass
