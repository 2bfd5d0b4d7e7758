from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aalbert.cli import main
from aalbert.commands import demo
from aalbert.common.files import file_digest
from aalbert.errors import InterruptedRunError


@pytest.fixture(autouse=True)
def small_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo that takes seconds, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    subsets = (("train-clean-100", 1000, 2), ("dev-clean", 2000, 2), ("test-clean", 3000, 2))
    monkeypatch.setattr(demo, "SUBSETS", subsets)
    small = ("steps=4", "validate_every_steps=2", "encoder.width=32", "data.batch_seconds=16")
    monkeypatch.setattr(demo, "DEMO_SETTINGS", small)
    quick = replace(demo.PHONES, settings=(*demo.PHONES.settings, "least_epoch_steps=2"))
    monkeypatch.setattr(demo, "COMPARISONS", (quick, demo.VOICES))


def interrupting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is stopped by a signal after its work."""

    def interrupted(*arguments: Any) -> None:
        function(*arguments)
        raise InterruptedRunError("stopped by SIGINT, saved; continue with: another command", 2)

    return interrupted


def made_files(folder: Path) -> dict[Path, tuple[str, int]]:
    """Return hash and time of every file of a corpus, a dataset, and models."""
    chosen = [*folder.rglob("*.flac"), *folder.rglob("*.tar"), *folder.rglob("*.safetensors")]
    return {path: (file_digest(path), path.stat().st_mtime_ns) for path in chosen}


@pytest.mark.slow
def test_the_demo_goes_on_where_it_stopped_and_ends_with_both_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as stopped:
        stopped.setattr(demo, "pretrain", interrupting(demo.pretrain))
        assert main(["demo"]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "aalbert: stopped by SIGINT, saved: run 'aalbert demo --out demo' again, finished work is "
        "kept"
    )
    made = made_files(Path("demo"))
    assert main(["demo"]) == 0
    assert made.items() <= made_files(Path("demo")).items()
    out = capsys.readouterr().out
    for row in ("phone-pretrained", "phone-untrained", "phone-logmel"):
        assert row in out and row.replace("phone", "voice") in out
    pages = [line.partition(": ")[2] for line in out.splitlines() if ".html" in line]
    assert len(pages) == 4 and all(Path(page).is_file() for page in pages)
    made = made_files(Path("demo"))
    assert main(["demo"]) == 0
    assert made == made_files(Path("demo"))
    assert capsys.readouterr().out == out


def test_an_older_demo_is_kept_unless_its_end_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.claim(Path("demo"), "make demo", restart=False)
    Path("demo/mine.txt").touch()
    demo.claim(Path("demo"), "make demo", restart=False)
    monkeypatch.setattr(demo, "SEED", 2)
    assert main(["demo"]) == 6
    assert "demo has a demo by other versions or settings: keep it" in capsys.readouterr().err
    assert Path("demo/mine.txt").is_file()
    demo.claim(Path("demo"), "make demo", restart=True)
    assert not Path("demo/mine.txt").exists()
    assert capsys.readouterr().err == "deleting the demo in demo\n"


def test_in_the_repository_the_command_is_that_of_make() -> None:
    assert not demo.is_repository(Path("demo"))
    Path("Makefile").write_text("demo:\n\taalbert demo --out demo\n")
    assert demo.is_repository(Path("demo")) and not demo.is_repository(Path("other"))
