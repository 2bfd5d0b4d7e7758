"""The phones that recordings are aligned with, and the pronunciations that consist of them."""

from pathlib import Path

from aalbert.common.pronunciations import read_pronunciations, without_stress

SILENCE = "SIL"
# The 39 phones of cmudict without stress, and silence: the classes, in the order of their numbers.
PHONES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH"),
    *("IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", SILENCE, "T"),
    *("TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)


def read_unstressed(path: Path) -> dict[str, list[tuple[str, ...]]]:
    """Return the pronunciations of every word of a dictionary, in lower case, without stress.

    Raises `InputError` that names the line for one that has no phones or other ones.
    """
    return {
        word: [tuple(map(without_stress, each)) for each in spoken]
        for word, spoken in read_pronunciations(path, PHONES).items()
    }
