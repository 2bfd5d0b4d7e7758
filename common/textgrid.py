"""TextGrid, the format of Praat and of the Montreal Forced Aligner, in its long and short form."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aalbert.common.text_files import read_text
from aalbert.errors import InputError

# The aligner leaves silence between words without a label.
SILENCE = "sil"
# The tokens of TextGrids of either form: texts in quotes, and numbers between spaces.
TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<=[\s=])(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?=\s|$)')
# Times have few digits, so that an interval may begin a little before the last one ends.
OVERLAP_SECONDS = 1e-4
# No utterance lasts longer, whatever a damaged label says.
LONGEST_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class PhoneInterval:
    """A phone from `start` to `end` seconds."""

    start: float
    end: float
    phone: str


def read_textgrid(path: Path) -> list[PhoneInterval]:
    """Return the intervals of the tier `phones` of a TextGrid, in the long or the short form.

    They follow one another from 0 to the end of the tier: what the tier leaves out is silence.
    Raises `InputError` when there is no such tier, its intervals are not in order, or it lasts no
    time or longer than any utterance.
    """
    tokens = TOKEN.findall(read_text(path))
    values = [text if not number else float(number) for text, number in tokens]
    try:
        intervals, end = parse_textgrid(values, path)
    except (IndexError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path} is not a TextGrid with intervals in a tier 'phones'") from error
    filled, reached = [], 0.0
    for interval in intervals:
        if interval.end < interval.start or interval.start < reached - OVERLAP_SECONDS:
            raise InputError(
                f"{path}: the phone '{interval.phone}' lasts from {interval.start:g} to "
                f"{interval.end:g} s, and the one before to {reached:g} s: the intervals of a tier "
                "follow one another"
            )
        if interval.start > reached:
            filled.append(PhoneInterval(reached, interval.start, SILENCE))
        filled.append(interval)
        reached = max(reached, interval.end)
    if end > reached:
        filled.append(PhoneInterval(reached, end, SILENCE))
    last = max(end, reached)
    if not 0 < last <= LONGEST_SECONDS:
        raise InputError(
            f"{path}: its tier 'phones' lasts {last:g} s: expected more than 0 and up to "
            f"{LONGEST_SECONDS:g} s"
        )
    return filled


def parse_textgrid(values: list[str | float], path: Path) -> tuple[list[PhoneInterval], float]:
    """Return the intervals of the tier `phones`, and its end, from the values of a TextGrid.

    The values are: file type and class, start and end, the number of tiers; then for every tier
    its class, name, start, end, and the number of its intervals, each with start, end, text.
    """
    if values[:2] != ["ooTextFile", "TextGrid"]:
        raise ValueError(values[:2])
    tiers, place = int(values[4]), 5
    for _ in range(tiers):
        kind, name, _, end, count = values[place : place + 5]
        width = 3 if kind == "IntervalTier" else 2
        body = values[place + 5 : place + 5 + width * int(count)]
        if name == "phones" and width == 3:
            if len(body) < width * int(count):
                raise InputError(
                    f"{path} says {int(count)} phones and has {len(body) // width}: it is cut off"
                )
            triples = list(zip(body[::3], body[1::3], body[2::3], strict=True))
            return [
                PhoneInterval(float(start), float(stop), str(text).replace('""', '"') or SILENCE)
                for start, stop, text in triples
            ], float(end)
        place += 5 + width * int(count)
    raise ValueError("no such tier")


def textgrid(intervals: Sequence[PhoneInterval]) -> str:
    """Return the TextGrid, in the long form, whose tier `phones` has these intervals, in order."""
    end = intervals[-1].end
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end:.6f}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        '        name = "phones"',
        "        xmin = 0",
        f"        xmax = {end:.6f}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, each in enumerate(intervals, start=1):
        text = each.phone.replace('"', '""')
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {each.start:.6f}",
            f"            xmax = {each.end:.6f}",
            f'            text = "{text}"',
        ]
    return "\n".join(lines) + "\n"
