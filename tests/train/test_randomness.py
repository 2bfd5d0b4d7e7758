import pytest
import torch

from aalbert.train.randomness import Draws, normal, random_bits, uniform, uniform_integer

# The first five outputs of splitmix64 for this seed, from its other implementations.
SEED = 1234567
OUTPUTS = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def test_the_bits_are_those_of_splitmix64() -> None:
    assert [bits % 2**64 for bits in random_bits(SEED, torch.arange(5)).tolist()] == OUTPUTS


def test_every_row_can_have_its_own_key() -> None:
    keys = torch.tensor([[3], [SEED]])
    assert torch.equal(random_bits(keys, torch.arange(5))[1], random_bits(SEED, torch.arange(5)))


def test_fractions_are_uniform() -> None:
    values = uniform(random_bits(5, torch.arange(200_000)))
    counts = torch.histc(values, bins=100, min=0, max=1)
    chi_squared = float(((counts - 2000) ** 2 / 2000).sum())
    # 99 degrees of freedom: mean 99, deviation 14.1.
    assert 99 - 4 * 14.1 < chi_squared < 99 + 4 * 14.1
    assert float(values.min()) >= 0 and float(values.max()) < 1


def test_neighbouring_keys_and_counters_are_not_correlated() -> None:
    keys = random_bits(1, torch.arange(400)).unsqueeze(1)
    values = uniform(random_bits(keys, torch.arange(400)))
    for left, right in ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1])):
        correlation = torch.corrcoef(torch.stack((left.flatten(), right.flatten())))[0, 1]
        assert abs(float(correlation)) < 4 / 400


def test_integers_are_uniform_up_to_each_count() -> None:
    counts = torch.tensor([1, 3, 7]).repeat(30_000, 1)
    values = uniform_integer(random_bits(2, torch.arange(90_000)).view(-1, 3), counts)
    for column, count in zip(values.T, (1, 3, 7), strict=True):
        shares = torch.bincount(column, minlength=count) / len(column)
        assert len(shares) == count
        assert shares.tolist() == pytest.approx([1 / count] * count, abs=0.012)


def test_normal_numbers_have_the_moments_and_quantiles_of_a_normal_distribution() -> None:
    values = normal(random_bits(3, torch.arange(200_000)))
    assert float(values.mean()) == pytest.approx(0, abs=0.01)
    assert float(values.std()) == pytest.approx(1, abs=0.01)
    assert float(values.pow(4).mean()) == pytest.approx(3, abs=0.1)
    for quantile, point in ((0.0228, -2.0), (0.1587, -1.0), (0.5, 0.0), (0.8413, 1.0)):
        assert float((values < point).float().mean()) == pytest.approx(quantile, abs=0.005)


def test_purposes_and_rows_have_different_numbers() -> None:
    draws = Draws(1, torch.tensor([5, 6, 5]))
    keys = draws.keys("start")
    assert keys[0] == keys[2] != keys[1]
    assert not set(keys.tolist()) & set(draws.keys("span").tolist())
    assert not set(keys.tolist()) & set(Draws(2, draws.rows).keys("start").tolist())


@pytest.mark.gpu
def test_a_gpu_gives_the_same_numbers() -> None:
    places = torch.arange(100_000)
    there = places.cuda()
    assert torch.equal(random_bits(3, places), random_bits(3, there).cpu())
    assert torch.equal(uniform(random_bits(3, places)), uniform(random_bits(3, there)).cpu())
