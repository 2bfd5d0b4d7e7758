import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from aalbert.models import attention_similarity
from aalbert.models.attention_similarity import compare_attention


def by_scipy(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The mean over query frames; scipy's is the square root of the divergence."""
    return float((jensenshannon(one, other, base=2, axis=-1) ** 2).mean())


@pytest.mark.parametrize("pairs_at_once", [1, 12])
def test_heads_and_layers_are_compared_as_scipy_does(
    pairs_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_similarity, "PAIRS_AT_ONCE", pairs_at_once)
    torch.manual_seed(1)
    maps = (3 * torch.randn(3, 2, 5, 5)).softmax(dim=-1)
    maps[1, 0] = torch.eye(5)
    found = compare_attention(maps)
    numbers: NDArray[np.float64] = maps.double().numpy()
    for one in range(3):
        for other in range(3):
            pairs = np.array([[by_scipy(a, b) for b in numbers[other]] for a in numbers[one]])
            np.testing.assert_allclose(found.heads[one, :, other], pairs, atol=1e-5)
            averaged = by_scipy(numbers[one].mean(axis=0), numbers[other].mean(axis=0))
            assert float(found.averaged[one, other]) == pytest.approx(averaged, abs=1e-5)
            assert float(found.closest[one, other]) == pytest.approx(pairs.min(), abs=1e-5)


def test_the_divergence_is_between_zero_and_one_bit() -> None:
    apart = torch.eye(4)
    found = compare_attention(torch.stack([apart, apart, apart.flip(0)])[:, None])
    assert found.averaged.tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
