import pytest
from hypothesis import given
from hypothesis import strategies as st

from aalbert.train.loop.config import OptimiserConfig
from aalbert.train.loop.optimiser import learning_rate_factor


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (55, 0.5), (100, 0.0), (101, 0.0)],
)
def test_the_rate_rises_to_its_peak_and_falls_to_zero(step: int, factor: float) -> None:
    assert learning_rate_factor(step, warmup_steps=10, steps=100) == pytest.approx(factor)


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    assert learning_rate_factor(0, warmup_steps=0, steps=100) == 1.0


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (9, 1.0), (10, 1.0), (99, 1.0)])
def test_without_decay_the_rate_stays_at_its_peak(step: int, factor: float) -> None:
    found = learning_rate_factor(step, warmup_steps=10, steps=100, decay=False)
    assert found == pytest.approx(factor)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10**6))
def test_a_warm_up_by_proportion_leaves_a_step_at_the_full_rate(
    proportion: float, steps: int
) -> None:
    warmup = OptimiserConfig(warmup_proportion=proportion).count_warmup_steps(steps)
    assert 0 <= warmup < steps
    assert abs(warmup - proportion * steps) <= 1
    assert learning_rate_factor(warmup, warmup_steps=warmup, steps=steps) == 1.0
