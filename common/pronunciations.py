"""Pronunciations of words in cmudict's form: `WORD PHONE PHONE ...`, further ones as `WORD(2)`.

LibriSpeech's lexicon has the same form, with a line of the same word for every pronunciation.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from aalbert.common.text_files import read_lines
from aalbert.errors import InputError

# One word's pronunciations, each a sequence of phones.
Pronunciations = Sequence[tuple[str, ...]]
WORD = re.compile(r"'?[^\W_]+(?:'[^\W_]+)*'?")
VARIANT = re.compile(r"\(\d+\)$")
COMMENT = ";;;"
# The mark of a vowel, as the 1 of AH1.
STRESS = re.compile(r"(?<=[A-Z])[012]$")


@lru_cache(maxsize=256)
def without_stress(phone: str) -> str:
    """Return a phone without its mark of stress, if it has one."""
    return STRESS.sub("", phone)


def read_pronunciations(
    path: Path, phones: Collection[str] = ()
) -> dict[str, list[tuple[str, ...]]]:
    """Return the pronunciations of every word of a dictionary, in lower case, in their order.

    With `phones` no others may occur, whatever their stress. Raises `InputError` that names the
    line for one that has others, or none.
    """
    if not path.is_file():
        raise InputError(
            f"there is no dictionary {path}: expected lines such as 'hello HH AH L OW'"
        )
    allowed = frozenset(phones)
    found: dict[str, list[tuple[str, ...]]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        entry = line.partition("#")[0].split()
        if not entry or line.startswith(COMMENT):
            continue
        word, *spoken = entry
        unknown = [phone for phone in spoken if allowed and without_stress(phone) not in allowed]
        if unknown or not spoken:
            what = f"the phone '{unknown[0]}'" if unknown else "no phones"
            raise InputError(
                f"{path}:{number} has {what}: expected a word and phones of cmudict, such as "
                "'hello HH AH L OW'"
            )
        found.setdefault(VARIANT.sub("", word).lower(), []).append(tuple(spoken))
    return found


def words_of(text: str, pronunciations: Mapping[str, Pronunciations]) -> list[str]:
    """Return the words of a transcript as the dictionary writes them: in lower case.

    Punctuation is left out. An apostrophe at an end belongs to the word where the dictionary has it
    so (`'tis`), and is a quotation mark elsewhere.
    """
    words = WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    return [word if word in pronunciations else word.strip("'") for word in words]
