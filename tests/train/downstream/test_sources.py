"""The same folder never answers for other data, weights or files than it was made with."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aalbert.cli import main
from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.models import HeadConfig, PretrainedModel
from aalbert.shards import Dataset
from aalbert.train.downstream import run as downstream_run
from aalbert.train.downstream.config import DownstreamConfig, LabelConfig, SplitConfig, TrialConfig
from aalbert.train.downstream.run import resume_downstream, start_downstream
from aalbert.train.downstream.sweep import run_sweep
from aalbert.train.evaluation.evaluate import evaluate_runs, measure
from aalbert.train.evaluation.open_run import open_run
from aalbert.train.evaluation.report import write_reports
from aalbert.train.places import digest_places
from aalbert.train.run_folder import RunFolder

QUICK = DownstreamConfig(epochs=1, prefetch=0)
FRAMES = HeadConfig(pooling="none")
PHONES = replace(QUICK, task="librispeech-phone", layers="last", head=FRAMES, crop_seconds=0.0)


class StoppedError(Exception):
    """A run was stopped as it began to train."""


def stop(*_: object, **__: object) -> None:
    """End a run that has just begun."""
    raise StoppedError


@pytest.fixture
def own_model(pretrained: Path, tmp_path: Path) -> Path:
    """A copy of the pretrained model."""
    return Path(shutil.copytree(pretrained / "export", tmp_path / "model"))


def change_weights(model: Path) -> None:
    """Save other weights in the place of a model."""
    other = PretrainedModel.from_pretrained(model)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    other.save_pretrained(model)


def sweep(data: Path, upstream: str, out: Path) -> list[str]:
    """Return the runs of a sweep of two points."""
    grid = [("learning_rate=1e-2",), ("learning_rate=1e-1",)]

    def configure(point: tuple[str, ...]) -> DownstreamConfig:
        return replace(QUICK, learning_rate=float(point[0].partition("=")[2]))

    return sorted(point.run for point in run_sweep(grid, configure, data, upstream, out))


def test_a_sweep_answers_for_its_own_data_and_upstream_only(
    voxceleb1_data: Path, librispeech_data: Path, own_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    first = sweep(voxceleb1_data, str(own_model), out)
    moved = Path(shutil.move(own_model, tmp_path / "moved"))
    assert sweep(voxceleb1_data, str(moved), out) == first
    with pytest.raises(ConfigError, match=r"holds a run with another upstream: choose another"):
        sweep(voxceleb1_data, "logmel", out)
    with pytest.raises(ConfigError, match="holds a run with another dataset"):
        sweep(librispeech_data, str(moved), out)
    change_weights(moved)
    with pytest.raises(ConfigError, match="holds a run with another upstream"):
        sweep(voxceleb1_data, str(moved), out)


@pytest.fixture(scope="module")
def lists(librispeech_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Lists of the utterances to train, select and test on."""
    folder = tmp_path_factory.mktemp("lists")
    keys = Dataset(librispeech_data).table.column("key").to_pylist()
    for part, own in (("train", keys[::2]), ("dev", keys[1::4]), ("test", keys[3::4])):
        (folder / f"{part}.txt").write_text("\n".join(own) + "\n")
    return {part: folder / f"{part}.txt" for part in ("train", "dev", "test")}


def with_files(folder: Path, alignments: Path, lists: dict[str, Path]) -> DownstreamConfig:
    """Return the settings of a task that reads copies of these files in a folder."""
    shutil.copy(alignments, folder / "alignments.txt")
    for part, path in lists.items():
        shutil.copy(path, folder / f"{part}.txt")
    train, dev, test = (str(folder / f"{part}.txt") for part in ("train", "dev", "test"))
    splits = SplitConfig(train="*", train_list=train, dev_list=dev, test_list=test)
    labels = LabelConfig(alignments=str(folder / "alignments.txt"))
    return replace(PHONES, splits=splits, labels=labels)


CHANGES: dict[str, Callable[[Path], object]] = {
    "train.txt": lambda file: file.write_text(file.read_text().split()[0] + "\n"),
    "test.txt": lambda file: file.write_text(file.read_text().split()[0] + "\n"),
    "alignments.txt": lambda file: file.write_text(file.read_text().replace(" 7", " 6")),
    "phones.json": lambda file: file.write_text('["A", "B", "C", "D", "E", "F", "G", "H"]'),
}


