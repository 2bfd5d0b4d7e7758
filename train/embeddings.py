"""One vector per utterance and hidden state, and how they are drawn on paper."""

import numpy as np
import torch
from numpy.typing import NDArray

from aalbert.models.pooling import mean_pool
from aalbert.models.upstream import Upstream
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.scoring import whole_utterances

Embeddings = NDArray[np.float32]


@torch.no_grad()
def pooled_states(
    upstream: Upstream, dataset: Dataset, rows: Rows, batch_seconds: float
) -> Embeddings:
    """Return the mean over the real frames of every hidden state, `(rows, states, width)`."""
    feature = str(upstream.config.features["kind"])
    device = next(upstream.buffers()).device
    loader = whole_utterances(dataset, rows, feature, batch_seconds, prefetch=0)
    place = {int(row): number for number, row in enumerate(rows)}
    pooled = np.empty((len(rows), upstream.states, upstream.width), np.float32)
    for batch in loader:
        moved = batch.to(device)
        states, lengths = upstream(moved.features, moved.lengths)
        means = torch.stack([mean_pool(state, lengths) for state in states], dim=1)
        pooled[[place[int(row)] for row in batch.rows]] = means.float().cpu().numpy()
    return pooled


def principal_plane(vectors: Embeddings) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return vectors `(n, width)` on the plane where they vary most, and what share it shows.

    Principal component analysis: no label is used, so classes that lie apart in the picture
    lie apart in the vectors. The shares are those of the whole variance, one per axis.
    """
    centred = np.asarray(vectors, np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, strengths, _ = np.linalg.svd(centred, full_matrices=False)
    total = float((strengths**2).sum()) or 1.0
    shares = strengths[:2] ** 2 / total
    return left[:, :2] * strengths[:2], (float(shares[0]), float(shares[1]))
