from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aalbert.errors import InputError
from aalbert.pipeline.corpora.manifest_file import read_manifest_file

FILES = {
    "wav.scp": "rec1 w/1.wav\nrec2 flac -c -d -s w/2.flac |\n",
    "segments": "s1-a rec1 0.5 1.25\ns1-b rec1 1.25 -1\ns2-a rec2 0 1\n",
    "utt2spk": "s1-a s1\ns1-b s1\ns2-a s2\n",
    "spk2gender": "s1 f\ns2 m\n",
    "text": "s1-a HELLO  THERE\ns1-b\n",
}


def write(folder: Path, files: Mapping[str, str] = FILES) -> Path:
    (folder / "w").mkdir(parents=True)
    soundfile.write(folder / "w/1.wav", np.zeros(32_000), 16_000)
    soundfile.write(folder / "w/2.flac", np.zeros(32_000), 16_000)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def message(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_manifest_file(folder)
    return str(caught.value)


def test_segments_are_parts_of_recordings_with_speakers_and_texts(tmp_path: Path) -> None:
    corpus = read_manifest_file(write(tmp_path / "data"))
    assert [
        (each.key, each.source, each.start, each.end, each.speaker) for each in corpus.utterances
    ] == [
        ("s1-a", "w/1.wav", 0.5, 1.25, "s1"),
        ("s1-b", "w/1.wav", 1.25, None, "s1"),
        ("s2-a", "w/2.flac", 0.0, 1.0, "s2"),
    ]
    assert [dict(each.fields) for each in corpus.utterances] == [
        {"gender": "f", "text": "HELLO  THERE"},
        {"gender": "f", "text": None},
        {"gender": "m", "text": None},
    ]
    assert (corpus.skipped, corpus.notes) == ((), ())


def test_without_segments_the_recordings_are_the_utterances(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", {"wav.scp": "a.b w/1.wav\nrec2 w/2.flac\n"})
    corpus = read_manifest_file(folder)
    assert [(each.key, each.start, each.end) for each in corpus.utterances] == [
        ("a--b", 0.0, None),
        ("rec2", 0.0, None),
    ]


def test_paths_count_from_the_root(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "lists").mkdir()
    for name in FILES:
        (tmp_path / name).rename(tmp_path / "lists" / name)
    assert len(read_manifest_file(tmp_path / "lists", tmp_path).utterances) == 3


def test_what_is_named_without_audio_is_skipped(tmp_path: Path) -> None:
    files = {
        "wav.scp": FILES["wav.scp"] + "rec3 sph2pipe -f wav -p x.sph |\n",
        "segments": FILES["segments"] + "s3-a rec3 0 1\ns4-a rec4 0 1\n",
        "utt2spk": FILES["utt2spk"] + "s3-a s3\ns4-a s4\ns5-a s5\n",
        "text": FILES["text"] + "s6-a GONE\n",
    }
    corpus = read_manifest_file(write(tmp_path / "data", files))
    assert len(corpus.utterances) == 3
    assert [(skip.source, skip.reason) for skip in corpus.skipped] == [
        (
            "rec3",
            "is made by a command, and none is run; write its output to a file: "
            "sph2pipe -f wav -p x.sph |",
        ),
        ("rec4", "its recording is not in wav.scp"),
        ("s6-a", "is in text and not in segments"),
        ("s5-a", "is in utt2spk and not in segments"),
    ]


@pytest.mark.parametrize(
    ("name", "line", "expected"),
    [
        ("wav.scp", "rec1 w/2.flac", "wav.scp:3 lists 'rec1' again, after {folder}/wav.scp:1"),
        ("wav.scp", "rec9", "wav.scp:3 is 'rec9': expected RECORDING FILE"),
        ("segments", "x rec1 0", "segments:4 is 'x rec1 0': expected UTTERANCE RECORDING START"),
        ("segments", "x rec1 0 1 2", "segments:4 is 'x rec1 0 1 2': expected UTTERANCE RECORDING"),
        ("segments", "x rec1 0 1", "segments:4: 'x' is not in {folder}/utt2spk: Kaldi's utils/"),
        ("utt2spk", "s1-a s2", "utt2spk:4 lists 's1-a' again, after {folder}/utt2spk:1"),
    ],
)
def test_a_line_that_contradicts_is_named(
    tmp_path: Path, name: str, line: str, expected: str
) -> None:
    files = {**FILES, name: f"{FILES[name]}{line}\n"}
    if name == "wav.scp":
        files.pop("segments")
        files.pop("utt2spk")
    folder = write(tmp_path / "data", files)
    assert message(folder).startswith(f"{folder}/{expected.format(folder=folder)}")


def test_a_time_that_is_none_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", {**FILES, "segments": "s1-a rec1 2 1\n"})
    assert message(folder).startswith(f"{folder}/segments:1: end is 1, start is 2: a part ends")


def test_a_folder_of_another_kind_is_answered_with_the_other_command(tmp_path: Path) -> None:
    assert message(tmp_path) == (
        f"{tmp_path} is a folder without Kaldi's wav.scp and without Parquet files: name a table, "
        f"or use 'aalbert prepare folder {tmp_path}'"
    )
