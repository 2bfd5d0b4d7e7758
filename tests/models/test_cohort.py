from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aalbert.errors import ConfigError
from aalbert.models.calibration import Calibration
from aalbert.models.cohort import Cohort, Directions
from aalbert.models.cohort_settings import CohortSettings, ScoreNormalisation

Floats = NDArray[np.float64]


def make_cohort(
    normalisation: ScoreNormalisation, top: int, members: int = 30, speakers: int = 30
) -> Cohort:
    names = tuple(f"s{number:02}" for number in range(speakers))
    settings = CohortSettings(normalisation=normalisation, top=top, members=members, speakers=names)
    cohort = Cohort(settings, dims=8)
    generator = torch.Generator().manual_seed(1)
    cohort.embeddings.normal_(generator=generator)
    cohort.speaker_of.copy_(torch.arange(members) % speakers)
    return cohort


def cosine(one: Floats, other: Floats) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def by_hand(one: Floats, other: Floats, cohort: Floats, top: int) -> tuple[float, float]:
    """The standard scores of one trial, by the side of each utterance."""
    raw = cosine(one, other)
    sides = []
    for side in (one, other):
        closest = sorted((cosine(side, member) for member in cohort), reverse=True)[:top]
        mean = sum(closest) / top
        deviation = (sum((score - mean) ** 2 for score in closest) / top) ** 0.5
        sides.append((raw - mean) / deviation)
    return sides[0], sides[1]


@pytest.mark.parametrize(
    ("normalisation", "top"), [("as-norm", 7), ("s-norm", 30), ("z-norm", 30), ("t-norm", 30)]
)
def test_scores_are_those_of_every_trial_by_hand(
    normalisation: ScoreNormalisation, top: int
) -> None:
    cohort = make_cohort(normalisation, top)
    embeddings = torch.randn(6, 8, generator=torch.Generator().manual_seed(2))
    against = cohort.statistics(embeddings)
    left, right = torch.triu_indices(6, 6, offset=1)
    vectors = embeddings.double().numpy()
    raw = [cosine(vectors[one], vectors[other]) for one, other in zip(left, right, strict=True)]
    found = cohort.normalise(torch.tensor(raw, dtype=torch.float64), against[left], against[right])
    for score, one, other in zip(found.tolist(), left, right, strict=True):
        of_left, of_right = by_hand(
            vectors[one], vectors[other], cohort.embeddings.double().numpy(), top
        )
        expected = {"z-norm": of_left, "t-norm": of_right}.get(
            normalisation, (of_left + of_right) / 2
        )
        assert score == pytest.approx(expected, abs=1e-9)


def test_an_utterance_has_the_same_numbers_alone_and_with_any_number_of_threads() -> None:
    cohort = make_cohort("as-norm", 20, members=400, speakers=400)
    embeddings = torch.randn(40, 8, generator=torch.Generator().manual_seed(3))
    together = cohort.statistics(embeddings)
    alone = torch.cat([cohort.statistics(each.unsqueeze(0)) for each in embeddings.flip(0)])
    assert torch.equal(together, alone.flip(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(together, cohort.statistics(embeddings))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_cosines_are_exact_sums_in_any_order() -> None:
    generator = torch.Generator().manual_seed(4)
    vectors = torch.randn(150, 300, generator=generator, dtype=torch.float64) + 0.2
    unit = torch.nn.functional.normalize(vectors, dim=1)
    found = Directions.of(unit).cosines(Directions.of(unit))
    torch.testing.assert_close(found, unit @ unit.T, rtol=0, atol=1e-12)
    turned, order = Directions.of(unit.flip(1)), torch.randperm(150, generator=generator)[:41]
    assert torch.equal(turned.cosines(turned), found)
    some = Directions.of(unit.flip(1)[order])
    assert torch.equal(some.cosines(turned), found[order])
    # In rational numbers, which do not round.
    parts = [[*map(Fraction, each.tolist())] for each in (turned.coarse[7], turned.fine[7])]
    products = [
        sum(one * other for one, other in zip(parts[left], parts[right], strict=True))
        for left, right in ((0, 0), (0, 1), (1, 0))
    ]
    assert found[7, 7].item() == float(products[0]) + float(products[1] + products[2])


def test_the_order_of_the_cohort_has_no_influence() -> None:
    cohort, turned = (make_cohort("as-norm", 7) for _ in range(2))
    turned.embeddings.copy_(cohort.embeddings.flip(0))
    turned.speaker_of.copy_(cohort.speaker_of.flip(0))
    embeddings = torch.randn(6, 8, generator=torch.Generator().manual_seed(2))
    # A product of another row of a matrix may round otherwise; what is summed has one order.
    torch.testing.assert_close(
        cohort.statistics(embeddings), turned.statistics(embeddings), rtol=0, atol=1e-14
    )


def test_an_utterance_is_not_compared_with_its_own_speaker() -> None:
    cohort = make_cohort("as-norm", 5, members=30, speakers=10)
    embeddings = torch.randn(2, 8, generator=torch.Generator().manual_seed(2))
    found = cohort.statistics(embeddings, ["s03", "stranger"])
    others = make_cohort("as-norm", 5, members=27, speakers=10)
    others.embeddings.copy_(cohort.embeddings[cohort.speaker_of != 3])
    torch.testing.assert_close(found[0], others.statistics(embeddings[:1])[0])
    assert torch.equal(found[1], cohort.statistics(embeddings[1:])[0])


def test_an_embedding_of_zeros_has_a_finite_score() -> None:
    against = make_cohort("as-norm", 5).statistics(torch.zeros(1, 8))
    zero = torch.zeros(1, dtype=torch.float64)
    assert make_cohort("as-norm", 5).normalise(zero, against, against).item() == 0


@pytest.mark.parametrize(
    ("top", "members", "message"),
    [(2, 1, "a cohort has 1 members: a deviation needs 2"), (1, 5, "top 1 of 5"), (6, 5, "top 6")],
)
def test_what_has_no_deviation_is_no_cohort(top: int, members: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CohortSettings(normalisation="as-norm", top=top, members=members, speakers=())


def test_what_no_cohort_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="a cohort names a speaker twice"):
        CohortSettings(normalisation="as-norm", top=2, members=3, speakers=("one", "one"))
    cohort = make_cohort("as-norm", 5)
    cohort.require_sound()
    cohort.speaker_of[3] = 30
    with pytest.raises(ConfigError, match="the cohort has members of none of its 30 speakers"):
        cohort.require_sound()
    cohort.embeddings[2, 1] = torch.nan
    with pytest.raises(ConfigError, match="embeddings of the cohort are not finite"):
        cohort.require_sound()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"target_prior": 7.0}, r"target_prior 7\.0 of a calibration is not between 0 and 1"),
        ({"trials": -1}, "a calibration on -1 trials"),
        ({"weights": {}}, "a calibration without a weight of the score"),
        ({"weights": {"score": np.inf}}, "score inf of a calibration is not finite"),
        ({"offset": np.nan}, "offset nan of a calibration is not finite"),
        ({"speakers": 1}, "a calibration on 1 speakers: trials of two are needed"),
        ({"trained_speakers": 4}, "trained_speakers 4 of a calibration on 3 speakers"),
    ],
)
def test_what_no_calibration_has_is_refused(wrong: Mapping[str, Any], message: str) -> None:
    sound = Calibration(
        offset=0, weights={"score": 1}, target_prior=0.5, trials=9, speakers=3, trained_speakers=3
    )
    with pytest.raises(ConfigError, match=message):
        replace(sound, **wrong)
