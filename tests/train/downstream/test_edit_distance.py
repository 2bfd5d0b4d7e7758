import random
from functools import cache

import pytest
from torchaudio.functional import edit_distance

from aalbert.train.downstream.edit_distance import align


def fewest_edits(one: tuple[int, ...], two: tuple[int, ...]) -> int:
    """The edit distance by its definition."""

    @cache
    def distance(left: int, right: int) -> int:
        if left == 0 or right == 0:
            return left + right
        replaced = distance(left - 1, right - 1) + (one[left - 1] != two[right - 1])
        return min(replaced, distance(left - 1, right) + 1, distance(left, right - 1) + 1)

    return distance(len(one), len(two))


def test_the_edits_are_the_fewest_and_make_one_sequence_of_the_other() -> None:
    generator = random.Random(4)
    for _ in range(200):
        one, two = (tuple(generator.choices(range(3), k=generator.randint(0, 7))) for _ in range(2))
        edits = align(one, two)
        total = edits.substitutions + edits.deletions + edits.insertions
        assert total == fewest_edits(one, two) == edit_distance(list(one), list(two))
        assert tuple(left for left, _ in edits.pairs if left is not None) == one
        assert tuple(right for _, right in edits.pairs if right is not None) == two


@pytest.mark.parametrize(
    ("reference", "hypothesis", "kinds"),
    [
        ([1, 2, 3], [1, 2, 3], (0, 0, 0)),
        ([1, 2, 3], [1, 3], (0, 1, 0)),
        ([1, 3], [1, 2, 3], (0, 0, 1)),
        ([1, 2, 3], [1, 4, 3], (1, 0, 0)),
        ([], [5, 5], (0, 0, 2)),
        ([5, 5], [], (0, 2, 0)),
    ],
)
def test_every_kind_of_edit_is_counted(
    reference: list[int], hypothesis: list[int], kinds: tuple[int, int, int]
) -> None:
    edits = align(reference, hypothesis)
    assert (edits.substitutions, edits.deletions, edits.insertions) == kinds
