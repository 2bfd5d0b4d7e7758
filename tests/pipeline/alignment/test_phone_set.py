from pathlib import Path

from aalbert.pipeline.alignment.phone_aligner import dictionary_path
from aalbert.pipeline.alignment.phone_set import PHONES, read_unstressed


def test_the_phones_of_a_dictionary_lose_their_stress(tmp_path: Path) -> None:
    path = tmp_path / "own.dict"
    path.write_text("READ R EH1 D\nread(2) R IY1 D\n")
    assert read_unstressed(path) == {"read": [("R", "EH", "D"), ("R", "IY", "D")]}


def test_the_phones_are_those_of_the_dictionary_of_pocketsphinx_and_silence() -> None:
    known = read_unstressed(Path(dictionary_path()))
    used = {phone for variants in known.values() for phones in variants for phone in phones}
    assert sorted(used | {"SIL"}) == list(PHONES) and len(PHONES) == 40
    assert len(known) > 100_000 and known["zebra"] == [("Z", "IY", "B", "R", "AH")]
