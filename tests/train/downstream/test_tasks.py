import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aalbert.cli import main
from aalbert.errors import ConfigError
from aalbert.models import DownstreamModel, HeadConfig, PretrainedModel
from aalbert.shards import Dataset
from aalbert.train.downstream.config import (
    BaselineConfig,
    DownstreamConfig,
    LabelConfig,
    SplitConfig,
)
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.run import start_downstream
from aalbert.train.downstream.tasks import TASKS
from aalbert.train.evaluation.evaluate import measure
from aalbert.train.evaluation.open_run import open_run
from aalbert.train.preset import preset_names
from aalbert.train.recipes import read_task_recipe
from aalbert.train.run_folder import RunFolder

# Batches are read in the process itself: starting another one takes longer than these runs.
QUICK = DownstreamConfig(epochs=1, learning_rate=1e-2, prefetch=0)
READERS = SplitConfig(
    train="train-clean-100", dev="drawn", test="drawn", drawn_proportion=0.5, draw="speakers"
)


@pytest.mark.parametrize(
    "head",
    [
        HeadConfig(projection=8),
        HeadConfig(projection=8, normalise_states=True, standardise=True),
        HeadConfig(pooling="statistics"),
        HeadConfig(trunk="recurrent", pooling="last"),
    ],
    ids=["averages", "averages of normalised states", "every frame", "recurrent"],
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
    measured = measure(open_run(RunFolder(tmp_path / "run")))
    outcome = measured.outcome
    assert isinstance(outcome, Decisions) and list(outcome.names) == ["3", "7"]
    frames = Dataset(librispeech_data).frames("logmel")
    assert outcome.scored.tolist() == frames[outcome.rows].tolist()
    majority = measured.baselines["most frequent class"]
    assert outcome.confusion.totals()[1] / frames[outcome.rows].sum() == pytest.approx(
        majority, 1e-5
    )
    assert outcome.value > majority + 0.15


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
    parts = measure(open_run(RunFolder(tmp_path / "whole"))).rows
    assert sum(map(len, parts.values())) == 18


def test_a_standardised_head_knows_mean_and_deviation_of_the_training_frames(
    voxceleb1_data: Path, pretrained: Path, tmp_path: Path
) -> None:
    head = HeadConfig(standardise=True)
    config = replace(QUICK, layers="weighted", head=head, learning_rate=1e-12)
    for name, settings in (
        ("plain", config),
        ("cached", replace(config, cache_embeddings=True, crop_seconds=0)),
        ("tuned", replace(config, mode="fine-tuned", epochs=2)),
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
    outcome = measure(open_run(RunFolder(tmp_path / "run"))).outcome
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
    measured = measure(open_run(RunFolder(tmp_path / "run")))
    assert measured.model.classes == ["F", "M"]
    assert main([*command, "--out", str(tmp_path / "other")]) == 2
    assert "labels.column is speaker, which cannot be predicted" in capsys.readouterr().err


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
        ({"task": "librispeech-phone"}, "phones are of frames: use none"),
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
        needed = {"classify": ["labels.column=gender"], "regress": ["labels.column=age"]}
        assert read_task_recipe(task, preset, assignments=needed.get(task, [])).task == task


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
