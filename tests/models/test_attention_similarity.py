import math

import numpy as np
import torch
from numpy.typing import NDArray

from aalbert.models.attention_similarity import compare_layers, divergence


def relative_entropy(one: list[float], other: list[float]) -> float:
    return sum(p * math.log2(p / q) for p, q in zip(one, other, strict=True) if p > 0)


def by_hand(one: list[float], other: list[float]) -> float:
    """The definition in terms of the Kullback-Leibler divergence."""
    middle = [(p + q) / 2 for p, q in zip(one, other, strict=True)]
    return (relative_entropy(one, middle) + relative_entropy(other, middle)) / 2


def test_layers_are_compared_according_to_the_definition() -> None:
    torch.manual_seed(1)
    maps = (3 * torch.randn(3, 2, 5, 5)).softmax(dim=-1)
    maps[1, 0] = torch.eye(5)
    found = compare_layers(maps)
    numbers: NDArray[np.float64] = maps.double().numpy()
    for one in range(3):
        for other in range(3):
            means = [numbers[layer].mean(axis=0).tolist() for layer in (one, other)]
            averaged = np.mean([by_hand(*rows) for rows in zip(*means, strict=True)])
            closest = min(
                np.mean([by_hand(p.tolist(), q.tolist()) for p, q in zip(a, b, strict=True)])
                for a in numbers[one]
                for b in numbers[other]
            )
            assert abs(float(found.averaged[one, other]) - averaged) < 1e-5
            assert abs(float(found.closest[one, other]) - closest) < 1e-5


def test_the_divergence_is_between_zero_and_one_bit() -> None:
    apart = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert divergence(apart[0], apart[1]) == 1
    assert divergence(apart[0], apart[0]) == 0
