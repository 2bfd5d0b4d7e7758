from pathlib import Path

import pytest

from aalbert.common.work_folder import claim, hold_work
from aalbert.errors import OutputInUseError


def work(out: Path, plan: str = "plan") -> None:
    """Work until it is finished."""
    with hold_work(out / ".work"):
        claim(out / ".work", plan, "work of another plan")


def test_work_continues_after_a_process_that_was_killed_before_its_plan_was_there(
    tmp_path: Path,
) -> None:
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "lock").touch()
    (tmp_path / ".work" / f"plan.json.{16 * '0'}.partial").write_text('"pl')
    work(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_finished_work_is_removed_before_another_process_may_begin(tmp_path: Path) -> None:
    with hold_work(tmp_path / ".work"):
        claim(tmp_path / ".work", "plan", "work")
        with pytest.raises(OutputInUseError, match="is being written by process"):
            work(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputInUseError, match="is not empty: choose another --out"):
        work(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_interrupted_work_stays_for_the_same_plan_only(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), hold_work(tmp_path / ".work"):
        claim(tmp_path / ".work", "plan", "work")
        raise KeyboardInterrupt
    with pytest.raises(OutputInUseError, match="holds an unfinished work of another plan"):
        work(tmp_path, "other")
    work(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_work_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").write_text("theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".work").symlink_to(elsewhere)
    with pytest.raises(OutputInUseError, match="/.work is a link, and no file is written through"):
        work(tmp_path / "out")
    assert (elsewhere / "lock").read_text() == "theirs"
