"""Scores that are normalised by a cohort and calibrated, from the settings to the saved model."""

import math
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from operator import mul
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
import pytest
import torch

from aalbert.cli import main
from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.models import DownstreamModel
from aalbert.models.head_config import HeadConfig
from aalbert.pipeline.embeddings.load import from_pretrained
from aalbert.pipeline.onnx_export import task_facts
from aalbert.shards import Dataset
from aalbert.train.downstream.config import (
    DownstreamConfig,
    FineTuningConfig,
    SplitConfig,
    TrialConfig,
)
from aalbert.train.downstream.error_rates import equal_error_threshold
from aalbert.train.downstream.run import start_downstream
from aalbert.train.downstream.scoring import (
    Trials,
    gather,
    outputs_of_each,
    whole_utterances,
)
from aalbert.train.downstream.trial_scores import make_cohort
from aalbert.train.downstream.trials import draw_trials
from aalbert.train.evaluation.evaluate import evaluate_runs, measure
from aalbert.train.evaluation.further_trials import on_list
from aalbert.train.evaluation.open_run import open_run
from aalbert.train.pretraining.config import PretrainConfig
from aalbert.train.run_folder import RunFolder
from tests.examples import examples_of

WITHOUT_TRAINING = SplitConfig(train="nowhere", dev="neither")


def trials_of(run: Path) -> Trials:
    outcome = measure(open_run(RunFolder(run))).outcome
    assert isinstance(outcome, Trials)
    return outcome


def test_the_cohort_has_the_speakers_of_the_training_part_without_those_of_the_trials(
    normalised_run: Path, cohort_data: Path
) -> None:
    dataset, model = Dataset(cohort_data), DownstreamModel.from_pretrained(normalised_run)
    measured = measure(open_run(RunFolder(normalised_run)))
    speakers = np.array(dataset.column("speaker"))
    tested = set(speakers[measured.rows["test"]])
    assert model.cohort is not None and len(tested) == 2
    names = model.cohort.settings.speakers
    assert set(names) == set(speakers[measured.rows["train"]]) and not tested & set(names)
    assert (model.cohort.settings.members, model.cohort.settings.top) == (7, 7)
    # By hand: the mean over the embeddings of every speaker, each of length 1.
    for number, name in enumerate(names):
        rows = [row for row in measured.rows["train"] if speakers[row] == name]
        features = [torch.tensor(dataset.features(int(row), "logmel")) for row in rows]
        with torch.no_grad():
            embeddings = [
                model.embed(each.float().unsqueeze(0), torch.tensor([len(each)]))[0]
                for each in features
            ]
        expected = torch.nn.functional.normalize(torch.stack(embeddings), dim=1).mean(dim=0)
        torch.testing.assert_close(model.cohort.embeddings[number], expected, atol=1e-4, rtol=1e-3)


def test_speakers_of_trials_stay_out_of_the_cohort_though_they_are_trained_on(
    cohort_data: Path,
) -> None:
    dataset = Dataset(cohort_data)
    rows = np.arange(len(dataset))[::-1]
    embeddings = torch.randn(len(rows), 4, generator=torch.Generator().manual_seed(0))
    speakers = np.array(dataset.column("speaker"))
    tested = rows[[0, 20]]
    unwanted = set(speakers[tested])
    for kind in ("speakers", "utterances"):
        trials = TrialConfig(
            normalisation="as-norm", cohort=kind, cohort_top=3, known_speakers=True
        )
        cohort = make_cohort(trials, dataset, rows, embeddings, tested, 0)
        assert cohort is not None and not unwanted & set(cohort.settings.speakers)
        kept = [place for place, row in enumerate(rows) if speakers[row] not in unwanted]
        assert cohort.settings.members == (7 if kind == "speakers" else len(kept))
        # Every member is of its speaker.
        for member, owner in zip(cohort.embeddings, cohort.speaker_of.tolist(), strict=True):
            own = [
                place for place in kept if speakers[rows[place]] == cohort.settings.speakers[owner]
            ]
            candidates = embeddings[own]
            if kind == "speakers":
                candidates = torch.nn.functional.normalize(candidates, dim=1).mean(0, keepdim=True)
            assert (candidates - member).abs().sum(dim=1).min() < 1e-5


