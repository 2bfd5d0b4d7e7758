"""The stages of `python -m benchmarks.gpu`: what one does to itself does not reach the next."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.__main__ import environment
from benchmarks.gpu.context import read_lines
from benchmarks.gpu.runner import LOG_NAME, Stage, run_stages, share_s
from benchmarks.gpu.wheels import missing_wheels
from tests.benchmarks.contexts import rehearsal_context

GOOD = "def run(context):\n    context.write(kind='figure', value=1)\n"
RAISER = """
def run(context):
    context.write(kind='figure', value=0)
    raise ValueError('odd')
"""
KILLED = """
import os
def run(context):
    print('so far', flush=True)
    os.kill(os.getpid(), 9)
"""
SLEEPER = """
import subprocess, sys, time
def run(context):
    print('begun', flush=True)
    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
    context.write(kind='child', process=child.pid)
    time.sleep(600)
"""


def run(tmp_path: Path, seconds: float, **modules: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Run modules with these texts as stages; return the failed ones and all lines."""
    code, out = tmp_path / "code", tmp_path / "out"
    code.mkdir()
    out.mkdir()
    for name, text in modules.items():
        (code / f"{name}.py").write_text(text)
    context = rehearsal_context(out, tmp_path)
    stages = [Stage(name, name, 1, 1) for name in modules]
    variables = environment("cpu", code)
    failed = run_stages(stages, context, variables, time.time() + seconds)
    return failed, read_lines(out / "results.jsonl")


def ends_of(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {line["stage"]: line for line in lines if line["kind"] == "stage"}


def is_running(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_stage_that_raises_is_written_in_full_and_the_next_one_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failed, lines = run(tmp_path, 300, first=RAISER, second=GOOD)
    assert failed == ["first"]
    assert [line["value"] for line in lines if line["kind"] == "figure"] == [0, 1]
    end = ends_of(lines)["first"]
    assert not end["done"]
    assert end["error"].endswith("ValueError: odd")
    assert "Traceback (most recent call last)" in end["error"]
    assert ends_of(lines)["second"] | {"seconds": 0, "budget_s": 0} == {
        "stage": "second",
        "kind": "stage",
        "done": True,
        "error": None,
        "seconds": 0,
        "budget_s": 0,
    }
    assert "ValueError: odd" in (tmp_path / "out" / LOG_NAME).read_text()
    assert "ValueError: odd" in capfd.readouterr().out


def test_a_stage_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu.runner.LEAST_S", 5.0)
    started = time.monotonic()
    failed, lines = run(tmp_path, 12, first=SLEEPER, second=GOOD)
    assert failed == ["first"]
    assert time.monotonic() - started < 60
    assert ends_of(lines)["first"]["error"].startswith(
        "ended because its time was up; the last it printed:\nbegun"
    )
    assert ends_of(lines)["second"]["done"]
    [child] = [line["process"] for line in lines if line["kind"] == "child"]
    assert not is_running(child)


def test_the_next_stage_imports_while_one_runs(tmp_path: Path) -> None:
    imported = tmp_path / "imported"
    waiting = f"""
import pathlib, time
def run(context):
    while not pathlib.Path({str(imported)!r}).exists():
        time.sleep(0.01)
"""
    early = f"import pathlib\npathlib.Path({str(imported)!r}).touch()\n{GOOD}"
    failed, lines = run(tmp_path, 300, first=waiting, second=early)
    assert not failed
    assert [line["stage"] for line in lines] == ["first", "second", "second"]


def test_a_stage_that_cannot_be_imported_is_written_in_full(tmp_path: Path) -> None:
    failed, lines = run(tmp_path, 300, first=GOOD, second="import no_such_package", third=GOOD)
    assert failed == ["second"]
    error = ends_of(lines)["second"]["error"]
    assert error.endswith("ModuleNotFoundError: No module named 'no_such_package'")
    assert ends_of(lines)["third"]["done"]


def test_a_stage_that_waits_is_ended_with_the_runner(tmp_path: Path) -> None:
    started = tmp_path / "started"
    hanging = f"""
import os, pathlib, time
pathlib.Path({str(started)!r}).write_text(str(os.getpid()))
time.sleep(600)
"""
    leaving = f"""
import os, pathlib, signal, time
def run(context):
    while not pathlib.Path({str(started)!r}).exists():
        time.sleep(0.01)
    os.kill(int(os.environ["RUNNER"]), signal.SIGINT)
    time.sleep(600)
"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER", str(os.getpid()))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, 300, first=leaving, second=hanging)
    assert not is_running(int(started.read_text()))


def test_a_stage_that_a_signal_ends_is_named_with_it(tmp_path: Path) -> None:
    failed, lines = run(tmp_path, 300, first=KILLED, second=GOOD)
    assert failed == ["first"]
    assert ends_of(lines)["first"]["error"] == "ended by SIGKILL; the last it printed:\nso far"
    assert ends_of(lines)["second"]["done"]


def test_stages_for_which_no_time_is_left_are_said_to_be_left_out(tmp_path: Path) -> None:
    failed, lines = run(tmp_path, 1, first=GOOD)
    assert failed == ["first"]
    assert lines == [
        {
            "stage": "first",
            "kind": "stage",
            "done": False,
            "error": "left out: no time is left",
        }
    ]


def test_what_a_stage_leaves_of_its_time_the_others_get() -> None:
    assert share_s(600, [1, 2, 3]) == 100
    # The first one took a second.
    assert share_s(599, [2, 3]) == pytest.approx(239.6)
    assert share_s(599, [3]) == 599
    assert share_s(60, [1, 100]) == 20
    assert share_s(12, [1, 100]) == 12


def test_only_wheels_of_missing_packages_are_installed(tmp_path: Path) -> None:
    for name in ("numpy-1.0-py3-none-any.whl", "no_such_package-2.1-py3-none-any.whl", "notes"):
        (tmp_path / name).touch()
    assert [path.name for path in missing_wheels(tmp_path)] == [
        "no_such_package-2.1-py3-none-any.whl"
    ]


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"stage": "a"}\n{"stage": "b"')
    assert read_lines(tmp_path / "results.jsonl") == [{"stage": "a"}]
