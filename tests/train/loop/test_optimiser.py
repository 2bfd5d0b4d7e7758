import pytest

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
