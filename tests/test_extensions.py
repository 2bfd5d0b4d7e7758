"""A feature kind and a downstream task that only this file knows go the whole way."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from aalbert.cli import main
from aalbert.commands.downstream import add_task, downstream_app
from aalbert.errors import ConfigError
from aalbert.models import FrontEndConfig, HeadConfig, UpstreamConfig
from aalbert.pipeline.audio.features import EXTRACTORS
from aalbert.shards import Dataset, Loader, LoaderConfig, OrderConfig
from aalbert.shards.format.feature_settings import SETTINGS_BY_KIND, FeatureSettings
from aalbert.shards.format.wave_settings import WaveSettings
from aalbert.train.downstream.config import DownstreamConfig, LabelConfig
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.phones import find_phones
from aalbert.train.downstream.tasks import TASKS, Benchmark, Published, Task

RATE, SHIFT, WINDOW = 16_000, 160, 720
PARTS = 3


@dataclass(frozen=True, kw_only=True)
class EnergySettings(FeatureSettings):
    """Natural logarithm of the energy of each of some equal parts of a window of 45 ms."""

    kind: Literal["energy"] = "energy"
    sample_rate: int = RATE
    window_length_ms: float = 45.0
    frame_shift_ms: float = 10.0
    parts: int = 2
    wave: WaveSettings = WaveSettings()

    centred: ClassVar[bool] = False
    dimension_name = "part of the window"
    value_name = "natural log of energy"

    @property
    def dims(self) -> int:
        """Numbers per frame."""
        return self.parts


@dataclass(frozen=True, kw_only=True)
class CentredEnergySettings(EnergySettings):
    """The same around multiples of the shift, with edges reflected."""

    centred: ClassVar[bool] = True


def frame_energies(wave: NDArray[np.float32], settings: EnergySettings) -> NDArray[np.float32]:
    half = WINDOW // 2
    padded = np.pad(wave, half, mode="reflect") if settings.centred else wave
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::SHIFT]
    parts = frames.astype(np.float64).reshape(len(frames), settings.parts, -1)
    energies: NDArray[np.float64] = np.square(parts).sum(axis=2)
    return np.log(energies + 1e-10).astype(np.float32)


@pytest.fixture(params=[EnergySettings, CentredEnergySettings], ids=["whole windows", "centred"])
def energy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> EnergySettings:
    """The settings of a kind that is registered for one test; `parts` are not the default."""
    kind: type[EnergySettings] = request.param
    monkeypatch.setitem(SETTINGS_BY_KIND, "energy", kind)
    monkeypatch.setitem(EXTRACTORS, "energy", frame_energies)
    return kind(parts=PARTS)


@pytest.fixture
def energy_data(energy: EnergySettings, librispeech_folder: Path, tmp_path: Path) -> Path:
    """The synthetic LibriSpeech with energies beside the default features."""
    command = ["prepare", "librispeech", str(librispeech_folder), "--workers", "1"]
    features = ["--feature", "energy", "--feature", "logmel", "--set", f"energy.parts={PARTS}"]
    assert main([*command, *features, "--out", str(tmp_path / "data")]) == 0
    return tmp_path / "data"


def test_a_new_kind_is_stored_indexed_shown_and_read(
    energy: EnergySettings,
    energy_data: Path,
    librispeech_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset = Dataset(energy_data)
    assert dataset.manifest.features["energy"] == energy
    for row, source in enumerate(dataset.column("source")):
        wave, _ = soundfile.read(librispeech_folder / str(source), dtype="float32")
        frames = 1 + len(wave) // SHIFT if energy.centred else 1 + (len(wave) - WINDOW) // SHIFT
        stored = dataset.features(row, "energy")
        assert stored.shape == (frames, PARTS) and dataset.frames("energy")[row] == frames
        np.testing.assert_array_equal(stored, frame_energies(wave, energy).astype(np.float16))
    capsys.readouterr()
    assert main(["shards", "info", str(energy_data), "--json"]) == 0
    feature = json.loads(capsys.readouterr().out)["features"]["energy"]
    assert (feature["dims"], feature["changed"]) == (PARTS, ["parts"])
    assert main(["shards", "verify", str(energy_data)]) == 0
    picture = str(tmp_path / "a.png")
    assert main(["shards", "show", str(energy_data), dataset.key(0), "--out", picture]) == 0
    # Frames are partners when their centres are nearest: 22.5 ms into the recording there is none
    # of the log-mel frames at 0 and 10 ms.
    skipped = 0 if energy.centred else 2
    config = LoaderConfig(
        order=OrderConfig(frames_per_batch=200), feature="energy", targets=("logmel",), prefetch=0
    )
    seen = 0
    for batch in Loader(dataset.select(["*"]), config):
        for place, (row, length) in enumerate(
            zip(batch.rows.tolist(), batch.lengths.tolist(), strict=True)
        ):
            for name, array, first in (
                ("energy", batch.features, 0),
                ("logmel", batch.targets["logmel"], skipped),
            ):
                expected = dataset.features(row, name)[first : first + length]
                np.testing.assert_array_equal(array[place, :length].numpy(), expected)
            seen += 1
    assert seen == len(dataset)


def test_a_new_kind_is_a_baseline_of_downstream_tasks(
    energy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = ["downstream", "librispeech-speaker", "--data", str(energy_data)]
    options = ["--upstream", "energy", "--set=epochs=1", "--set=prefetch=0", "--out", str(run)]
    assert main([*command, *options]) == 0
    assert main(["evaluate", str(run), "--json"]) == 0
    [result] = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert result["upstream"] == "energy" and result["counts"]["classes"] == 4
    assert "the features are energy" in (run / "report.html").read_text()


def test_the_frames_of_a_new_kind_take_the_phones_that_are_spoken_at_their_centres(
    energy: EnergySettings, energy_data: Path, tmp_path: Path
) -> None:
    dataset = Dataset(energy_data)
    samples = dataset.table.column("samples").to_pylist()
    # The phone of every 10 ms is its own number.
    lines = [
        " ".join([dataset.key(row), *map(str, range(count // SHIFT))])
        for row, count in enumerate(samples)
    ]
    (tmp_path / "phones.txt").write_text("\n".join(lines))
    upstream = UpstreamConfig(
        features=asdict(energy), front_end=FrontEndConfig(feature_dims=energy.dims)
    )
    labels = find_phones(
        Inputs(dataset, upstream),
        LabelConfig(alignments=str(tmp_path / "phones.txt")),
        np.arange(len(dataset)),
    )
    # The centres are at 0, 10, 20 ms, or at 22.5, 32.5, 42.5 ms.
    first = 0 if energy.centred else 2
    assert labels.place[:20].tolist() == list(range(first, first + 20))


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Callable[[Task], None]:
    """Register a task, for one test."""
    assert [command.name for command in downstream_app.registered_commands] == list(TASKS)
    commands = list(downstream_app.registered_commands)
    monkeypatch.setattr(downstream_app, "registered_commands", commands)

    def register(task: Task) -> None:
        monkeypatch.setitem(TASKS, task.name, task)
        add_task(task)

    return register


def test_a_new_task_is_listed_trained_swept_evaluated_and_reported(
    add: Callable[[Task], None],
    librispeech_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = (Published("a published system", 0.875, None, "a journal"),)
    benchmark = Benchmark(data="the official recordings", figures=figures)
    add(
        Task(name="voice", summary="Tell high from low.", title="Voice height", benchmark=benchmark)
    )
    assert main(["downstream", "--help"]) == 0
    assert "Tell high from low." in capsys.readouterr().out
    data = ["--data", str(librispeech_data), "--upstream", "logmel"]
    splits = "{train: '*', dev: drawn, test: drawn, draw: speakers, drawn_proportion: 0.25}"
    options = [*data, f"--set=splits={splits}", "--set=labels.column=gender", "--set=prefetch=0"]
    sweep = [*options, "--set=epochs=1,2", "--out", str(tmp_path / "sweep")]
    assert main(["sweep", "voices", *sweep]) == 2
    assert f"unknown task 'voices': use one of {', '.join(TASKS)}" in capsys.readouterr().err
    assert main(["sweep", "voice", *sweep]) == 0
    assert "best accuracy on dev" in capsys.readouterr().out
    run = tmp_path / "run"
    assert main(["downstream", "voice", *options, "--set=epochs=1", "--out", str(run)]) == 0
    assert json.loads((run / "run.json").read_text())["task"] == "voice"
    assert main(["evaluate", str(run)]) == 0
    report = (run / "report.html").read_text()
    assert "Voice height: logmel" in report
    assert "a published system" in report and "on other data (the official recordings)" in report
    assert main(["config", "show", "--task", "voice", "--preset", "best"]) == 2
    assert "unknown preset 'best': voice has none" in capsys.readouterr().err


def test_a_new_task_says_where_its_labels_come_from(add: Callable[[Task], None]) -> None:
    cosine: dict[str, Any] = {"head": HeadConfig(classifier="none"), "layers": "mean"}
    with pytest.raises(ConfigError, match="unknown task 'same-voice': use one of voxceleb1, "):
        DownstreamConfig(task="same-voice", **cosine)
    add(Task(name="same-voice", summary="", title="", labels="trials"))
    DownstreamConfig(task="same-voice", **cosine)
    with pytest.raises(ConfigError, match="are for voxceleb1-verification, same-voice, the task"):
        DownstreamConfig(task="classify", **cosine)
