"""Verification on the list that a dataset stores, and on further lists."""

import csv
import gc
import io
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ReferenceType, ref

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard

from aalbert.cli import main
from aalbert.errors import ConfigError, InputError
from aalbert.models import DownstreamModel, HeadConfig
from aalbert.shards import Dataset
from aalbert.train.downstream.config import DownstreamConfig, SplitConfig
from aalbert.train.downstream.error_rates import equal_error_threshold
from aalbert.train.downstream.run import start_downstream
from aalbert.train.downstream.scoring import KnownVoices, Trials, few_utterances
from aalbert.train.downstream.trials import choose_trials, read_trials
from aalbert.train.evaluation import evaluate
from aalbert.train.evaluation.evaluate import Evaluation, evaluate_lists, evaluate_runs, measure
from aalbert.train.evaluation.further_trials import on_list
from aalbert.train.evaluation.open_run import OpenRun, on_part, open_run
from aalbert.train.run_folder import RunFolder
from tests.examples import examples_of
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
    measured = measure(open_run(RunFolder(run)))
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
        match=r"list_test_all2\.txt has 2 of the speakers that .*run was trained or calibrated on "
        r"\(id1000\d, id1000\d\): an error rate over speakers that a model knows is too low; allow "
        r"it with --set trials\.known_speakers=true",
    ):
        evaluate_runs([run], assignments=[f"trials.test={further}"])


def test_lists_are_all_refused_before_anything_is_written(run: Path, further: Path) -> None:
    before = files_of(run)
    unknown = further.with_name("unknown.txt")
    unknown.write_text("1 nobody nobody\n0 nobody somebody\n")
    with pytest.raises(InputError, match=r"unknown\.txt:1 names nobody, which"):
        evaluate_runs(
            [run],
            assignments=[f"trials.test={further},{unknown}", "trials.known_speakers=true"],
        )
    assert before == files_of(run)


