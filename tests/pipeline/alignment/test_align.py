import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from aalbert.cli import main
from aalbert.common.pronunciations import Pronunciations
from aalbert.common.signals import handle_stop_signals
from aalbert.errors import InputError, InterruptedRunError, OutputInUseError, WorkersDiedError
from aalbert.pipeline.alignment import align as aligning
from aalbert.pipeline.alignment.align import align_corpus
from aalbert.pipeline.alignment.phone_aligner import NotAlignedError, align_phones, dictionary_path
from aalbert.pipeline.alignment.phone_set import PHONES
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.train.downstream.phones import read_alignments

FILES = {"alignments.txt", "phones.json", "failed.jsonl", "suspicious.jsonl", "README.md"}
TEXTS = {"0000": "HELLO WORLD", "0001": "THE ZEBRA", "0002": "A XYZZYX HELLO PLUGHX", "0004": "NO"}


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    """Five recordings of noise of 1.2 s: four have a text, one of these is not a FLAC file."""
    chapter = tmp_path / "LibriSpeech" / "train-clean-100" / "1" / "2"
    chapter.mkdir(parents=True)
    generator = np.random.default_rng(7)
    for number in range(5):
        wave = generator.standard_normal(19_300) * 0.05
        soundfile.write(chapter / f"1-2-{number:04}.flac", wave, 16_000)
    (chapter / "1-2-0004.flac").write_bytes(b"<html>404</html>")
    lines = "".join(f"1-2-{number} {text}\n" for number, text in TEXTS.items())
    (chapter / "1-2.trans.txt").write_text(lines)
    return tmp_path / "LibriSpeech"


@pytest.fixture
def corpus(corpus_folder: Path) -> Corpus:
    return read_librispeech(corpus_folder)


