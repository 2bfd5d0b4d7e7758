"""How far the values reach that a file says it holds: how deep, and how many when all are visited.

A pickle may name one value many times. A tuple of two equal tuples of two equal tuples and so on
takes a few bytes a level, and twice the time a level of whoever compares or prints it.
"""

from typing import Any

from aalbert.errors import IntegrityError

# Settings in groups in groups are five deep, the state of an optimiser six.
DEEPEST = 100


def check_extent(document: Any, most: int) -> None:
    """Raise `IntegrityError` for values that are nested too deep, or more than `most`.

    Every value counts wherever it is reached, so whatever walks through the document then ends.
    One that contains itself is nested without end.
    """
    count, _ = extent(document, 0, {})
    if count > most:
        raise IntegrityError(
            f"its values are contained in each other so often that they are more than {most:,}"
        )


def extent(value: Any, depth: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return how many values a value is with all in it, and how many levels.

    `depth` levels are around it. `known` has what was found before, by identity.
    """
    if not isinstance(value, (list, tuple, dict)) or not value:
        return 1, 0
    count, levels = known.get(id(value), (1, 1))
    if depth + levels > DEEPEST:
        raise IntegrityError(f"its values are nested more than {DEEPEST} deep")
    if id(value) not in known:
        for inner in value.values() if isinstance(value, dict) else value:
            inner_count, inner_levels = extent(inner, depth + 1, known)
            count, levels = count + inner_count, max(levels, 1 + inner_levels)
        known[id(value)] = count, levels
    return count, levels
