"""Standard streams that are full, closed or whose reader has gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
EXAMPLE = """
import sys
from aalbert.common.streams import prepare_standard_streams
prepare_standard_streams()
file = open(sys.argv[1], "w")
print("progress", file=sys.stderr)
print("result", flush=True)
"""


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not buffered fails where it is printed."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def aalbert(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = f'exec "$@" {redirection}'
    program = [sys.executable, "-m", "aalbert", *arguments]
    return subprocess.run(
        ["sh", "-c", command, "sh", *program], check=False, capture_output=True, text=True
    )


@needs_full
def test_an_error_keeps_its_exit_code_where_standard_error_is_full() -> None:
    ended = aalbert("2> /dev/full", "shards", "info", "nowhere")
    assert ended.returncode == 3


@needs_full
def test_work_goes_on_where_its_progress_cannot_be_written(
    librispeech_folder: Path, tmp_path: Path
) -> None:
    command = ("prepare", "librispeech", str(librispeech_folder), "--out", str(tmp_path / "data"))
    ended = aalbert("2> /dev/full", *command)
    assert ended.returncode == 0
    assert (tmp_path / "data" / "manifest.json").is_file()


@needs_full
def test_a_result_that_cannot_be_written_is_an_error_that_says_so() -> None:
    ended = aalbert("> /dev/full", "--version")
    assert ended.returncode == 7
    assert ended.stderr == "aalbert: No space left on device: standard output\n"


@needs_full
@pytest.mark.parametrize("way", [(), ("-m", "aalbert")], ids=["script", "module"])
def test_an_error_after_a_result_that_cannot_be_written_keeps_its_exit_code(
    way: tuple[str, ...], dataset_copy: Path
) -> None:
    (dataset_copy / "extra").touch()
    program = [sys.executable, *way] if way else [str(Path(sys.executable).with_name("aalbert"))]
    command = ["sh", "-c", 'exec "$@" > /dev/full', "sh", *program, "shards", "verify"]
    ended = subprocess.run(
        [*command, str(dataset_copy)], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 4
    lines = [line for line in ended.stderr.splitlines() if line.startswith("aalbert: ")]
    assert len(lines) == 2 and lines[1] == "aalbert: No space left on device: standard output"
    assert "Traceback" not in ended.stderr and "ignored" not in ended.stderr


def test_a_result_for_nobody_to_write_to_is_one_line() -> None:
    ended = aalbert("1< /dev/null", "--version")
    assert (ended.returncode, ended.stderr) == (
        7,
        "aalbert: Bad file descriptor: standard output\n",
    )


def test_a_reader_that_has_gone_gets_no_message(dataset_copy: Path) -> None:
    """Neither after a success nor after an error."""
    (dataset_copy / "extra").touch()
    for arguments in (["--version"], ["shards", "verify", str(dataset_copy)]):
        reading, writing = os.pipe()
        os.close(reading)
        program = [sys.executable, "-m", "aalbert", *arguments]
        ended = subprocess.run(program, check=False, stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert ended.returncode == (1 if arguments == ["--version"] else 4)
        assert b"Traceback" not in ended.stderr and b"ignored" not in ended.stderr, ended.stderr


def test_a_pipe_that_does_not_wait_gets_all_of_a_result() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    program = (
        "from aalbert.common.streams import prepare_standard_streams;"
        "prepare_standard_streams(); print('x' * 300_000, flush=True)"
    )
    running = subprocess.Popen([sys.executable, "-c", program], stdout=writing)
    os.close(writing)
    time.sleep(0.5)
    with open(reading, "rb") as stream:
        assert stream.read() == b"x" * 300_000 + b"\n"
    assert running.wait() == 0


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
