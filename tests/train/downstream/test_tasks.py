import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aalbert.cli import main
from aalbert.common.locking import hold
from aalbert.errors import ConfigError, InputError, OutputInUseError
from aalbert.models import DownstreamModel, HeadConfig, PretrainedModel
from aalbert.shards import Dataset
from aalbert.train.downstream.config import (
    BaselineConfig,
    DownstreamConfig,
    FineTuningConfig,
    LabelConfig,
    SplitConfig,
    TrialConfig,
)
from aalbert.train.downstream.run import start_downstream
from aalbert.train.downstream.scoring import Decisions, Trials
from aalbert.train.downstream.splits import read_list
from aalbert.train.downstream.tasks import TASKS
from aalbert.train.downstream.trials import read_trials
from aalbert.train.evaluation.evaluate import measure
from aalbert.train.recipes import preset_names, read_task_recipe
from aalbert.train.run_folder import RunFolder

# Batches are read in the process itself: starting another one takes longer than these runs.
QUICK = DownstreamConfig(epochs=1, learning_rate=1e-2, prefetch=0)
# Two of the three training utterances of each speaker, so that there are trials of one speaker.
SPEAKERS = SplitConfig(dev="drawn", drawn_proportion=0.6)
READERS = SplitConfig(
    train="train-clean-100", dev="drawn", test="drawn", drawn_proportion=0.5, draw="speakers"
)


