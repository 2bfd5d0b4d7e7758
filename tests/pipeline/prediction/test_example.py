"""The examples of docs/predict.md run as they stand there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.shards import Dataset

PAGE = (Path(__file__).parents[3] / "docs" / "predict.md").read_text()


@pytest.fixture
def places(
    speaker_run: Path,
    phone_run: Path,
    verification_run: Path,
    recognition_run: Path,
    regression_run: Path,
    voxceleb1_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The paths that the examples name."""
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    for name, run in (
        ("speaker", speaker_run),
        ("phone", phone_run),
        ("verification", verification_run),
        ("recognition", recognition_run),
        ("regression", regression_run),
    ):
        Path("runs", name).symlink_to(run)
    Path("recordings").mkdir()
    sources = Dataset(voxceleb1_data).column("source")[:2]
    for source, name in zip(sources, ("a.wav", "b.wav"), strict=True):
        shutil.copy(voxceleb1_data.parent / "corpus" / str(source), name)
        shutil.copy(name, f"recordings/{name}")
    shutil.copy("a.wav", "speech.wav")
    Path("trials.txt").write_text("1 a.wav a.wav\n0 a.wav b.wav\n")


@pytest.mark.usefixtures("places")
def test_the_commands_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 8
    for line in lines:
        capsys.readouterr()
        assert main(shlex.split(line)[1:]) == 0, line
        assert capsys.readouterr().out
    assert sorted(path.name for path in Path("phones").glob("*.TextGrid")) == [
        *("a.TextGrid", "b.TextGrid")
    ]


@pytest.mark.usefixtures("places")
def test_the_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    exec(compile(code, "predict.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("id1") and " s: " in lines[1] and "True" in lines[-1]
