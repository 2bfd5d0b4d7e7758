"""Embeddings on two planes: their principal components, and t-SNE.

Neither uses a label, so classes that are apart in a picture are apart in the embeddings. Principal
components keep distances as far as two dimensions can; t-SNE (van der Maaten and Hinton 2008) keeps
near neighbours together, and how far apart and how large groups are says nothing there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aalbert.train.randomness import seed_of

# More colours cannot be distinguished.
MOST_LABELS = 10
# These take t-SNE seconds.
MOST_POINTS = 500
# t-SNE needs neighbours.
FEWEST_POINTS = 5
PERPLEXITY, NEIGHBOURS_PER_PERPLEXITY = 30.0, 3
Plane = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbeddingPlanes:
    """Points of the most frequent labels on both planes, `(points, 2)` each.

    `shares` are the shares of the variance that the principal axes have. `all_points` and
    `all_labels` say of how many these are.
    """

    labels: tuple[str, ...]
    principal: Plane
    shares: tuple[float, float]
    neighbours: Plane
    all_points: int
    all_labels: int


def embedding_planes(
    vectors: NDArray[np.float32], labels: Sequence[str], seed: int
) -> EmbeddingPlanes:
    """Put vectors `(n, width)` with labels on the planes; `seed` draws points where they are many.

    The same vectors, labels and seed give the same planes.
    """
    chosen = choose_points(labels, seed)
    principal, shares = principal_plane(vectors[chosen])
    return EmbeddingPlanes(
        labels=tuple(labels[number] for number in chosen),
        principal=principal,
        shares=shares,
        neighbours=neighbour_plane(vectors[chosen], principal),
        all_points=len(labels),
        all_labels=len(set(labels)),
    )


def choose_points(labels: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Return places of at most `MOST_POINTS` of the `MOST_LABELS` most frequent labels, rising."""
    names, own, counts = np.unique(np.array(labels), return_inverse=True, return_counts=True)
    most_frequent = np.argsort(-counts, kind="stable")[:MOST_LABELS]
    places = np.flatnonzero(np.isin(own, most_frequent))
    generator = np.random.default_rng(seed_of("embeddings", seed))
    return np.sort(generator.permutation(places)[:MOST_POINTS])


def principal_plane(vectors: NDArray[np.float32]) -> tuple[Plane, tuple[float, float]]:
    """Return vectors `(n, width)` on the plane of their largest variance, and its two shares.

    The shares are of the whole variance, one per axis.
    """
    centred = np.asarray(vectors, np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, strengths, _ = np.linalg.svd(centred, full_matrices=False)
    total = float((strengths**2).sum()) or 1.0
    shares = strengths[:2] ** 2 / total
    return left[:, :2] * strengths[:2], (float(shares[0]), float(shares[1]))


def neighbour_plane(vectors: NDArray[np.float32], principal: Plane) -> Plane:
    """Return vectors `(n, width)` on a plane by t-SNE, which begins at their principal components.

    Nothing is drawn. On more than one thread sums would be rounded in any order, and such
    differences grow.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    spread = float(principal[:, 0].std())
    if spread == 0:
        return np.zeros_like(principal)
    search = TSNE(
        perplexity=min(PERPLEXITY, (len(vectors) - 1) / NEIGHBOURS_PER_PERPLEXITY),
        init=(principal / spread * 1e-4).astype(np.float32),
    )
    with threadpool_limits(limits=1):
        plane: Plane = np.asarray(search.fit_transform(vectors), np.float64)
    return plane