@pytest.fixture(scope="module")
def trial_list(voxceleb1_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trials of the test split, which has two utterances of each of four speakers."""
    dataset = Dataset(voxceleb1_data)
    rows = dataset.rows(["test"])
    speakers = dataset.column("speaker")
    path = tmp_path_factory.mktemp("trials") / "veri_test.txt"
    lines = [
        f"{int(speakers[one] == speakers[other])} {dataset.key(one)} {dataset.key(other)}"
        for one in rows
        for other in rows
        if one < other
    ]
    path.write_text("\n".join(lines))
    return path


def weights_of(place: Path) -> dict[str, torch.Tensor]:
    return DownstreamModel.from_pretrained(place).upstream.state_dict()


def moved(place: Path, pretrained: Path) -> set[str]:
    """The parts of the encoder that are not as they were."""
    before = PretrainedModel.from_pretrained(pretrained).upstream.state_dict()
    after = weights_of(place)
    return {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}


def test_fine_tuning_changes_the_encoder_from_the_top_as_far_as_it_was_unfrozen(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    tuning = FineTuningConfig(encoder_learning_rate=1e-3, frozen_epochs=0)
    config = replace(QUICK, mode="fine-tuned", fine_tuning=tuning)
    start_downstream(config, voxceleb1_data, str(pretrained), tmp_path / "whole")
    assert {"layers", "projection", "input_norm"} <= moved(tmp_path / "whole", pretrained)
    gradual = replace(config, fine_tuning=replace(tuning, epochs_per_layer=1))
    start_downstream(gradual, voxceleb1_data, str(pretrained), tmp_path / "top")
    assert moved(tmp_path / "top", pretrained) == {"layers"}
    late = replace(config, fine_tuning=replace(tuning, frozen_epochs=1))
    start_downstream(late, voxceleb1_data, str(pretrained), tmp_path / "frozen")
    assert moved(tmp_path / "frozen", pretrained) == set()


def test_from_scratch_starts_with_other_weights_and_ends_with_others_again(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    frozen = replace(QUICK, untrained=True)
    start_downstream(frozen, voxceleb1_data, str(pretrained), tmp_path / "fresh")
    scratch = replace(QUICK, mode="from-scratch")
    start_downstream(scratch, voxceleb1_data, str(pretrained), tmp_path / "scratch")
    name = "encoder.projection.weight"
    start, end = weights_of(tmp_path / "fresh")[name], weights_of(tmp_path / "scratch")[name]
    original = PretrainedModel.from_pretrained(pretrained).upstream.state_dict()[name]
    assert not torch.equal(start, end) and not torch.equal(start, original)
    # A few steps from the fresh weights, far from the pretrained ones.
    assert (end - start).abs().mean() < 0.1 * (end - original).abs().mean()


def test_a_learning_rate_that_ruins_encoders_is_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from aalbert.train.downstream.module import warn_of_collapse

    warn_of_collapse(FineTuningConfig(encoder_learning_rate=1e-3))
    assert capsys.readouterr().err == ""
    warn_of_collapse(FineTuningConfig(encoder_learning_rate=0.1))
    assert "encoder_learning_rate is 0.1: an encoder trained at 0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "head",
    [HeadConfig(projection=8), HeadConfig(pooling="statistics")],
    ids=["averages", "every frame"],
)
def test_cached_hidden_states_train_the_same_head(
    head: HeadConfig, voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    plain = replace(QUICK, epochs=3, head=head, crop_seconds=0)
    runs = {"plain": plain, "cached": replace(plain, cache_embeddings=True)}
    for name, config in runs.items():
        start_downstream(config, voxceleb1_data, str(pretrained), tmp_path / name)
    losses = {
        name: [row.get("dev_loss", 0) for row in RunFolder(tmp_path / name).read_metrics()]
        for name in runs
    }
    assert losses["cached"] == pytest.approx(losses["plain"], rel=2e-3)
    steps = {
        name: [row for row in RunFolder(tmp_path / name).read_metrics() if "train_loss" in row]
        for name in runs
    }
    assert all(0 < row["padding_efficiency"] <= 1 for row in steps["plain"])
    assert steps["cached"] and all("padding_efficiency" not in row for row in steps["cached"])
    [states] = (tmp_path / "cached" / "states").iterdir()
    frames = np.load(states, mmap_mode="r").shape[0]
    dataset = Dataset(voxceleb1_data)
    rows = dataset.rows(["train", "dev"])
    stored = dataset.frames("logmel")[rows] // 3
    assert frames == (len(rows) if head.linear_up_to_pooling else stored.sum())


def test_verification_without_training_scores_the_trials_by_cosine(
    voxceleb1_data: Path, trial_list: Path, verification: DownstreamConfig, tmp_path: Path
) -> None:
    trials = replace(verification.trials, test=str(trial_list))
    config = replace(verification, trials=trials)
    start_downstream(config, voxceleb1_data, "logmel", tmp_path / "run")
    measured = measure(RunFolder(tmp_path / "run"))
    outcome = measured.outcome
    assert isinstance(outcome, Trials) and len(outcome.scores) == 28
    # The same from the stored features: normalised, averaged, centred, compared.
    dataset = Dataset(voxceleb1_data)
    train = measured.rows["train"]
    everything = np.concatenate([dataset.features(int(row), "logmel") for row in train])
    mean, std = everything.astype(np.float64).mean(0), everything.astype(np.float64).std(0)
    means = {
        row: ((dataset.features(row, "logmel").astype(np.float64) - mean) / std).mean(0)
        for row in [*train.tolist(), *dataset.rows(["test"]).tolist()]
    }
    centre = np.mean([means[row] for row in train], axis=0)
    for left, right, score in zip(outcome.left, outcome.right, outcome.scores, strict=True):
        one, other = means[int(left)] - centre, means[int(right)] - centre
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        assert score == pytest.approx(cosine, abs=1e-3)


def test_verification_learns_from_speakers_that_no_trial_has(
    voxceleb1_data: Path, trial_list: Path, pretrained: Path, tmp_path: Path
) -> None:
    head = HeadConfig(trunk="xvector", pooling="statistics", hidden=(16,), classifier="cosine")
    trials = TrialConfig(test=str(trial_list), dev_count=8)
    config = replace(
        QUICK, task="voxceleb1-verification", head=head, trials=trials, splits=SPEAKERS
    )
    with pytest.raises(InputError, match="every speaker of the split 'train' is in the trials"):
        start_downstream(config, voxceleb1_data, str(pretrained), tmp_path / "none-left")
    known = replace(config, trials=replace(trials, known_speakers=True))
    start_downstream(known, voxceleb1_data, str(pretrained), tmp_path / "run")
    measured = measure(RunFolder(tmp_path / "run"))
    assert isinstance(measured.outcome, Trials) and np.isfinite(measured.outcome.scores).all()
    tested = set(measured.rows["test"].tolist())
    assert not tested & set([*measured.rows["train"].tolist(), *measured.rows["dev"].tolist()])


def test_phones_are_classified_frame_by_frame_better_than_the_most_frequent_one(
    librispeech_data: Path, alignments: Path, tmp_path: Path
) -> None:
    config = replace(
        QUICK,
        task="librispeech-phone",
        head=HeadConfig(pooling="none"),
        splits=READERS,
        labels=LabelConfig(alignments=str(alignments)),
        crop_seconds=0,
        epochs=5,
        learning_rate=3e-2,
    )
    start_downstream(config, librispeech_data, "logmel", tmp_path / "run")
    measured = measure(RunFolder(tmp_path / "run"))
    outcome = measured.outcome
    assert isinstance(outcome, Decisions) and list(outcome.names) == ["3", "7"]
    frames = Dataset(librispeech_data).frames("logmel")
    assert outcome.scored.tolist() == frames[outcome.rows].tolist()
    assert measured.majority is not None
    assert outcome.confusion.totals()[1] / frames[outcome.rows].sum() == measured.majority
    assert outcome.accuracy > measured.majority + 0.15


def test_utterances_without_alignment_are_left_out_and_small_data_gets_small_batches(
    librispeech_data: Path, alignments: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = tmp_path / "some.txt"
    some.write_text("\n".join(alignments.read_text().splitlines()[:18]))
    config = replace(
        QUICK,
        task="librispeech-phone",
        head=HeadConfig(pooling="none"),
        splits=replace(READERS, draw="utterances", drawn_proportion=0.2),
        labels=LabelConfig(alignments=str(some)),
        crop_seconds=0,
        epochs=2,
    )
    runs = {
        "whole": replace(config, batch_seconds=400),
        "small": replace(config, batch_seconds=400, least_epoch_steps=5),
        "given": replace(config, batch_seconds=2, least_epoch_steps=5),
    }
    steps = {}
    for name, settings in runs.items():
        start_downstream(settings, librispeech_data, "logmel", tmp_path / name)
        printed = capsys.readouterr().err
        assert "left out 6 of 24 utterances that have no alignment" in printed
        steps[name] = RunFolder(tmp_path / name).read_metrics()[-1]["step"]
        assert f"librispeech-phone: {steps[name]} steps in 2 epochs, batches of up to" in printed
    # Of one batch an epoch; of at least five; of utterances one by one, whatever five would need.
    assert steps["whole"] == 2 and 10 <= steps["small"] < steps["given"]
    parts = measure(RunFolder(tmp_path / "whole")).rows
    assert sum(map(len, parts.values())) == 18


def test_a_standardised_head_knows_mean_and_deviation_of_the_training_frames(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    head = HeadConfig(standardise=True)
    config = replace(QUICK, layers="weighted", head=head, learning_rate=1e-12)
    for name, settings in (
        ("plain", config),
        ("cached", replace(config, cache_embeddings=True, crop_seconds=0)),
        ("tuned", replace(config, mode="fine-tuned")),
    ):
        start_downstream(settings, voxceleb1_data, str(pretrained), tmp_path / name)
        saved = DownstreamModel.from_pretrained(tmp_path / name)
        # The statistics are those of the start, which a fine-tuned encoder has left.
        upstream = PretrainedModel.from_pretrained(pretrained).upstream.eval()
        dataset = Dataset(voxceleb1_data)
        frames: list[list[torch.Tensor]] = [[] for _ in saved.head.chosen]
        for row in dataset.rows(["train"]):
            features = torch.from_numpy(dataset.features(row, "logmel").astype(np.float32))
            with torch.no_grad():
                states, _ = upstream(features.unsqueeze(0), torch.tensor([len(features)]))
            for collected, state in zip(frames, states, strict=True):
                collected.append(state[0])
        for number, collected in enumerate(frames):
            everything = torch.cat(collected).double()
            mean, deviation = everything.mean(0), everything.std(0, correction=0)
            assert torch.allclose(saved.head.mean[number].double(), mean, atol=1e-4)
            assert torch.allclose(saved.head.deviation[number].double(), deviation, rtol=1e-3)
            scaled = saved.head.standardise([everything] * len(frames))[number]
            assert scaled.mean(0).abs().max() < 1e-3
            assert scaled.std(0, correction=0).mean().item() == pytest.approx(1, abs=1e-3)


def test_the_speaker_of_every_frame(voxceleb1_data: Path, tmp_path: Path) -> None:
    config = replace(QUICK, task="librispeech-speaker", head=HeadConfig(pooling="none"))
    start_downstream(config, voxceleb1_data, "logmel", tmp_path / "run")
    outcome = measure(RunFolder(tmp_path / "run")).outcome
    assert isinstance(outcome, Decisions) and outcome.true is None and len(outcome.names) == 4
    frames = Dataset(voxceleb1_data).frames("logmel")
    assert outcome.scored.tolist() == frames[outcome.rows].tolist()


def test_any_column_can_be_classified(
    librispeech_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["downstream", "classify", "--data", str(librispeech_data), "--upstream", "logmel"]
    options = ["--set=epochs=2", "--set=prefetch=0", "--set=splits.drawn_proportion=0.25"]
    out = str(tmp_path / "run")
    assert main([*command, *options, "--set=labels.column=gender", "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dev_accuracy"] >= 0
    measured = measure(RunFolder(tmp_path / "run"))
    assert measured.model.classes == ["F", "M"]
    assert main([*command, "--out", str(tmp_path / "other")]) == 2
    assert "labels.column is speaker, which cannot be predicted" in capsys.readouterr().err


def test_a_sweep_reports_every_point_the_best_first_and_continues(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "voxceleb1", "--data", str(voxceleb1_data), "--upstream", str(pretrained)]
    grid = [
        "--set=lr=1e-6,1e-1",
        "--set=epochs=2",
        "--set=prefetch=0",
        "--cache-embeddings",
        "--preset=superb",
    ]
    out = tmp_path / "sweep"
    assert main([*command, *grid, "--out", str(out), "--json"]) == 0
    points = json.loads(capsys.readouterr().out)
    swept = [point["settings"][0] for point in points]
    assert sorted(swept) == ["learning_rate=1e-1", "learning_rate=1e-6"]
    qualities = [(point["best"]["dev_accuracy"], -point["best"]["dev_loss"]) for point in points]
    assert qualities == sorted(qualities, reverse=True)
    assert points == json.loads((out / "sweep.json").read_text())["points"]
    assert len(list((out / "states").iterdir())) == 1
    with hold(out / "states" / "lock"):
        assert main([*command, *grid, "--out", str(out)]) == OutputInUseError.exit_code
    assert f"{out} is being written by process {os.getpid()}" in capsys.readouterr().err
    assert main([*command, *grid, "--out", str(out), "--json"]) == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == points and "step" not in again.err
    assert main([*command, *grid, "--seed=1", "--out", str(out)]) == 2
    assert (
        "holds a run with another set of settings: choose another --out" in capsys.readouterr().err
    )
    same = ["--set=lr=1e-1,0.1", "--set=epochs=2", "--out", str(tmp_path / "x")]
    assert main([*command, *same]) == 2
    assert "learning_rate=1e-1 epochs=2 and learning_rate=0.1 epochs=2 are the same settings: " in (
        capsys.readouterr().err
    )
    assert main([*command, "--set=epochs=2", "--out", str(tmp_path / "x")]) == 2
    assert "a sweep needs a setting with several values" in capsys.readouterr().err


def test_a_context_of_plain_features_needs_a_middle_frame() -> None:
    with pytest.raises(ConfigError, match=r"baseline\.context 4 must be odd: a frame, and as many"):
        BaselineConfig(context=4)
    with pytest.raises(ConfigError, match=r"baseline\.frames_stacked 0 must be above 0"):
        BaselineConfig(frames_stacked=0)


def test_settings_that_are_meaningless_or_can_only_give_chance_are_refused(
    voxceleb1_data: Path, tmp_path: Path
) -> None:
    cmvn = BaselineConfig(normalisation="utterance")
    for head, refused in (
        (HeadConfig(), True),
        (HeadConfig(projection=8), True),
        (HeadConfig(pooling="statistics"), True),
        (HeadConfig(pooling="attentive"), False),
    ):
        config = replace(QUICK, head=head, baseline=cmvn)
        out = tmp_path / str(hash(head))
        if refused:
            with pytest.raises(ConfigError, match="chance is all it can give: use --set baseline"):
                start_downstream(config, voxceleb1_data, "logmel", out)
        else:
            start_downstream(config, voxceleb1_data, "logmel", out)
    with pytest.raises(ConfigError, match="--mode fine-tuned needs an encoder, and --upstream log"):
        start_downstream(DownstreamConfig(mode="fine-tuned"), voxceleb1_data, "logmel", tmp_path)
    for settings, message in (
        ({"mode": "fine-tuned", "untrained": True}, "use --mode from-scratch"),
        ({"mode": "fine-tuned", "cache_embeddings": True}, "cache_embeddings needs a frozen"),
        ({"task": "librispeech-phone"}, "phones are labels of frames: use none"),
        ({"head": HeadConfig(classifier="none")}, "there is no mix to learn: use --layers mean"),
    ):
        with pytest.raises(ConfigError, match=message):
            DownstreamConfig(**settings)


def test_deltas_of_plain_features_widen_them(voxceleb1_data: Path, tmp_path: Path) -> None:
    config = replace(QUICK, baseline=BaselineConfig(deltas=2))
    model = start_downstream(config, voxceleb1_data, "logmel", tmp_path / "run")
    assert model.upstream.width == 60


@pytest.mark.parametrize("task", TASKS)
def test_every_preset_is_valid(task: str) -> None:
    assert TASKS[task].preset in preset_names(task)
    for preset in preset_names(task):
        column = ["labels.column=gender"] if task == "classify" else []
        assert read_task_recipe(task, preset, assignments=column).task == task


def test_figures_are_of_the_same_test_data_only_where_that_has_the_official_size() -> None:
    speakers, verification = (
        TASKS[name].benchmark for name in ("voxceleb1", "voxceleb1-verification")
    )
    assert speakers is not None and verification is not None
    whole = {"utterances": 8_251, "classes": 1_251}
    assert speakers.comparability(whole).startswith("Published figures, on the same test data")
    for counts in ({"utterances": 8_251, "classes": 40}, {"utterances": 120, "classes": 1_251}):
        assert "on other data (VoxCeleb1 with 1,251 speakers)" in speakers.comparability(counts)
    trials = {"utterances": 4_708, "trials": 37_720, "same_speaker": 18_860}
    assert verification.is_official(trials) and not verification.is_official(whole)
    # Of LibriSpeech's speakers no official test data is known.
    readers = TASKS["librispeech-speaker"].benchmark
    assert readers is not None and not readers.is_official({}) and not readers.is_official(whole)


def test_lists_from_any_editor_are_read_alike(
    voxceleb1_data: Path, trial_list: Path, tmp_path: Path
) -> None:
    dataset, other = Dataset(voxceleb1_data), tmp_path / "list.txt"
    expected = read_trials(str(trial_list), dataset)
    other.write_text(trial_list.read_text() + "\n", "utf-8-sig", newline="\r\n")
    found = read_trials(str(other), dataset)
    assert found.left.tolist() == expected.left.tolist()
    assert found.same.tolist() == expected.same.tolist()
    rows = np.arange(len(dataset))
    other.write_text(f"{dataset.key(3)}\n{dataset.key(5)}\n", "utf-16", newline="\r\n")
    assert read_list(str(other), dataset, rows).tolist() == [3, 5]


def test_a_point_that_diverges_does_not_end_a_sweep(
    voxceleb1_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "voxceleb1", "--data", str(voxceleb1_data), "--upstream", "logmel"]
    grid = ["--set=lr=1e37,1e-2", "--set=epochs=3", "--set=prefetch=0", "--set=gradient_clip=0"]
    for _ in range(2):
        assert main([*command, *grid, "--out", str(tmp_path / "sweep"), "--json"]) == 0
        good, bad = json.loads(capsys.readouterr().out)
        assert good["settings"][0] == "learning_rate=1e-2" and good["best"]["dev_accuracy"] >= 0
        assert bad["settings"][0] == "learning_rate=1e37" and bad["best"] is None
        # The name of a setting that this task has.
        assert bad["diverged"].endswith("start again with a lower learning_rate")
    assert main([*command, *grid, "--out", str(tmp_path / "sweep")]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [*bad["settings"], "diverged"]
