import re
from datetime import datetime

import pytest

from aalbert.common import progress
from aalbert.common.notes import SPEECH, detail, note, timed
from aalbert.common.progress import Lines, describe_amount, end_of, progress_bar, shown
from tests.terminal import on_a_terminal


@pytest.mark.parametrize(
    ("done", "total", "begun", "unit", "elapsed_s", "expected"),
    [
        (0, 3000, 0, "step", 0.0, "0 of 3,000 steps"),
        (1200, 3000, 0, "step", 100.0, "1,200 of 3,000 steps, 12.0/s, 2 min 30 s left"),
        (1200, 3000, 1000, "step", 100.0, "1,200 of 3,000 steps, 2.0/s, 15 min 00 s left"),
        (3000, 3000, 0, "step", 252.0, "3,000 steps in 4 min 12 s"),
        (3000, 3000, 2990, "step", 9.0, "3,000 steps, 10 of them in 9 s"),
        (1, 1, 0, "file", 1.0, "1 file in 1 s"),
        (2, 5, 0, "speaker", 8.0, "2 of 5 speakers, 4.0 s per speaker, 12 s left"),
        (2**20, 2**22, 0, "B", 1.0, "1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3 s left"),
    ],
)
def test_progress_says_what_how_much_how_fast_and_how_long(
    done: int, total: int, begun: int, unit: str, elapsed_s: float, expected: str
) -> None:
    said = describe_amount(done, total, begun, unit, elapsed_s)
    assert re.sub(", until .*", "", said) == expected


def test_the_time_of_the_end_has_the_day_when_it_is_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Noon(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Noon":
            return cls(2026, 11, 30, 12, 0)

    monkeypatch.setattr(progress, "datetime", Noon)
    assert end_of(599.0) == ""
    assert end_of(3600.0) == ", until 13:00"
    assert end_of(86_400.0) == ", until Tue 01 Dec 12:00"
    assert end_of(1e20) == ""


def test_a_log_file_gets_a_line_each_thirty_seconds_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("aalbert.common.progress.time.monotonic", lambda: now[0])
    with progress_bar("work", total=100, unit="step") as bar:
        assert isinstance(bar, Lines)
        for _ in range(100):
            now[0] += 1.0
            bar.update(1)
            bar.set_postfix_str("loss 0.5")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "work: 30%, 30 of 100 steps, 1.0/s, 1 min 10 s left, loss 0.5",
        "work: 60%, 60 of 100 steps, 1.0/s, 40 s left, loss 0.5",
        "work: 90%, 90 of 100 steps, 1.0/s, 10 s left, loss 0.5",
        "work: 100 steps in 1 min 40 s, loss 0.5",
    ]


def test_short_work_is_not_shown_and_items_pass_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(shown("abc", "letters", total=3, unit="letter")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_work_that_is_done_again_goes_back(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("work", total=4, unit="file", done=1) as bar:
        bar.reach(3)
        bar.reach(2)
        bar.reach(4)
    assert capsys.readouterr().err.splitlines()[-1].startswith("work: 4 files, 3 of them in ")


def test_nobody_who_wants_quiet_hears_notes_or_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SPEECH, "notes", False)
    monkeypatch.setattr(SPEECH, "progress", False)
    note("hello")
    with progress_bar("work", total=1, unit="file") as bar:
        bar.update(1)
    assert capsys.readouterr().err == ""


def test_details_are_for_those_who_ask_and_hide_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    detail("hidden")
    monkeypatch.setattr(SPEECH, "details", True)
    detail("https://user:secret@host/x\x1b")
    with timed("look"):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == r"https://user:***@host/x\x1b"
    assert re.fullmatch(r"look: 0\.0\d s", lines[1])


def test_a_terminal_gets_a_bar_with_the_same_words() -> None:
    script = (
        "from aalbert.common.notes import note\n"
        "from aalbert.common.progress import progress_bar\n"
        "with progress_bar('work', total=4, unit='file') as bar:\n"
        "    bar.update(2)\n"
        "    bar.refresh()\n"
        "    note('a note')\n"
        "    bar.update(2)\n"
    )
    frames = re.split(r"[\r\n]+", on_a_terminal("-c", script))
    assert any(re.match(r"work:  50%\|█+ +\| 2 of 4 files, ", frame) for frame in frames)
    assert "a note" in frames
    assert any(re.match(r"work: 100%\|█+\| 4 files in 0 s", frame) for frame in frames)