def test_lists_of_one_name_do_not_overwrite_each_other(run: Path, further: Path) -> None:
    known, folder = "trials.known_speakers=true", run / "trials/list_test_all2"
    other = further.parent / "other" / further.name
    other.parent.mkdir()
    other.write_text("".join(further.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(
        ConfigError, match=r"and of .*other/list_test_all2\.txt would both lie in .*: name each"
    ):
        list(evaluate_lists([run], assignments=[f"trials.test={further},{other}", known]))
    assert not folder.exists()
    (evaluation,) = evaluate_runs([run], assignments=[f"trials.test={further}", known])
    before = files_of(folder)
    with pytest.raises(
        InputError,
        match=r"has the result of another list of this name than .*other/list_test_all2\.txt: "
        r"move or remove .*list_test_all2, or rename the list",
    ):
        evaluate_runs([run], assignments=[f"trials.test={other}", known])
    assert before == files_of(folder)
    # The same list, wherever it is, takes the place of its own result.
    other.write_text(further.read_text())
    (again,) = evaluate_runs([run], assignments=[f"trials.test={other}", known])
    assert again.result == evaluation.result
    shutil.rmtree(run / "trials")


def test_the_dev_part_of_verification_is_the_trials_of_the_threshold(
    normalised_run: Path,
) -> None:
    measured = measure(on_part(open_run(RunFolder(normalised_run)), "dev"))
    threshold = measured.model.threshold
    assert isinstance(measured.outcome, Trials) and threshold is not None
    found = equal_error_threshold(measured.outcome.scores, measured.outcome.same)
    assert (found.trials, found.misses) == (threshold.trials, threshold.misses)
    assert found.score == pytest.approx(threshold.score, abs=0.05)


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


def test_several_lists_of_voxceleb1_are_tested_at_once(
    normalised_run: Path,
    cohort_data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [example] = [
        each["code"].replace("\\\n", " ")
        for each in examples_of("evaluate.md")
        if "vox1-o-cleaned" in each["code"]
    ]
    words = shlex.split(example)[1:]
    assert words[1] == "runs/verification" and words[-1] == "trials.known_speakers=true"
    command = ["evaluate", str(normalised_run), *words[2:-2]]
    assert main(command) == 3
    said = capsys.readouterr().err
    assert "list_test_all2.txt has 7 of the speakers that" in said
    cohort = DownstreamModel.from_pretrained(normalised_run).cohort
    assert cohort is not None
    few = ", ".join(sorted(cohort.settings.speakers)[:3])
    assert f"was trained or calibrated on ({few} and 4 more): an error rate over" in said
    embedded: list[int] = []
    original = DownstreamModel.outputs_of_each

    def counted(model: DownstreamModel, utterances: Any, layer: Any) -> Any:
        for found in original(model, utterances, layer):
            embedded.extend(found[0])
            yield found

    evaluate_one, evaluated, alive = evaluate.evaluate_run, list[ReferenceType[Evaluation]](), []

    def watched(opened: OpenRun, known: KnownVoices) -> Evaluation:
        gc.collect()
        alive.append((sum(each() is not None for each in evaluated), set(known.rows.tolist())))
        evaluation = evaluate_one(opened, known)
        evaluated.append(ref(evaluation))
        return evaluation

    allowed = [*command, "--set", "trials.known_speakers=true"]
    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "evaluate_run", watched)
        patched.setattr(DownstreamModel, "outputs_of_each", counted)
        assert main([*allowed, "--json"]) == 0
    lists = json.loads(capsys.readouterr().out)["lists"]
    results = [each["results"][0] for each in lists]
    files = ["veri_test2.txt", "list_test_all2.txt", "list_test_hard2.txt"]
    assert [result["trials"] for result in results] == files
    # Every utterance of the three lists once.
    assert len(embedded) == len(set(embedded)) > 40
    # No list before is in memory, but for utterances that are still to come.
    dataset = Dataset(cohort_data)
    first, second, third = (set(read_trials(file, dataset).rows.tolist()) for file in files)
    kept = [set(), first & (second | third), (first | second) & third]
    assert alive == [(0, rows) for rows in kept]
    # Of the cohort's seven speakers all are in two of the lists, which their reports say.
    assert [result["speakers_in_cohort"] for result in results] == [0, 7, 7]
    reports = [(normalised_run / f"trials/{file[:-4]}/report.html").read_text() for file in files]
    said = ">speakers of the list in the cohort</td>"
    assert [said in report for report in reports] == [False, True, True]
    costs = results[0]["metric"]["further"].keys()
    assert {"actDCF 0.01", "actDCF 0.05", "Cllr", "min Cllr"} < costs
    # The same alone, and in the folder of each list.
    for result, file in zip(results, files, strict=True):
        stored = json.loads((normalised_run / "trials" / file[:-4] / "metrics.json").read_text())
        assert stored == result
    single = ["evaluate", str(normalised_run), *command[2:3], "trials.test=vox1-h-cleaned"]
    assert main([*single, "--set", "trials.known_speakers=true", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == [results[2]]
    assert main([*allowed, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["trials"] for row in rows] == files
    assert [float(row["value"]) for row in rows] == [r["metric"]["value"] for r in results]
    assert [float(row["Cllr"]) for row in rows] == [r["metric"]["further"]["Cllr"] for r in results]
    assert main(allowed) == 0
    assert "list_test_hard2.txt:\n\n" in capsys.readouterr().out


def test_a_speaker_of_the_cohort_is_not_compared_with_himself(
    normalised_run: Path, cohort_data: Path
) -> None:
    opened = open_run(RunFolder(normalised_run))
    measured = measure(
        on_list(opened, ["trials.test=vox1-e-cleaned", "trials.known_speakers=true"])
    )
    outcome, model, dataset = measured.outcome, measured.model, measured.dataset
    assert isinstance(outcome, Trials) and model.cohort is not None
    assert model.calibration is not None
    speakers = dataset.column("speaker")
    both = zip(outcome.left, outcome.right, outcome.scores, strict=True)
    known = set(model.cohort.settings.speakers)
    left, right, score = next(
        (left, right, score) for left, right, score in both if speakers[left] in known
    )
    embeddings = []
    for row in (left, right):
        features = torch.tensor(dataset.features(int(row), "logmel")).float().unsqueeze(0)
        with torch.no_grad():
            embeddings.append(model.embed(features, torch.tensor([features.shape[1]]))[0])
    seconds = measured.inputs.seconds()[[left, right]].tolist()
    for names, alike in (([speakers[left], speakers[right]], True), (None, False)):
        voices = model.scorer.voices(torch.stack(embeddings), seconds, names)
        sides = (voices.at(torch.tensor([place])) for place in (0, 1))
        assert (model.scorer.score(*sides).item() == pytest.approx(score, abs=0.05)) == alike


@pytest.mark.parametrize("number", range(3))
def test_a_probe_reads_few_utterances_of_a_long_list(number: int) -> None:
    generator = np.random.default_rng(number)
    left, right = generator.integers(0, 500, (2, 4000))
    scores = np.arange(4000.0)
    trials = Trials(left=left, right=right, same=left % 2 == 0, scores=scores, cosines=-scores)
    few = few_utterances(trials, 100)
    assert 98 <= len(few.rows) <= 100 and len(few.same) >= 49
    # They are some of the trials, in order.
    places = few.scores.astype(int)
    assert (np.diff(places) > 0).all() and (left[places] == few.left).all()
    assert few.cosines is not None and (few.cosines == -few.scores).all()
    assert few_utterances(trials, 500) is trials


def test_the_lists_of_voxceleb1_have_names(cohort_data: Path, tmp_path: Path) -> None:
    dataset = Dataset(cohort_data)
    for name, file in (
        ("vox1-o-cleaned", "veri_test2.txt"),
        ("VOX1-E-cleaned", "list_test_all2.txt"),
        ("vox1-o-original", "veri_test.txt"),
    ):
        assert choose_trials(name, dataset) == file
    with pytest.raises(
        ConfigError,
        match=r"trials\.test vox1-h could be several lists: name vox1-h-cleaned "
        r"\(list_test_hard2\.txt\) or vox1-h-original \(list_test_hard\.txt\)",
    ):
        choose_trials("vox1-h", dataset)
    with pytest.raises(
        InputError,
        match=r"no list of trials vox1-h-original: get list_test_hard\.txt from the VoxCeleb site",
    ):
        choose_trials("vox1-h-original", dataset)
