"""Pronunciations of words in cmudict's form: `WORD PHONE PHONE ...`, further ones as `WORD(2)`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from aalbert.common.text_files import read_lines
from aalbert.errors import InputError

# One word's pronunciations, each a sequence of phones without stress.
Pronunciations = Sequence[tuple[str, ...]]
SILENCE = "SIL"
# The 39 phones of cmudict without stress, and silence: the classes, in the order of their numbers.
PHONES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH"),
    *("IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", SILENCE, "T"),
    *("TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
WORD = re.compile(r"'?[^\W_]+(?:'[^\W_]+)*'?")
VARIANT = re.compile(r"\(\d+\)$")
COMMENT = ";;;"


def read_pronunciations(path: Path) -> dict[str, list[tuple[str, ...]]]:
    """Return the pronunciations of every word of a dictionary, in lower case, without stress.

    Raises `InputError` that names the line for one that has no phones or other ones.
    """
    if not path.is_file():
        raise InputError(
            f"there is no dictionary {path}: expected lines such as 'hello HH AH L OW'"
        )
    found: dict[str, list[tuple[str, ...]]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.startswith(COMMENT):
            continue
        word, *marked = line.partition("#")[0].split()
        phones = tuple(phone.rstrip("012") for phone in marked)
        unknown = [phone for phone in phones if phone not in PHONES]
        if unknown or not phones:
            what = f"the phone '{unknown[0]}'" if unknown else "no phones"
            raise InputError(
                f"{path}:{number} has {what}: expected a word and phones of cmudict, such as "
                "'hello HH AH L OW'"
            )
        found.setdefault(VARIANT.sub("", word).lower(), []).append(phones)
    return found


def words_of(text: str, pronunciations: Mapping[str, Pronunciations]) -> list[str]:
    """Return the words of a transcript as the dictionary writes them: in lower case.

    Punctuation is left out. An apostrophe at an end belongs to the word where the dictionary has it
    so (`'tis`), and is a quotation mark elsewhere.
    """
    words = WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    return [word if word in pronunciations else word.strip("'") for word in words]
