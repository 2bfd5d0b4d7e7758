import numpy as np
import torch
import torch.nn.functional as F

from aalbert.models.head_config import HeadConfig
from aalbert.train.downstream.confusion import add_up, count_pairs
from aalbert.train.downstream.labels import classification_loss


def test_counts_of_batches_are_those_of_a_whole_matrix() -> None:
    generator = np.random.default_rng(0)
    true, predicted = generator.integers(0, 7, (2, 400))
    predicted[:150] = true[:150]
    matrix = np.zeros((9, 9), int)
    np.add.at(matrix, (true, predicted), 1)
    parts = np.array_split(np.arange(400), [3, 3, 120])
    found = add_up([count_pairs(true[part], predicted[part], 9) for part in parts], 9)
    everything = np.arange(9)
    assert np.array_equal(found.among(everything), matrix)
    assert np.array_equal(found.among(np.array([2, 5, 8])), matrix[np.ix_([2, 5, 8], [2, 5, 8])])
    assert np.array_equal(found.totals(), matrix.sum(axis=1))
    assert np.array_equal(found.correct(), np.diag(matrix))
    errors = matrix - np.diag(np.diag(matrix))
    commonest = np.where(errors.any(axis=1), errors.argmax(axis=1), -1)
    assert np.array_equal(found.commonest_errors(), commonest)
    order = np.argsort(-errors, axis=None, kind="stable")[: len(found.errors().items)]
    pairs = np.stack([found.errors().true, found.errors().predicted])
    assert np.array_equal(pairs, np.stack(np.unravel_index(order, errors.shape)))


def test_counts_of_many_classes_take_memory_by_the_item() -> None:
    classes = 10**6
    found = count_pairs(np.array([5, 5, classes - 1]), np.array([5, 6, 0]), classes)
    assert len(found.items) == 3 and found.errors().true.tolist() == [5, classes - 1]


def test_the_margin_is_taken_from_the_true_class_alone() -> None:
    scores, targets = torch.randn(4, 3, 5), torch.tensor([[0, 1, 4], [2, -1, 3]] * 2)
    head = HeadConfig(classifier="cosine", scale=8.0, margin=0.2)
    true = F.one_hot(targets.clamp(min=0), 5)
    expected = F.cross_entropy(
        (scores - 8.0 * 0.2 * true).flatten(0, 1), targets.flatten(), ignore_index=-1
    )
    assert classification_loss(scores, targets, head) == expected
