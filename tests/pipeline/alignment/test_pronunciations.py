from pathlib import Path

import pytest

from aalbert.errors import InputError
from aalbert.pipeline.alignment.phone_aligner import dictionary_path
from aalbert.pipeline.alignment.pronunciations import PHONES, read_pronunciations, words_of


def test_a_dictionary_has_variants_comments_and_stress(tmp_path: Path) -> None:
    path = tmp_path / "own.dict"
    path.write_text(";;; cmudict\nREAD R EH1 D\nread(2) R IY1 D # verb\n\nzoë Z OW1 IY0\n")
    assert read_pronunciations(path) == {
        "read": [("R", "EH", "D"), ("R", "IY", "D")],
        "zoë": [("Z", "OW", "IY")],
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
        read_pronunciations(path)


def test_the_phones_are_those_of_the_dictionary_of_pocketsphinx_and_silence() -> None:
    known = read_pronunciations(Path(dictionary_path()))
    used = {phone for variants in known.values() for phones in variants for phone in phones}
    assert sorted(used | {"SIL"}) == list(PHONES) and len(PHONES) == 40
    assert len(known) > 100_000 and known["zebra"] == [("Z", "IY", "B", "R", "AH")]


def test_words_are_found_among_punctuation_and_apostrophes() -> None:
    known = {"'tis": [("T",)], "dogs'": [("D",)]}
    text = "'TIS the Dogs' \u2018well\u2019-known don\u2019t: 'really', No. 9?"
    found = ["'tis", "the", "dogs'", "well", "known", "don't", "really", "no", "9"]
    assert words_of(text, known) == found
