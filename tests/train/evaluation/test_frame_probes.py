from pathlib import Path

import numpy as np
import pytest
import torch

from aalbert.models import PretrainedModel
from aalbert.shards import Dataset
from aalbert.train.downstream.config import BaselineConfig, LabelConfig
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.phones import find_phones
from aalbert.train.downstream.splits import SplitRows
from aalbert.train.downstream.upstream import feature_baseline
from aalbert.train.evaluation import frame_probes
from aalbert.train.evaluation.frame_classifiers import LabelledFrames, fit_linear
from aalbert.train.evaluation.frame_probes import draw_utterances, probe_frames

SPLITS = SplitRows(np.arange(0, 12), np.arange(12, 16), np.arange(16, 24))


def frames_of(dataset: Dataset, alignments: Path, rows: np.ndarray) -> LabelledFrames:
    """Stored frames and their labels, read without a loader or an upstream."""
    phones = dict(line.split(maxsplit=1) for line in alignments.read_text().splitlines())
    states, classes = [], []
    for row in rows.tolist():
        frames = dataset.features(row, "logmel").astype(np.float32)
        names = phones[dataset.key(row)].split()
        # A frame at 10 t ms takes label t, and the last one that of the last label.
        names += names[-1:] * (len(frames) - len(names))
        states.append(frames)
        classes += [int(name == "7") for name in names[: len(frames)]]
    return LabelledFrames(torch.from_numpy(np.concatenate(states)), torch.tensor(classes))


def test_a_probe_of_plain_features_is_a_classifier_of_stored_frames(
    librispeech_data: Path, alignments: Path
) -> None:
    dataset = Dataset(librispeech_data)
    upstream = feature_baseline("logmel", dataset, SPLITS.train, BaselineConfig()).eval()
    inputs = Inputs(dataset, upstream.config)
    labels = find_phones(inputs, LabelConfig(alignments=str(alignments)), np.arange(24))
    (probe,) = probe_frames(upstream, inputs, labels, SPLITS).layers()
    train, dev, test = (
        frames_of(dataset, alignments, rows) for rows in (SPLITS.train, SPLITS.dev, SPLITS.test)
    )
    classifier, penalty = fit_linear(train, dev, 2)
    assert probe.fitted_on == len(train.classes)
    assert probe.value == pytest.approx(classifier.accuracy(test), abs=0.005)
    assert probe.value > float(test.classes.double().mean()) + 0.2
    assert probe.interval_95 is not None
    assert probe.interval_95[0] < probe.value < probe.interval_95[1]


def test_every_state_of_an_encoder_is_probed_and_the_result_is_always_the_same(
    librispeech_data: Path, alignments: Path, pretrained: Path
) -> None:
    dataset = Dataset(librispeech_data)
    upstream = PretrainedModel.from_pretrained(pretrained).upstream
    inputs = Inputs(dataset, upstream.config)
    labels = find_phones(inputs, LabelConfig(alignments=str(alignments)), np.arange(24))
    probes = probe_frames(upstream, inputs, labels, SPLITS).layers()
    assert [probe.state for probe in probes] == list(range(upstream.states))
    assert len({probe.value for probe in probes}) > 1
    stacked = upstream.config.front_end.frames_stacked
    stored = dataset.frames("logmel")[SPLITS.train]
    assert probes[0].fitted_on == int((stored // stacked).sum())
    torch.manual_seed(7)
    assert probe_frames(upstream, inputs, labels, SPLITS).layers() == probes
    last_and_first = probe_frames(upstream, inputs, labels, SPLITS, states=(upstream.states - 1, 0))
    assert last_and_first.layers() == (probes[-1], probes[0])
    assert last_and_first.correct.shape == (2, len(SPLITS.test))
    tested = dataset.frames("logmel")[SPLITS.test] // stacked
    assert (last_and_first.scored == tested).all()
    hidden = probe_frames(upstream, inputs, labels, SPLITS, hidden=16, seed=1).layers()
    assert all(probe.penalty is None and probe.value > 0.4 for probe in hidden)


def test_of_a_large_part_whole_utterances_are_drawn_up_to_the_bound(
    librispeech_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Dataset(librispeech_data)
    upstream = feature_baseline("logmel", dataset, SPLITS.train, BaselineConfig())
    inputs, frames = Inputs(dataset, upstream.config), dataset.frames("logmel")
    assert draw_utterances(inputs, SPLITS.train, "train") is SPLITS.train
    bound = int(frames[SPLITS.train].sum()) // 2
    monkeypatch.setattr(frame_probes, "PROBE_FRAMES", bound)
    drawn = draw_utterances(inputs, SPLITS.train, "train")
    assert bound - frames.max() < frames[drawn].sum() <= bound
    assert set(drawn) < set(SPLITS.train) and (np.diff(drawn) > 0).all()
    assert (drawn == draw_utterances(inputs, SPLITS.train, "train")).all()
    monkeypatch.setattr(frame_probes, "PROBE_FRAMES", 1)
    assert len(draw_utterances(inputs, SPLITS.train, "train")) == 1
