from pathlib import Path

import pytest

from aalbert.common.text_files import read_text
from aalbert.errors import InputError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_of_editors_are_no_part_of_a_text(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes("caf\u00e9\r\n\u4f60".encode(encoding))
    assert read_text(tmp_path / "list") == "caf\u00e9\r\n\u4f60"


@pytest.mark.parametrize(
    ("data", "line", "byte"), [(b"a\nb\n\xff", 3, "ff"), (b"\xe9t\xe9", 1, "e9")]
)
def test_the_line_of_what_is_no_text_is_named(
    data: bytes, line: int, byte: str, tmp_path: Path
) -> None:
    (tmp_path / "list").write_bytes(data)
    with pytest.raises(
        InputError, match=rf"list:{line} is not UTF-8 \(byte 0x{byte}\): save it as"
    ):
        read_text(tmp_path / "list")
