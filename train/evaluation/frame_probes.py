"""Probes of frame tasks: the accuracy of each hidden state alone over the frames of the test part.

A probe classifies single frames. It is fitted on the training part, what it leaves open is
selected on dev, and only then is it tested. It measures a layer, not the system, and needs no
downstream run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aalbert.common.progress import progress_bar
from aalbert.models.any_upstream import AnyUpstream
from aalbert.models.finite import require_finite
from aalbert.shards.loading.order import Rows
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.labels import NO_CLASS, Labels
from aalbert.train.downstream.scoring import whole_utterances
from aalbert.train.downstream.splits import SplitRows
from aalbert.train.evaluation.frame_classifiers import (
    FrameClassifier,
    LabelledFrames,
    fit_hidden,
    fit_linear,
)
from aalbert.train.evaluation.metrics import sessions
from aalbert.train.evaluation.probes import LayerProbe
from aalbert.train.evaluation.significance import share_interval
from aalbert.train.randomness import seed_of

# These bound memory and time on any data; more frames improve a probe little.
PROBE_FRAMES = 100_000
BATCH_SECONDS = 60.0


@dataclass(frozen=True, eq=False, kw_only=True)
class ProbedFrames:
    """What the probes of `states` have right on the test part, by utterance.

    `correct` is `(states, utterances)`, of the frames `scored (utterances,)`; `session
    (utterances,)` numbers the recording session of each. `penalties` are those of linear probes.
    """

    states: tuple[int, ...]
    penalties: tuple[float | None, ...]
    fitted_on: int
    correct: NDArray[np.int64]
    scored: NDArray[np.int64]
    session: NDArray[np.int64]

    def layers(self) -> tuple[LayerProbe, ...]:
        """Return the accuracy of every state with its interval, which resamples sessions."""
        return tuple(
            LayerProbe(
                state=state,
                value=round(float(own.sum() / self.scored.sum()), 6),
                interval_95=share_interval(own, self.scored, self.session),
                penalty=penalty,
                fitted_on=self.fitted_on,
            )
            for state, own, penalty in zip(self.states, self.correct, self.penalties, strict=True)
        )


def probe_frames(
    upstream: AnyUpstream,
    inputs: Inputs,
    labels: Labels,
    splits: SplitRows,
    *,
    hidden: int = 0,
    seed: int = 0,
    states: Sequence[int] = (),
) -> ProbedFrames:
    """Probe hidden states of an upstream in evaluation mode, on its own device; all by default.

    `labels`, on the CPU, are those of the upstream's frames. Probes are linear, or have one hidden
    layer of the width `hidden`; then `seed` draws their weights and the order of frames. They are
    fitted and selected on at most `PROBE_FRAMES` frames each, of whole utterances drawn once for a
    dataset, and tested on the whole test part.
    """
    device = next(upstream.buffers()).device
    parts = [
        read_frames(upstream, inputs, labels, draw_utterances(inputs, rows, name))
        for name, rows in (("train", splits.train), ("dev", splits.dev))
    ]
    chosen = states or range(upstream.states)
    classifiers: dict[int, FrameClassifier] = {}
    penalties: list[float | None] = []
    with progress_bar("probes", total=len(chosen), unit="state") as bar:
        for state in chosen:
            train, dev = (part[state].to(device) for part in parts)
            penalty = None
            if hidden:
                classifier = fit_hidden(train, dev, len(labels.names), hidden=hidden, seed=seed)
            else:
                classifier, penalty = fit_linear(train, dev, len(labels.names))
            classifiers[state] = classifier
            penalties.append(penalty)
            bar.update(1)
    correct, scored = count_correct(upstream, inputs, labels, splits.test, classifiers)
    return ProbedFrames(
        states=tuple(chosen),
        penalties=tuple(penalties),
        fitted_on=len(parts[0][0].classes),
        correct=correct,
        scored=scored,
        session=sessions(inputs.dataset).among(splits.test),
    )


def draw_utterances(inputs: Inputs, rows: Rows, name: str) -> Rows:
    """Return the rows, or as many of them as hold `PROBE_FRAMES` frames, drawn once; rising."""
    frames = inputs.frame_counts()[rows]
    if frames.sum() <= PROBE_FRAMES:
        return rows
    generator = np.random.default_rng(seed_of(inputs.dataset.manifest.fingerprint, "probe", name))
    order = generator.permutation(len(rows))
    count = max(1, int((np.cumsum(frames[order]) <= PROBE_FRAMES).sum()))
    return np.sort(rows[order[:count]])


@torch.no_grad()
def frame_batches(
    upstream: AnyUpstream, inputs: Inputs, labels: Labels, rows: Rows
) -> Iterator[tuple[NDArray[np.int64], list[Tensor], Tensor]]:
    """Yield rows `(batch,)`, states `(batch, frames, width)`, and classes `(batch, frames)`."""
    device = next(upstream.buffers()).device
    for batch in whole_utterances(inputs, rows, BATCH_SECONDS, prefetch=0):
        moved = batch.to(device)
        states, lengths = upstream(moved.features, moved.lengths)
        classes = labels.targets(batch.rows, lengths.cpu(), states[0].cpu())
        yield batch.rows.numpy().copy(), states, classes


def read_frames(
    upstream: AnyUpstream, inputs: Inputs, labels: Labels, rows: Rows
) -> list[LabelledFrames]:
    """Return the frames of some rows that have a class: those of every state, in float16."""
    classes: list[Tensor] = []
    states: list[list[Tensor]] = [[] for _ in range(upstream.states)]
    for own, found, targets in frame_batches(upstream, inputs, labels, rows):
        real = targets != NO_CLASS
        classes.append(targets[real])
        for state, frames in zip(states, found, strict=True):
            state.append(frames.cpu()[real].half())
            require_finite(state[-1], f"{inputs.dataset.key(int(own[0]))} and others of its length")
    joined = torch.cat(classes)
    return [LabelledFrames(torch.cat(frames), joined) for frames in states]


def count_correct(
    upstream: AnyUpstream,
    inputs: Inputs,
    labels: Labels,
    rows: Rows,
    classifiers: Mapping[int, FrameClassifier],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the correct frames of every classifier and row, `(states, rows)`, and all `(rows,)`.

    `classifiers` are given by the number of the state that they read.
    """
    correct = np.zeros((len(classifiers), len(rows)), np.int64)
    scored = np.zeros(len(rows), np.int64)
    for own, states, classes in frame_batches(upstream, inputs, labels, rows):
        places = np.searchsorted(rows, own)
        scored[places] = (classes != NO_CLASS).sum(dim=1).numpy()
        for number, (state, classifier) in enumerate(classifiers.items()):
            right = classifier.classify(states[state]).cpu() == classes
            correct[number, places] = right.sum(dim=1).numpy()
    return correct, scored
