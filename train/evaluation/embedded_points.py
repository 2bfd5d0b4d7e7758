"""What the planes of an evaluation show: what its head reads of utterances or frames."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from aalbert.shards.loading.order import Rows
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.labels import Labels
from aalbert.train.downstream.scoring import whole_utterances
from aalbert.train.evaluation.evaluate import Evaluation, Measured
from aalbert.train.randomness import seed_of

# Of these utterances, that many frames each: thousands of which hundreds are drawn.
FRAME_UTTERANCES, FRAMES_OF_EACH = 50, 40


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddedPoints:
    """Vectors `(n, width)` of utterances or frames, and the class or the speaker of each."""

    vectors: NDArray[np.float32]
    labels: tuple[str, ...]
    items: Literal["utterances", "frames"]
    coloured_by: Literal["class", "speaker"]


def embedded_points(evaluation: Evaluation) -> EmbeddedPoints:
    """Return what the head reads: of frames with their classes, or means over utterances.

    These have their class, or the speaker where a task has none; those without are left out.
    """
    measured, rows = evaluation.measured, evaluation.embedded_rows
    if measured.frame_labels is not None:
        return frame_points(measured, measured.frame_labels, rows, evaluation.result.seed)
    classes = measured.class_of_row
    if classes is not None and isinstance(measured.outcome, Decisions):
        names = measured.outcome.names
        labels = [names[number] if number >= 0 else "" for number in classes[rows]]
    else:
        column = measured.dataset.column("speaker")
        labels = [column[row] or "" for row in rows]
    known = [number for number, label in enumerate(labels) if label]
    return EmbeddedPoints(
        vectors=head_input(evaluation)[known],
        labels=tuple(labels[number] for number in known),
        items="utterances",
        coloured_by="speaker" if classes is None else "class",
    )


def head_input(evaluation: Evaluation) -> NDArray[np.float32]:
    """Return the pooled state that the head reads, `(utterances, width)`: one of them or a mix."""
    result, embeddings = evaluation.result, evaluation.embeddings
    if result.layer_weights:
        weights = np.array(result.layer_weights, np.float32)
        mixed: NDArray[np.float32] = np.einsum("s,nsw->nw", weights, embeddings)
        return mixed
    if result.layers == "mean":
        mean: NDArray[np.float32] = embeddings.mean(axis=1)
        return mean
    return embeddings[:, int(result.layers) if result.layers.isdigit() else -1]


@torch.no_grad()
def frame_points(measured: Measured, labels: Labels, rows: Rows, seed: int) -> EmbeddedPoints:
    """Return what the head reads of some frames that have a class, of some utterances."""
    model = measured.model
    device = model.head.centre.device
    generator = np.random.default_rng(seed_of("embedded frames", seed))
    drawn = np.sort(generator.permutation(rows)[:FRAME_UTTERANCES])
    vectors: list[NDArray[np.float32]] = []
    classes: list[int] = []
    for batch in whole_utterances(measured.inputs, drawn, measured.config.batch_seconds, 0):
        moved = batch.to(device)
        states, lengths = model.states(moved.features, moved.lengths)
        read = model.head.combine(states).float().cpu()
        targets = labels.targets(batch.rows, lengths.cpu(), read)
        for frames, own in zip(read.numpy(), targets.numpy(), strict=True):
            places = generator.permutation(np.flatnonzero(own >= 0))[:FRAMES_OF_EACH]
            vectors.append(frames[places])
            classes += own[places].tolist()
    return EmbeddedPoints(
        vectors=np.concatenate(vectors),
        labels=tuple(labels.names[number] for number in classes),
        items="frames",
        coloured_by="class",
    )
