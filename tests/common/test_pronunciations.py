from pathlib import Path

import pytest

from aalbert.common.pronunciations import read_pronunciations, without_stress, words_of
from aalbert.errors import InputError


def test_a_dictionary_has_variants_comments_and_stress(tmp_path: Path) -> None:
    path = tmp_path / "own.dict"
    path.write_text(";;; cmudict\nREAD R EH1 D\nread(2) R IY1 D # verb\n# French\nzoë Z OW1 IY0\n")
    assert read_pronunciations(path) == {
        "read": [("R", "EH1", "D"), ("R", "IY1", "D")],
        "zoë": [("Z", "OW1", "IY0")],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a AH\nhello HH AX L OW\n", r"own\.dict:2 has the phone 'AX': expected a word and phones"),
        ("hello\n", r"own\.dict:1 has no phones: expected a word and phones of cmudict, such as"),
        (None, "there is no dictionary .*own.dict: expected lines such as 'hello HH AH L OW'"),
    ],
)
def test_a_wrong_dictionary_is_named_with_the_line(
    text: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.dict"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_pronunciations(path, ("AH", "HH", "L", "OW"))


def test_lines_of_one_word_are_its_pronunciations_as_librispeechs_lexicon_has_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("READ\tR EH1 D\nREAD\tR IY1 D\nSPOKEN_NOISE\tSPN\n")
    found = read_pronunciations(path)
    assert found["read"] == [("R", "EH1", "D"), ("R", "IY1", "D")]
    assert found["spoken_noise"] == [("SPN",)]


def test_stress_is_the_digit_after_the_letters_of_a_vowel() -> None:
    phones = ("AH0", "AH1", "ER2", "K", "1", "a1", "AH3")
    assert list(map(without_stress, phones)) == ["AH", "AH", "ER", "K", "1", "a1", "AH3"]


def test_words_are_found_among_punctuation_and_apostrophes() -> None:
    known = {"'tis": [("T",)], "dogs'": [("D",)]}
    text = "'TIS the Dogs' \u2018well\u2019-known don\u2019t: 'really', No. 9?"
    found = ["'tis", "the", "dogs'", "well", "known", "don't", "really", "no", "9"]
    assert words_of(text, known) == found
