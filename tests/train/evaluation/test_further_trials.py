"""Verification on the list that a dataset stores, and on further lists."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard

from aalbert.cli import main
from aalbert.errors import ConfigError, InputError
from aalbert.models import HeadConfig
from aalbert.shards import Dataset
from aalbert.train.downstream.config import DownstreamConfig, SplitConfig
from aalbert.train.downstream.run import start_downstream
from aalbert.train.downstream.trials import read_trials
from aalbert.train.evaluation.evaluate import evaluate_runs, measure
from aalbert.train.run_folder import RunFolder
from tests.train.evaluation.test_card import run_examples


@pytest.fixture(scope="module")
def config(verification: DownstreamConfig) -> DownstreamConfig:
    """Only speakers that the stored list does not have are known."""
    return replace(verification, trials=replace(verification.trials, known_speakers=False))


@pytest.fixture(scope="module")
def run(
    voxceleb1_data: Path, config: DownstreamConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("verification") / "run"
    start_downstream(config, voxceleb1_data, "logmel", out)
    return out


@pytest.fixture
def further(voxceleb1_data: Path, tmp_path: Path) -> Path:
    """Trials of the test split, of all speakers."""
    dataset = Dataset(voxceleb1_data)
    keys = dataset.keys(dataset.rows(["test"]).tolist())
    pairs = [(one, other) for one in keys for other in keys if one < other]
    place = tmp_path / "list_test_all2.txt"
    lines = [f"{int(one[:7] == other[:7])} {one} {other}\n" for one, other in pairs]
    place.write_text("".join(lines))
    return place


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_stored_list_is_found_without_a_name(run: Path, voxceleb1_data: Path) -> None:
    assert "test: veri_test.txt" in (run / "config.yaml").read_text()
    measured = measure(RunFolder(run))
    stored = read_trials("veri_test.txt", Dataset(voxceleb1_data))
    assert measured.rows["test"].tolist() == stored.rows.tolist()
    (evaluation,) = evaluate_runs([run])
    assert evaluation.result.trials == "veri_test.txt"


def test_a_further_list_has_a_folder_of_its_own(
    run: Path,
    further: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(["evaluate", str(run), "--json"]) == 0
    card: Any = ModelCard.load(run / "export" / "README.md")
    assert [each.metric_type for each in card.data.eval_results] == ["eer"]
    generator = np.random.default_rng(3)
    left, right = generator.standard_normal((2, 16_000)).astype(np.float32) * 0.1
    monkeypatch.chdir(further.parent)
    soundfile.write("one.wav", left, 16_000)
    soundfile.write("other.wav", right, 16_000)
    assert "compared" in run_examples(card.text, run / "export", left=left, right=right)
    capsys.readouterr()
    assert "compare MODEL" in card.text and "reads the features themselves" in card.text
    before = files_of(run)
    capsys.readouterr()
    known = ["--set", "trials.known_speakers=true"]
    arguments = ["evaluate", str(run), "--set", f"trials.test={further}", *known, "--json"]
    assert main(arguments) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["counts"] == {"utterances": 8, "trials": 28, "same_speaker": 4}
    assert result["trials"] == "list_test_all2.txt"
    folder = run / "trials/list_test_all2"
    assert json.loads((folder / "metrics.json").read_text()) == result
    assert "list_test_all2.txt" in (folder / "report.html").read_text()
    assert len((folder / "predictions.csv").read_text().splitlines()) == 29
    shutil.rmtree(run / "trials")
    assert before == files_of(run)


def test_a_list_with_speakers_of_the_training_part_is_refused(run: Path, further: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"list_test_all2\.txt has \d of the speakers that .*run was trained on: .* allow it "
        r"with --set trials\.known_speakers=true",
    ):
        evaluate_runs([run], assignments=[f"trials.test={further}"])


def test_nothing_but_the_trials_can_be_set(run: Path, further: Path) -> None:
    for other in ("trials.dev_count=10", "seed=3", "head.pooling=statistics"):
        with pytest.raises(ConfigError, match=r"only trials\.test, a further list of trials, and"):
            evaluate_runs([run], assignments=[f"trials.test={further}", other])


def test_results_of_two_lists_are_not_compared(
    run: Path, config: DownstreamConfig, voxceleb1_data: Path, further: Path, tmp_path: Path
) -> None:
    trials = replace(config.trials, test=str(further), known_speakers=True)
    start_downstream(replace(config, trials=trials), voxceleb1_data, "logmel", tmp_path / "other")
    with pytest.raises(ConfigError, match="was tested on other data than"):
        evaluate_runs([run, tmp_path / "other"])
    same = [f"trials.test={further}", "trials.known_speakers=true"]
    assert len(evaluate_runs([run, tmp_path / "other"], assignments=same)) == 2


def test_cosines_need_no_trials_on_dev(
    voxceleb1_data: Path,
    config: DownstreamConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Every speaker has a third of three utterances on dev: one, so that no trial is of one speaker.
    splits = SplitConfig(dev="drawn", drawn_proportion=0.34)
    start_downstream(replace(config, splits=splits), voxceleb1_data, "logmel", tmp_path / "run")
    assert "no threshold is chosen, and nothing measured on dev: " in capsys.readouterr().err
    assert evaluate_runs([tmp_path / "run"])[0].result.metric.name == "equal error rate"
    learning = replace(config, splits=splits, head=HeadConfig(classifier="cosine"))
    with pytest.raises(InputError, match="the dev part has 0 trials of one speaker"):
        start_downstream(learning, voxceleb1_data, "logmel", tmp_path / "learning")
    assert not (tmp_path / "learning").exists()
