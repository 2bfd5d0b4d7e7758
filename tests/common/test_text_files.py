import gzip
from pathlib import Path

import pytest

from aalbert.common.text_files import read_lines, read_text
from aalbert.errors import InputError

TEXT = "caf\u00e9\r\n\u4f60"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_of_editors_are_no_part_of_a_text(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(TEXT.encode(encoding))
    assert read_text(tmp_path / "list") == TEXT
    (tmp_path / "list.gz").write_bytes(gzip.compress(TEXT.encode(encoding)))
    assert read_text(tmp_path / "list.gz") == TEXT


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\nb\n\xff", r":3 is not UTF-8 \(byte 0xff\): save it as UTF-8"),
        (b"\xe9t\xe9", r":1 is not UTF-8 \(byte 0xe9\): save it as UTF-8"),
        ("a\n\u00fcber".encode("latin-1"), r":2 is not UTF-8 \(byte 0xfc\): save it as UTF-8"),
        ("\ufeffa\nb".encode("utf-16-le") + b"x", r":2 is not UTF-16 \(byte 0x78\): save it as"),
        ("a\nb".encode("utf-16-le"), ":1 holds a NUL, as UTF-16 without a byte order mark does"),
        (b"a\r\nb\r\nc\0", ":3 holds a NUL, as UTF-16 without a byte order mark does: save it as"),
        ("a".encode("utf-32"), ":1 holds a NUL, as UTF-16 without"),
    ],
)
def test_the_line_of_what_is_no_text_is_named(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(data)
    with pytest.raises(InputError, match=f"^{tmp_path}/list{message}"):
        read_text(tmp_path / "list")


@pytest.mark.parametrize(
    "packed",
    [b"a\n", gzip.compress(b"a\n" * 99)[:-9], b"\x1f\x8b\x08" * 9],
    ids=["text", "cut", "no data"],
)
def test_what_is_not_a_whole_gzip_file_is_named(packed: bytes, tmp_path: Path) -> None:
    (tmp_path / "list.gz").write_bytes(packed)
    with pytest.raises(InputError, match=f"^{tmp_path}/list.gz is not a complete gzip file: "):
        read_text(tmp_path / "list.gz")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_end_at_line_ends_only(line_end: str, tmp_path: Path) -> None:
    lines = ["a\u2028b", "", " c\x0bd\x85", "e"]
    for last in ("", line_end):
        (tmp_path / "list").write_bytes((line_end.join(lines) + last).encode())
        assert read_lines(tmp_path / "list") == lines
    (tmp_path / "list").write_bytes(b"")
    assert read_lines(tmp_path / "list") == []


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    for name, reason in (("link", "No such file or directory"), ("folder", "Is a directory")):
        message = rf"/{name} cannot be read \({reason}\): put the file there, or take it away"
        with pytest.raises(InputError, match=message):
            read_text(tmp_path / name)