@pytest.fixture(scope="module")
def stopped(
    librispeech_data: Path,
    alignments: Path,
    lists: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with a finished run `done`, one that has just begun, `begun`, and their files."""
    folder = tmp_path_factory.mktemp("sources")
    config = with_files(folder, alignments, lists)
    start_downstream(config, librispeech_data, "logmel", folder / "done")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(downstream_run, "run_downstream", stop)
        start_downstream(config, librispeech_data, "logmel", folder / "begun")
    return folder


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_changed_is_named_and_nothing_is_computed_with_it(
    name: str, stopped: Path
) -> None:
    file = stopped / name
    before = file.read_bytes() if file.exists() else None
    CHANGES[name](file)
    message = rf"{name} \((splits\.\w+_list|labels\.alignments.*)\) has changed since the run was"
    try:
        with pytest.raises(IntegrityError, match=message):
            measure(open_run(RunFolder(stopped / "done")))
        with pytest.raises(IntegrityError, match=message):
            resume_downstream(stopped / "begun", PHONES.task)
    finally:
        file.unlink() if before is None else file.write_bytes(before)
    assert measure(open_run(RunFolder(stopped / "done"))).outcome.value > 0


def test_trials_that_changed_are_named(
    voxceleb1_data: Path, verification: DownstreamConfig, tmp_path: Path
) -> None:
    trials = tmp_path / "trials.txt"
    shutil.copy(voxceleb1_data.parent / "corpus" / "veri_test.txt", trials)
    config = replace(verification, trials=replace(verification.trials, test=str(trials)))
    start_downstream(config, voxceleb1_data, "logmel", tmp_path / "run")
    assert measure(open_run(RunFolder(tmp_path / "run"))).outcome is not None
    trials.write_text(trials.read_text().replace("1 ", "0 ", 1))
    with pytest.raises(IntegrityError, match=r"trials\.txt \(trials\.test\) has changed since"):
        measure(open_run(RunFolder(tmp_path / "run")))


def test_a_run_is_not_continued_with_other_weights(
    voxceleb1_data: Path, own_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downstream_run, "run_downstream", stop)
    with pytest.raises(StoppedError):
        start_downstream(QUICK, voxceleb1_data, str(own_model), tmp_path / "run")
    monkeypatch.undo()
    change_weights(own_model)
    with pytest.raises(IntegrityError, match=r"model holds other weights than when the run began"):
        resume_downstream(tmp_path / "run", QUICK.task)


def test_a_folder_has_the_hash_of_its_files_and_their_names(tmp_path: Path) -> None:
    places = {"a": str(tmp_path), "b": ""}
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "x.TextGrid").write_text("1")
    first = digest_places(places)
    assert list(first) == ["a"] and digest_places(places) == first
    (tmp_path / "inner" / "x.TextGrid").rename(tmp_path / "x.TextGrid")
    second = digest_places(places)
    (tmp_path / "x.TextGrid").write_text("2")
    assert len({each["a"] for each in (first, second, digest_places(places))}) == 3


def test_a_run_is_continued_where_its_data_has_moved(
    voxceleb1_data: Path, librispeech_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Path(shutil.copytree(voxceleb1_data, tmp_path / "old")), tmp_path / "new"
    monkeypatch.setattr(downstream_run, "run_downstream", stop)
    with pytest.raises(StoppedError):
        start_downstream(QUICK, old, "logmel", tmp_path / "run")
    monkeypatch.undo()
    old.rename(new)
    with pytest.raises(IntegrityError, match="the run was trained on"):
        resume_downstream(tmp_path / "run", QUICK.task, data=librispeech_data)
    command = ["downstream", QUICK.task, "--resume", "--out", str(tmp_path / "run")]
    assert main([*command]) == InputError.exit_code
    assert main([*command, "--data", str(new)]) == 0
    assert measure(open_run(RunFolder(tmp_path / "run"))).dataset.place == str(new)


def test_a_run_is_continued_where_its_upstream_has_moved(
    voxceleb1_data: Path, own_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, features = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "features")
    monkeypatch.setattr(downstream_run, "run_downstream", stop)
    for upstream, each in ((str(own_model), run), ("logmel", features)):
        with pytest.raises(StoppedError):
            start_downstream(QUICK, voxceleb1_data, upstream, each.path)
    moved = own_model.rename(tmp_path / "moved")
    with pytest.raises(StoppedError):
        resume_downstream(run.path, QUICK.task, upstream=str(moved))
    assert run.read_record()["upstream"] == str(moved)
    for each, other in ((run, "logmel"), (features, str(moved)), (features, "mfcc")):
        with pytest.raises(IntegrityError, match=f"{other} holds other weights than when the run"):
            resume_downstream(each.path, QUICK.task, upstream=other)


def test_a_state_of_a_run_is_an_upstream(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    step = int(sorted(pretrained.glob("checkpoints/step-*.ckpt"))[0].name[5:-5])
    start_downstream(QUICK, voxceleb1_data, f"{pretrained}@{step}", tmp_path / "run")
    record = RunFolder(tmp_path / "run").read_record()
    assert record["upstream"] == f"{pretrained.resolve()}@{step}"
    (evaluation,) = evaluate_runs([tmp_path / "run"])
    assert evaluation.result.upstream_name == f"{pretrained.name}@{step}"
    assert evaluation.result.upstream_training["exported_step"] == step
    write_reports([evaluation], [])


def test_a_run_that_is_refused_leaves_nothing_behind(voxceleb1_data: Path, tmp_path: Path) -> None:
    config = replace(QUICK, task="voxceleb1-verification", trials=TrialConfig(known_speakers=True))
    with pytest.raises(InputError, match="the dev part has 0 trials of one speaker and 1 of two"):
        start_downstream(config, voxceleb1_data, "logmel", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with pytest.raises(InputError, match="the dev part has 0 trials of one speaker"):
        start_downstream(config, voxceleb1_data, "logmel", tmp_path / "link")
    assert (tmp_path / "link").is_dir() and not any((tmp_path / "disk").iterdir())
    corrected = replace(config, splits=SplitConfig(dev="drawn", drawn_proportion=0.6))
    start_downstream(corrected, voxceleb1_data, "logmel", tmp_path / "run")
