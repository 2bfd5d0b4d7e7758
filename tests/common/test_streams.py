"""Standard streams that are full, closed or whose reader has gone."""

import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
EXAMPLE = """
import sys
from aalbert.common.streams import prepare_standard_streams
prepare_standard_streams()
descriptor = open(sys.argv[1], "w").fileno()
print("progress", file=sys.stderr)
print("result")
assert descriptor > 2, descriptor
"""


def aalbert(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = f'exec "$@" {redirection}'
    program = [sys.executable, "-m", "aalbert", *arguments]
    return subprocess.run(
        ["sh", "-c", command, "sh", *program], check=False, capture_output=True, text=True
    )


def test_an_error_keeps_its_exit_code_where_standard_error_is_full() -> None:
    ended = aalbert("2> /dev/full", "shards", "info", "nowhere")
    assert ended.returncode == 3


def test_work_goes_on_where_its_progress_cannot_be_written(
    librispeech_folder: Path, tmp_path: Path
) -> None:
    command = ("prepare", "librispeech", str(librispeech_folder), "--out", str(tmp_path / "data"))
    ended = aalbert("2> /dev/full", *command)
    assert ended.returncode == 0
    assert (tmp_path / "data" / "manifest.json").is_file()


def test_a_result_that_cannot_be_written_is_an_error_that_says_so() -> None:
    ended = aalbert("> /dev/full", "--version")
    assert ended.returncode == 7
    assert ended.stderr == "aalbert: No space left on device: standard output\n"


def test_a_reader_that_has_gone_gets_no_message() -> None:
    program = f"{sys.executable} -m aalbert --version; echo $? >&2"
    script = f"{{ {program}; }} | true"
    ended = subprocess.run(["sh", "-c", script], check=False, capture_output=True, text=True)
    assert ended.stderr in ("0\n", "1\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_stream_that_is_closed(closed: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    command = f'exec "$@" {closed}'
    program = [sys.executable, "-c", EXAMPLE, str(path)]
    ended = subprocess.run(["sh", "-c", command, "sh", *program], check=False, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert path.read_bytes() == b""


@pytest.mark.parametrize("option", ["", "-u"])
def test_lines_of_standard_error_are_written_at_once(option: str) -> None:
    program = (
        "import os, sys; from aalbert.common.streams import prepare_standard_streams;"
        "prepare_standard_streams(); sys.stderr.write('progress'); sys.stderr.write('\\n');"
        "os._exit(0)"
    )
    command = [sys.executable, *([option] if option else []), "-c", program]
    ended = subprocess.run(command, check=True, capture_output=True)
    assert ended.stderr == b"progress\n"
