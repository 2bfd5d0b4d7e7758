import numpy as np
import pytest
from numpy.typing import NDArray

from aalbert.train.evaluation import embedding_planes as planes_module
from aalbert.train.evaluation.embedding_planes import (
    choose_points,
    embedding_planes,
    neighbour_plane,
    principal_plane,
)


def groups(each: int, width: int = 8) -> tuple[NDArray[np.float32], list[str]]:
    """Three groups of vectors, far from one another."""
    generator = np.random.default_rng(0)
    centres = 20 * generator.normal(size=(3, width))
    vectors = np.concatenate([centre + generator.normal(size=(each, width)) for centre in centres])
    return vectors.astype(np.float32), [name for name in "abc" for _ in range(each)]


def test_the_plane_is_that_of_the_largest_variances() -> None:
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(200, 2)) * [5.0, 2.0]
    rotation = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    vectors = (hidden @ rotation[:2] + 3.0).astype(np.float32)
    plane, shares = principal_plane(vectors)
    assert sum(shares) == pytest.approx(1, abs=1e-6) and shares[0] > shares[1]
    # Distances are kept, since nothing lies outside the plane.
    distances = np.linalg.norm(plane[:50, None] - plane[None, :50], axis=-1)
    expected = np.linalg.norm(hidden[:50, None] - hidden[None, :50], axis=-1)
    np.testing.assert_allclose(distances, expected, atol=1e-4)


def test_groups_stay_together_on_both_planes_and_the_same_seed_gives_the_same() -> None:
    vectors, labels = groups(10)
    planes = embedding_planes(vectors, labels, seed=3)
    again = embedding_planes(vectors, labels, seed=3)
    for plane, same in (
        (planes.principal, again.principal),
        (planes.neighbours, again.neighbours),
    ):
        np.testing.assert_array_equal(plane, same)
        distances = np.linalg.norm(plane[:, None] - plane[None], axis=-1)
        np.fill_diagonal(distances, np.inf)
        nearest = [planes.labels[number] for number in distances.argmin(axis=1)]
        assert nearest == list(planes.labels)
    assert (planes.all_points, planes.all_labels) == (30, 3)


def test_points_are_of_the_most_frequent_labels_and_drawn_by_the_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planes_module, "MOST_LABELS", 2)
    labels = ["rare", *["often"] * 30, *["seldom"] * 3, *["usual"] * 20]
    chosen = choose_points(labels, seed=0)
    assert {labels[number] for number in chosen} == {"often", "usual"} and len(chosen) == 50
    monkeypatch.setattr(planes_module, "MOST_POINTS", 10)
    drawn = [choose_points(labels, seed).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] == sorted(drawn[0]) != drawn[2]
    assert all(len(set(each)) == 10 for each in drawn)


def test_vectors_that_are_all_equal_are_one_point() -> None:
    vectors = np.ones((6, 4), np.float32)
    principal, shares = principal_plane(vectors)
    assert shares == (0, 0) and not neighbour_plane(vectors, principal).any()
