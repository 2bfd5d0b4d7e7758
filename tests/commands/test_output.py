import json
import subprocess
import sys
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.common.notes import SPEECH, Speech


def test_quiet_leaves_the_result_alone_and_what_it_set_ends_with_the_command(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shards", "list", str(prepared), "--limit", "1", "-q"]) == 0
    quiet = capsys.readouterr()
    assert main(["shards", "list", str(prepared), "--limit", "1"]) == 0
    usual = capsys.readouterr()
    assert quiet.out == usual.out and quiet.err == "" and usual.err == "1 utterance\n"
    assert Speech() == SPEECH


def test_verbose_says_what_is_opened_and_how_long_it_took(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shards", "list", str(prepared), "-v"]) == 0
    said = capsys.readouterr().err
    assert f"opened {prepared}: " in said and "in all: " in said


def test_verbose_shows_where_an_error_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "info", "nowhere", "--verbose"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert "Traceback (most recent call last):" in lines
    assert lines[-1].startswith("aalbert: there is no folder nowhere")


def test_quiet_and_verbose_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "info", "nowhere", "-q", "-v"]) == 2
    assert "--quiet and --verbose exclude each other" in capsys.readouterr().err


def test_no_progress_shows_none(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "verify", str(prepared)]) == 0
    assert "verify: " in capsys.readouterr().err
    assert main(["shards", "verify", str(prepared), "--no-progress"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "mistake",
    [
        "pretrain --preset tinny --data x --out y",
        "pretrain --set encoder.layerz=3 --data x --out y",
        "pretrain --set optimiser.learning_rate=fast --data x --out y",
        "downstream voxceleb1 --upstream logmel --preset bst --data x --out y",
        "downstream classify --upstream logmel --mode frozn --data x --out y",
        "sweep voxceleb1 --upstream logmel --preset bst --data x --out y --set epochs=1,2",
        "prepare librispeech x --set logmel.melz=3 --out y",
    ],
)
def test_mistakes_in_settings_are_found_without_pytorch_and_arrow(mistake: str) -> None:
    script = (
        "import sys\n"
        "from aalbert.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(code, *[name for name in ('torch', 'pyarrow', 'numpy') if name in sys.modules])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, *mistake.split()], capture_output=True, text=True
    )
    assert ran.stdout == "2\n" and ran.stderr.startswith("aalbert: "), ran.stderr


def test_after_preparing_the_next_command_is_named(
    librispeech_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    command = ["prepare", "librispeech", str(librispeech_folder), "--out", str(out)]
    assert main([*command, "--workers", "1"]) == 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"next: aalbert pretrain --preset tiny --data {out} --out runs/pretrain"
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["data"] == str(out) and "next: " not in captured.err


@pytest.mark.parametrize(
    ("make", "place", "kind"),
    [
        (lambda folder: (folder / "train-clean-100").mkdir(), "corpus", "librispeech"),
        (lambda folder: (folder / "wav").mkdir(), "corpus", "voxceleb1"),
        (lambda folder: (folder / "mine").mkdir(), "corpus", "folder"),
        (lambda folder: (folder / "table.csv").touch(), "corpus/table.csv", "manifest"),
    ],
)
def test_a_folder_in_place_of_a_corpus_is_told_from_a_name(
    make: object,
    place: str,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    assert callable(make)
    make(tmp_path / "corpus")
    assert main(["prepare", place, "--out", "data"]) == 2
    assert f"such as aalbert prepare {kind} {place} --out DIR" in capsys.readouterr().err


def test_help_of_every_depth_needs_no_pydantic() -> None:
    script = (
        "import sys\n"
        "from aalbert.cli import main\n"
        "main(sys.argv[1:])\n"
        "print('pydantic' in sys.modules, file=sys.stderr)\n"
    )
    for command in (["--help"], ["pretrain", "--help"], ["downstream", "voxceleb1", "--help"]):
        ran = subprocess.run(
            [sys.executable, "-c", script, *command], capture_output=True, text=True, check=True
        )
        assert ran.stderr == "False\n"


def test_quiet_is_kept_by_commands_that_show_progress(
    librispeech_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    prepare = ["prepare", "librispeech", str(librispeech_folder), "--workers", "1"]
    assert main([*prepare, "--out", str(data), "-q"]) == 0
    assert main([*prepare, "--out", str(tmp_path / "other"), "--no-progress"]) == 0
    assert "prepare: " not in capsys.readouterr().err
    small = ["--set", "steps=2", "--set", "encoder.width=16", "--set", "encoder.heads=2"]
    pretrain = ["pretrain", "--preset", "tiny", *small, "--data", str(data), "--out", str(run)]
    assert main([*pretrain, "--quiet"]) == 0
    lines = capsys.readouterr().err.splitlines()
    # What is worse than a line between neighbours is worth a warning, quiet or not.
    assert len(lines) == 1 and lines[0].startswith("warning: the held-out loss ")