def test_a_large_cohort_is_drawn_and_a_small_one_is_said_or_refused(
    cohort_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = Dataset(cohort_data)
    rows = np.arange(len(dataset))
    embeddings = torch.randn(len(rows), 4, generator=torch.Generator().manual_seed(0))
    trials = TrialConfig(normalisation="as-norm", cohort="utterances", cohort_size=20, cohort_top=9)
    one, same, other = (
        make_cohort(trials, dataset, rows, embeddings, rows[:1], seed) for seed in (0, 0, 1)
    )
    assert one is not None and same is not None and other is not None
    assert one.settings.members == 20 and one.settings.top == 9
    assert torch.equal(one.embeddings, same.embeddings)
    assert not torch.equal(one.embeddings, other.embeddings)
    assert capsys.readouterr().err == ""
    few = replace(trials, cohort_top=300)
    cohort = make_cohort(few, dataset, rows, embeddings, rows[:1], 0)
    assert cohort is not None and cohort.settings.top == 20
    assert "the cohort has 20 members, all of which as-norm takes: trials.cohort_top is 300" in (
        capsys.readouterr().err
    )
    # Only the speakers of members that were drawn are in the cohort.
    for kind in ("speakers", "utterances"):
        drawn = make_cohort(
            replace(trials, cohort=kind, cohort_size=4), dataset, rows, embeddings, rows[:1], 0
        )
        assert drawn is not None
        owners = drawn.speaker_of.tolist()
        assert set(owners) == set(range(len(drawn.settings.speakers))) and len(owners) == 4
        drawn.require_sound()
    with pytest.raises(
        InputError,
        match="has 2 members, of 2 speakers, and needs 3 speakers: use a trials.cohort_s",
    ):
        make_cohort(
            replace(trials, cohort="speakers", cohort_size=2),
            dataset,
            rows,
            embeddings,
            rows[:1],
            0,
        )
    speakers = np.array(dataset.column("speaker"))
    everyone = rows[speakers > sorted(set(speakers))[1]]
    with pytest.raises(InputError, match=r"has 2 speakers that are in no trial, .* needs 3 for"):
        make_cohort(trials, dataset, rows, embeddings, everyone, 0)


def test_calibrated_scores_order_trials_by_score_and_quality(
    normalised_run: Path, cohort_data: Path
) -> None:
    outcome = trials_of(normalised_run)
    model, dataset = DownstreamModel.from_pretrained(normalised_run), Dataset(cohort_data)
    calibration, cohort = model.calibration, model.cohort
    assert calibration is not None and cohort is not None and outcome.calibrated
    assert outcome.cosines is not None
    assert calibration.trials == 27 and calibration.target_prior == 0.05
    # By hand, from the embeddings: the cosine, its standard scores, the weighted measures.
    frames = dataset.frames("logmel")
    members = torch.nn.functional.normalize(cohort.embeddings.double(), dim=1)
    entries = (outcome.left, outcome.right, outcome.cosines, outcome.scores)
    for left, right, cosine, score in zip(*entries, strict=True):
        sides = []
        for row in (int(left), int(right)):
            features = torch.tensor(dataset.features(row, "logmel")).float().unsqueeze(0)
            with torch.no_grad():
                embedding = model.embed(features, torch.tensor([features.shape[1]]))[0].double()
            against = members @ (embedding / embedding.norm())
            seconds = float(frames[row]) * 0.01
            sides.append((embedding, against.mean(), against.std(correction=0), seconds))
        raw = float(sides[0][0] @ sides[1][0] / sides[0][0].norm() / sides[1][0].norm())
        assert cosine == pytest.approx(raw, abs=1e-5)
        normed = np.mean([(raw - float(mean)) / float(std) for _, mean, std, _ in sides])
        log_seconds = sorted(np.log(seconds) for *_, seconds in sides)
        magnitudes = sorted(float(embedding.norm()) for embedding, *_ in sides)
        means = sorted(float(mean) for _, mean, *_ in sides)
        values = [normed, *log_seconds, *magnitudes, *means]
        expected = calibration.offset + np.dot(list(calibration.weights.values()), values)
        assert list(calibration.weights) == [
            *("score", "lower log seconds", "higher log seconds", "lower magnitude"),
            *("higher magnitude", "lower cohort mean", "higher cohort mean"),
        ]
        assert score == pytest.approx(expected, abs=2e-2, rel=1e-3)


def test_as_norm_takes_the_closest_members_of_other_speakers(
    normalised: DownstreamConfig, cohort_data: Path, tmp_path: Path
) -> None:
    trials = replace(normalised.trials, cohort="utterances", cohort_top=4, calibration="none")
    start_downstream(replace(normalised, trials=trials), cohort_data, "logmel", tmp_path / "run")
    opened = open_run(RunFolder(tmp_path / "run"))
    list_of_all = ["trials.test=vox1-e-cleaned", "trials.known_speakers=true"]
    measured = measure(on_list(opened, list_of_all))
    outcome, model, dataset = measured.outcome, measured.model, measured.dataset
    assert isinstance(outcome, Trials) and model.cohort is not None
    settings = model.cohort.settings
    assert settings.top == 4 < settings.members == len(opened.setup.splits.train)
    loader = whole_utterances(measured.inputs, outcome.rows, 10, 0)
    rows, found = gather(outputs_of_each(model, loader, model.head.embed), dataset.key)
    embeddings = dict(zip(rows.tolist(), found.tolist(), strict=True))
    speakers, names = dataset.column("speaker"), settings.speakers
    owners = [names[owner] for owner in model.cohort.speaker_of]
    members = list(zip(owners, model.cohort.embeddings.tolist(), strict=True))
    assert set(names) < {speakers[row] for row in rows}
    # By brute force, in Python's numbers: every trial by itself, from the embeddings on.
    entries = zip(outcome.left, outcome.right, outcome.scores, strict=True)
    for left, right, score in entries:
        raw = cosine(embeddings[left], embeddings[right])
        sides = []
        for row in (left, right):
            against = [
                cosine(embeddings[row], member)
                for owner, member in members
                if owner != speakers[row]
            ]
            closest = sorted(against)[-4:]
            sides.append((raw - fmean(closest)) / pstdev(closest))
        assert score == pytest.approx(fmean(sides), rel=1e-6, abs=1e-6)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(map(mul, one, other)) / math.hypot(*one) / math.hypot(*other)


def test_the_same_run_again_has_the_same_scores_in_every_bit(
    normalised_run: Path, normalised: DownstreamConfig, cohort_data: Path, pretrained: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    start_downstream(normalised, cohort_data, str(pretrained), tmp_path / "again")
    assert (
        trials_of(tmp_path / "again").scores.tolist() == trials_of(normalised_run).scores.tolist()
    )


def test_a_trained_head_is_normalised_and_calibrated_too(
    normalised: DownstreamConfig, cohort_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    head = HeadConfig(trunk="xvector", pooling="statistics", hidden=(16,), classifier="cosine")
    config = replace(normalised, head=head, epochs=1, layers="last")
    start_downstream(config, cohort_data, str(pretrained), tmp_path / "run")
    model = DownstreamModel.from_pretrained(tmp_path / "run")
    assert model.cohort is not None and model.calibration is not None
    outcome = trials_of(tmp_path / "run")
    assert np.isfinite(outcome.scores).all() and outcome.calibrated
    # The dev part is drawn from the utterances of the speakers that were trained on.
    assert (model.calibration.speakers, model.calibration.trained_speakers) == (7, 7)
    card = (tmp_path / "run/export/README.md").read_text()
    assert "of 7 speakers: the head was trained on all of them, whom it separates" in card


def test_scores_of_a_fine_tuned_model_are_made_without_dropout(
    normalised: DownstreamConfig,
    cohort_data: Path,
    pretrain_config: PretrainConfig,
    pretrained: Path,
    tmp_path: Path,
) -> None:
    config = replace(
        normalised,
        mode="fine-tuned",
        epochs=1,
        layers="last",
        head=HeadConfig(pooling="statistics", hidden=(16,), classifier="cosine"),
        fine_tuning=FineTuningConfig(frozen_epochs=0),
    )
    start_downstream(config, cohort_data, str(pretrained), tmp_path / "run")
    model, dataset = DownstreamModel.from_pretrained(tmp_path / "run"), Dataset(cohort_data)
    assert pretrain_config.encoder.dropout > 0
    rows = measure(open_run(RunFolder(tmp_path / "run"))).rows
    # By hand, by the model as it was exported: the cohort, and the threshold on dev trials.
    every = np.union1d(rows["train"], rows["dev"])
    features = [torch.tensor(dataset.features(int(row), "logmel")).float() for row in every]
    with torch.no_grad():
        embeddings = torch.cat(
            [model.embed(each.unsqueeze(0), torch.tensor([len(each)])) for each in features]
        )
    train = np.searchsorted(every, rows["train"])
    cohort = make_cohort(
        config.trials, dataset, rows["train"], embeddings[train], rows["test"], config.seed
    )
    assert cohort is not None and model.cohort is not None and model.threshold is not None
    torch.testing.assert_close(model.cohort.embeddings, cohort.embeddings, atol=1e-3, rtol=1e-2)
    speakers = dataset.column("speaker")
    seconds = [len(each) * 0.01 for each in features]
    voices = model.scorer.voices(embeddings, seconds, [speakers[row] for row in every])
    pairs = draw_trials(dataset, rows["dev"], config.trials.dev_count, config.seed)
    places = (torch.from_numpy(np.searchsorted(every, side)) for side in (pairs.left, pairs.right))
    scores = model.scorer.score(*(voices.at(side) for side in places)).numpy()
    threshold = equal_error_threshold(scores, pairs.same)
    assert model.threshold.misses == threshold.misses
    assert model.threshold.score == pytest.approx(threshold.score, abs=0.1)


def test_cosines_need_neither_a_training_nor_a_dev_part(
    cohort_data: Path,
    verification: DownstreamConfig,
    pretrained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trials = TrialConfig(test="veri_test.txt", centred=False)
    config = replace(verification, splits=WITHOUT_TRAINING, trials=trials)
    start_downstream(config, cohort_data, str(pretrained), tmp_path / "run")
    said = capsys.readouterr().err
    assert "no threshold is chosen, and nothing measured on dev: " in said
    model = DownstreamModel.from_pretrained(tmp_path / "run")
    assert model.threshold is None and not model.head.centre.any()
    outcome = trials_of(tmp_path / "run")
    assert outcome.cosines is None and not outcome.calibrated
    # Nor does a list of any speakers need leave: none of them was learned from.
    lists = ["trials.test=vox1-e-cleaned"]
    assert len(evaluate_runs([tmp_path / "run"], assignments=lists)) == 1
    parts = replace(config, splits=verification.splits)
    start_downstream(parts, cohort_data, str(pretrained), tmp_path / "parts")
    assert len(evaluate_runs([tmp_path / "parts"], assignments=lists)) == 1
    for normalisation in ("none", "global"):
        plain = replace(config, baseline=replace(config.baseline, normalisation=normalisation))
        if normalisation == "none":
            start_downstream(plain, cohort_data, "logmel", tmp_path / "logmel")
            continue
        with pytest.raises(InputError, match=r"empty: use --set baseline\.normalisation=none"):
            start_downstream(plain, cohort_data, "logmel", tmp_path / "global")


def test_what_needs_a_part_that_is_not_there_is_refused(
    cohort_data: Path, normalised: DownstreamConfig, pretrained: Path, tmp_path: Path
) -> None:
    centred = replace(normalised, splits=WITHOUT_TRAINING, trials=TrialConfig(test="veri_test.txt"))
    with pytest.raises(
        ConfigError,
        match=r"no split 'nowhere': it has .*; name another with --set splits\.train=SPLIT, or "
        r"subtract no mean with --set trials\.centred=false",
    ):
        start_downstream(centred, cohort_data, str(pretrained), tmp_path / "run")
    without = replace(normalised, splits=SplitConfig(dev="nowhere"))
    with pytest.raises(ConfigError, match=r"another with --set splits\.dev=SPLIT$"):
        start_downstream(without, cohort_data, str(pretrained), tmp_path / "run")
    # Every speaker has one utterance there, so no trial is of one speaker.
    few = replace(normalised, splits=SplitConfig(dev="dev"))
    with pytest.raises(
        InputError,
        match=r"the dev part has 0 trials of one speaker and 20 of two: both are needed for "
        r"trials\.calibration quality: name another part with --set splits\.dev=SPLIT, or leave",
    ):
        start_downstream(few, cohort_data, str(pretrained), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_example_runs_and_the_card_says_how_scores_are_made(
    cohort_data: Path,
    normalised_run: Path,
    pretrained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [code] = [
        each["code"]
        for each in examples_of("downstream.md")
        if each["language"] == "sh" and "cosine-normalised" in each["code"]
    ]
    monkeypatch.chdir(tmp_path)
    for name, place in (("data/voxceleb1", cohort_data), ("runs/pretrain", pretrained)):
        Path(name).parent.mkdir()
        Path(name).symlink_to(place)
    drawn = (
        "--set splits.dev=drawn --set splits.drawn_proportion=0.6 --set trials.test=veri_test2.txt"
    )
    assert main(shlex.split(code.replace("\\\n", " ") + drawn)[1:]) == 0
    model = DownstreamModel.from_pretrained("runs/verification")
    assert model.scorer.describe() == "log-likelihood ratio after as-norm"
    card = (normalised_run / "export/README.md").read_text()
    assert "normalised (as-norm) by the 7 closest of a cohort of\n7, of 7 speakers" in card
    assert "fitted on 27 trials\nof the dev part as if 5.0 % of trials were of one speaker" in card
    # Nothing was trained on them.
    assert "The trials are of 7 speakers.\n" in card
    # What only gives embeddings names no threshold of other scores.
    facts = task_facts(from_pretrained(normalised_run))
    assert facts == {"classes": [], "comparison": "log-likelihood ratio after as-norm"}


def test_damaged_models_that_compare_are_refused_when_they_are_opened(
    normalised_run: Path, tmp_path: Path
) -> None:
    model = DownstreamModel.from_pretrained(normalised_run)
    calibration = model.calibration
    assert model.cohort is not None
    model.cohort.embeddings[0, 0] = torch.nan
    model.save_pretrained(tmp_path / "nan")
    with pytest.raises(IntegrityError, match="embeddings of the cohort are not finite"):
        DownstreamModel.from_pretrained(tmp_path / "nan")
    model.cohort = None
    model.save_pretrained(tmp_path / "none")
    with pytest.raises(IntegrityError, match="weighs scores against a cohort, and there is none"):
        DownstreamModel.from_pretrained(tmp_path / "none")
    # By nothing but the file, since no model has such a calibration.
    assert calibration is not None
    for value, message in (
        ("NaN", r"config\.json is damaged \(NaN is no JSON\); copy the checkpoint again"),
        ("1e999", r"config\.json is damaged \(1e999 is too large\); copy the checkpoint again"),
    ):
        shutil.copytree(normalised_run / "export", tmp_path / value)
        config = tmp_path / value / "config.json"
        config.write_text(config.read_text().replace(str(calibration.weights["score"]), value))
        with pytest.raises(IntegrityError, match=message):
            DownstreamModel.from_pretrained(tmp_path / value)


def test_settings_of_scores_are_for_verification_and_sensible() -> None:
    trials = TrialConfig(normalisation="as-norm")
    with pytest.raises(ConfigError, match="trials and head.classifier none are for"):
        DownstreamConfig(task="voxceleb1", trials=trials)
    with pytest.raises(ConfigError, match=r"trials\.centred is for head\.classifier none"):
        DownstreamConfig(task="voxceleb1-verification", trials=TrialConfig(centred=False))
    with pytest.raises(ConfigError, match=r"trials\.cohort_top 1 must be at least 2"):
        TrialConfig(cohort_top=1)
    with pytest.raises(ConfigError, match=r"trials\.target_prior 1\.0 must be between 0 and 1"):
        TrialConfig(target_prior=1.0)
