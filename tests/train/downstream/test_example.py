"""The commands of docs/downstream.md for recurrent heads, phone recognition and regression run."""

import csv
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.models import PretrainedModel
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.corpora.manifest_file import read_manifest_file
from aalbert.pipeline.corpora.synthesis import write_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards import Dataset
from aalbert.shards.format.feature_settings import LogMelSettings
from tests.examples import commands_of, examples_of

CONFIG = PrepareConfig(features=(LogMelSettings(mels=20),))
LIMITS = PrepareLimits(engine=LocalEngine(workers=1))
# The settings of the presets take hours.
QUICK = ("--set=epochs=1", "--set=least_epoch_steps=0", "--set=prefetch=0")


@pytest.fixture
def places(pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths that the examples name."""
    monkeypatch.chdir(tmp_path)
    for number, subset in enumerate(("train-clean-100", "dev-clean", "test-clean")):
        write_librispeech(
            Path("LibriSpeech"),
            speakers=3,
            utterances_per_speaker=4,
            seed=number,
            seconds=(1.0, 1.5),
            subset=subset,
            first_speaker=1000 * (number + 1),
        )
    prepare(read_librispeech(Path("LibriSpeech")), Path("data/librispeech"), CONFIG, LIMITS)
    dataset = Dataset("data/librispeech")
    words = {word for text in dataset.column("text") for word in str(text).split()}
    lexicon = (f"{word}  {' '.join(word)}\n" for word in sorted(words))
    Path("librispeech-lexicon.txt").write_text("".join(lexicon))
    with Path("opinions.csv").open("w", newline="") as stream:
        paths = sorted(Path("LibriSpeech").rglob("*.flac"))
        rows = [(path, path.parts[2], len(path.name) + n % 5) for n, path in enumerate(paths)]
        csv.writer(stream).writerows([("path", "speaker", "opinion"), *rows])
    prepare(read_manifest_file(Path("opinions.csv")), Path("data/opinions"), CONFIG, LIMITS)
    Path("runs").mkdir()
    Path("runs/pretrain").symlink_to(pretrained)


@pytest.mark.usefixtures("places")
def test_the_example_of_frame_probes_runs(capsys: pytest.CaptureFixture[str]) -> None:
    dataset = Dataset("data/librispeech")
    frames = dataset.frames("logmel").tolist()
    labels = (
        f"{key} {' '.join(str(frame // 10 % 2) for frame in range(count))}\n"
        for key, count in zip(dataset.column("key"), frames, strict=True)
    )
    Path("converted_aligned_phones.txt").write_text("".join(labels))
    [code] = [
        each["code"] for each in examples_of("evaluate.md") if "probe_frames(" in each["code"]
    ]
    exec(compile(code, "evaluate.md", "exec"), {})
    states = PretrainedModel.from_pretrained("runs/pretrain").upstream.states
    printed = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in printed] == list(range(states))


@pytest.mark.usefixtures("places")
def test_the_commands_of_new_tasks_and_heads_run(capsys: pytest.CaptureFixture[str]) -> None:
    measured = {
        "librispeech-phone-recognition": "phone error rate",
        "regress": "mean absolute error",
        "librispeech-speaker": "accuracy",
    }
    shown = {
        "librispeech-phone-recognition": ("insertions", "predicted phone"),
        "regress": ("training median", ", predicted"),
    }
    commands = [each for each in commands_of("downstream.md") if each[1] in measured]
    assert {each[1] for each in commands} == set(measured)
    for command in commands:
        _, task, *_ = command
        assert main([*command, *QUICK]) == 0, command
        assert f"best {measured[task]} on dev" in capsys.readouterr().out
        if task not in shown:
            continue
        run = Path(command[command.index("--out") + 1])
        assert main(["evaluate", str(run)]) == 0
        assert shown[task][0] in capsys.readouterr().out
        assert shown[task][1] in (run / "report.html").read_text()
        assert "Not measured yet" not in (run / "export/README.md").read_text()