def in_equal_parts(
    wave: NDArray[np.float32], words: Sequence[str], known: Mapping[str, Pronunciations]
) -> list[str]:
    """Share the time out among a silence and the phones: in place of the aligner."""
    phones = ["SIL", *(phone for word in words for phone in known[word][0])]
    frames = len(wave) // 160
    return [phones[frame * len(phones) // frames] for frame in range(frames)]


@pytest.fixture
def few_pronunciations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some words of pocketsphinx' dictionary, which takes seconds to read, in place of all."""
    words = {word.lower() for text in TEXTS.values() for word in text.split()}
    lines = Path(dictionary_path()).read_text().splitlines(keepends=True)
    path = tmp_path / "few.dict"
    path.write_text("".join(each for each in lines if each.partition(" ")[0] in words))
    monkeypatch.setattr(aligning, "dictionary_path", lambda: str(path))


@pytest.fixture
def simple_aligner(few_pronunciations: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aligning, "align_phones", in_equal_parts)


def read_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("simple_aligner")
def test_the_folder_holds_labels_names_failures_and_says_who_made_them(
    corpus: Corpus, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    record = align_corpus(corpus, out)
    assert {path.name for path in out.iterdir()} == {*FILES, "alignment.json"}
    assert json.loads((out / "phones.json").read_text()) == list(PHONES)
    lines = [line.split() for line in (out / "alignments.txt").read_text().splitlines()]
    assert [(line[0], len(line) - 1) for line in lines] == [("1-2-0000", 120), ("1-2-0001", 120)]
    spoken = [PHONES[int(number)] for number, _ in groupby(lines[1][1:])]
    assert spoken == ["SIL", "DH", "AH", "Z", "IY", "B", "R", "AH"]
    failed = read_lines(out / "failed.jsonl")
    assert [(each["key"], each["reason"]) for each in failed] == [
        ("1-2-0002", "words that no dictionary has: plughx xyzzyx"),
        ("1-2-0004", failed[1]["reason"]),
    ]
    assert failed[1]["reason"].startswith("cannot be decoded")
    text = (out / "README.md").read_text()
    assert "**Made by a machine and not checked by hand**" in text
    assert f"let {record['software']} align" in text and "pocketsphinx 5" in record["software"]
    assert "2 utterances have labels, 0.00 hours. 2 failed, 1\nhave no text" in text
    assert "| 1 | words that no dictionary has |" in text and "CC BY 4.0" in text
    assert "AH 150 ms" in text  # of 8 phones in 1.2 s
    assert json.loads((out / "alignment.json").read_text()) == record
    # What trains on labels reads them by their names.
    found = read_alignments(
        str(out / "alignments.txt"), ["1-2-0001"], shift_ms=10, drop_stress=False
    )
    assert found["1-2-0001"].phones[0] == "SIL" and found["1-2-0001"].phones[-1] == "AH"


@pytest.mark.usefixtures("simple_aligner")
def test_a_dictionary_of_the_user_adds_words_and_goes_over_known_ones(
    corpus: Corpus, tmp_path: Path
) -> None:
    own = tmp_path / "own.dict"
    own.write_text("XYZZYX Z IH1\nplughx P\nhello Y OW\n")
    record = align_corpus(corpus, tmp_path / "labels", pronunciations=own)
    assert (record["utterances"], record["failed"], record["own_pronunciations"]) == (3, 1, 3)
    lines = (tmp_path / "labels" / "alignments.txt").read_text().splitlines()
    spoken = [PHONES[int(number)] for number, _ in groupby(lines[2].split()[1:])]
    assert spoken == ["SIL", "AH", "Z", "IH", "Y", "OW", "P"]
    assert record["suspicious"] == 0


@pytest.mark.usefixtures("few_pronunciations")
def test_a_phone_that_is_too_long_is_listed(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        aligning, "align_phones", lambda *_: ["SIL"] * 60 + ["T"] * 40 + ["S"] * 41 + ["T"]
    )
    assert align_corpus(corpus, tmp_path / "labels")["suspicious"] == 2
    assert read_lines(tmp_path / "labels" / "suspicious.jsonl")[0] == {
        "key": "1-2-0000",
        "phone": "S",
        "seconds": 0.41,
    }


@pytest.mark.usefixtures("simple_aligner")
def test_an_alignment_is_continued_kept_and_never_mixed_with_another(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aligning, "PIECE_UTTERANCES", 1)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    align_corpus(corpus, whole)
    calls = []

    def stop_after_first(*arguments: object) -> list[str]:
        calls.append(arguments)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return ["SIL"] * 120

    monkeypatch.setattr(aligning, "align_phones", stop_after_first)
    with handle_stop_signals(print), pytest.raises(InterruptedRunError, match="by SIGTERM"):
        align_corpus(corpus, stopped)
    own = tmp_path / "own.dict"
    own.write_text("hello Y OW\n")
    with pytest.raises(OutputInUseError, match="holds an unfinished alignment of other utterances"):
        align_corpus(corpus, stopped, pronunciations=own)
    align_corpus(corpus, stopped)
    # The first piece was kept; of the others one has words that are known.
    assert len(calls) == 2
    calls.clear()
    align_corpus(corpus, stopped)
    assert calls == []
    with pytest.raises(OutputInUseError, match="is not empty: choose another --out"):
        align_corpus(corpus, whole, pronunciations=own)


@pytest.mark.slow
def test_a_killed_process_is_one_clear_line(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aligning, "PIECE_UTTERANCES", 1)
    monkeypatch.setattr(aligning, "start_worker", kill_this_process)
    with pytest.raises(WorkersDiedError, match="that aligned was killed: is there enough memory"):
        align_corpus(corpus, tmp_path / "labels", workers=2)


def kill_this_process() -> None:
    os._exit(9)


def test_words_that_do_not_fit_into_a_recording_are_a_failure() -> None:
    hello = {"hello": [("HH", "AH", "L", "OW")]}
    with pytest.raises(NotAlignedError, match="cannot be aligned: "):
        align_phones(np.zeros(1_600, np.float32), ["hello"] * 20, hello)


@pytest.mark.usefixtures("simple_aligner")
def test_texts_in_a_table_are_aligned_and_too_many_failures_have_their_exit_code(
    corpus_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "validated.tsv"
    audio = corpus_folder / "train-clean-100" / "1" / "2" / "1-2-0000.flac"
    table.write_text(f"path\tsentence\n{audio}\tHello, world!\n{audio}x\tHello.\n")
    options = ["--text-column=sentence", "--workers=1"]
    assert main(["align", str(table), "--out", str(tmp_path / "a"), *options]) == 0
    assert "made by a machine (pocketsphinx" in capsys.readouterr().out
    [failed] = read_lines(tmp_path / "a" / "failed.jsonl")
    assert failed["reason"].startswith("cannot be read: ")
    strict = [*options, "--max-skipped=0"]
    assert main(["align", str(table), "--out", str(tmp_path / "a"), *strict]) == 5
    assert "1 of 2 inputs were skipped, more than --max-skipped 0" in capsys.readouterr().err
    assert main(["align", str(table), "--out", str(tmp_path / "b"), "--workers=1"]) == 3
    assert "has a text: expected the field 'text', the fields are sentence" in (
        capsys.readouterr().err
    )
    assert main(["align", str(table), "--subset=dev-clean", "--out", str(tmp_path / "b")]) == 2
    assert "--subset is for LibriSpeech" in capsys.readouterr().err


@pytest.mark.usefixtures("few_pronunciations")
def test_a_corpus_of_which_nothing_can_be_aligned_is_refused(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> list[str]:
        raise NotAlignedError("cannot be aligned: too short")

    monkeypatch.setattr(aligning, "align_phones", refuse)
    with pytest.raises(InputError, match=r"none of the 4 utterances can be aligned; for example"):
        align_corpus(corpus, tmp_path / "labels")


def test_without_pocketsphinx_the_extra_is_named(
    corpus_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    assert main(["align", str(corpus_folder), "--out", str(tmp_path / "labels")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "aligning needs pocketsphinx" in line and line.endswith("pip install 'aalbert[align]'")


def test_real_speech_gets_the_labels_that_were_made_of_it_before_from_any_number_of_processes(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`LibriSpeech_phones` was made by other software around pocketsphinx."""
    monkeypatch.setattr(aligning, "PIECE_UTTERANCES", 1)
    subset = read_librispeech(shared / "data" / "LibriSpeech", ["test-clean"])
    few = replace(subset, utterances=subset.utterances[:2])
    own = shared / "data" / "LibriSpeech_phones" / "extra.dict"
    contents = []
    for workers in (1, 2):
        align_corpus(few, tmp_path / str(workers), pronunciations=own, workers=workers)
        contents.append(
            {each.name: each.read_bytes() for each in (tmp_path / str(workers)).iterdir()}
        )
    assert contents[0] == contents[1]
    places = (
        shared / "data" / "LibriSpeech_phones" / "converted_aligned_phones.txt",
        tmp_path / "1" / "alignments.txt",
    )
    keys = [utterance.key for utterance in few.utterances]
    known, ours = (
        read_alignments(str(place), keys, shift_ms=10, drop_stress=False) for place in places
    )
    assert ours.keys() == known.keys() == set(keys)
    for key in keys:
        assert len(ours[key].phones) == len(known[key].phones)
        equal = sum(map(str.__eq__, ours[key].phones, known[key].phones))
        assert equal > 0.97 * len(known[key].phones)
