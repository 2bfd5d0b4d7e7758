"""Lists as NeMo and Common Voice write them, and tables that could be taken for something else."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aalbert.errors import InputError
from aalbert.pipeline.audio.decode import read_audio
from aalbert.pipeline.corpora.manifest_file import read_manifest_file

SENTENCES = [
    *("Guten Morgen.", '"Wie geht es dir?', "Es regnet.", 'Er sagte "Hallo".', '"Ja."', "Nein"),
    *('"', "", "a, b; c", '"Und dann?'),
]
WAVE = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype(np.float32)


def audio(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, WAVE, 16_000, subtype="FLOAT")
    return path.name


def message(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_manifest_file(path)
    return str(caught.value)


@pytest.mark.parametrize("clips", ["clips", "."])
def test_every_row_of_common_voice_is_taken(tmp_path: Path, clips: str) -> None:
    rows = [
        (f"spk{number % 3}", audio(tmp_path / clips / f"cv_{number}.wav"), sentence, "de")
        for number, sentence in enumerate(SENTENCES)
    ]
    path = tmp_path / "train.tsv"
    lines = ["\t".join(row) for row in [("client_id", "path", "sentence", "locale"), *rows]]
    path.write_text("\n".join(lines) + "\n")
    corpus = read_manifest_file(path)
    assert [
        (each.speaker, Path(each.source).name, each.fields["text"] or "", each.fields["locale"])
        for each in corpus.utterances
    ] == rows
    assert corpus.skipped == ()


def test_the_list_that_lost_rows_has_them_all(shared: Path, tmp_path: Path) -> None:
    source = shared / "cases/tables/commonvoice_silent.tsv"
    with source.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    (tmp_path / "clips").mkdir()
    for row in rows:
        (tmp_path / "clips" / row["path"]).touch()
    (tmp_path / "x.tsv").write_bytes(source.read_bytes())
    found = read_manifest_file(tmp_path / "x.tsv").utterances
    assert [(each.speaker, each.fields["text"]) for each in found] == [
        (row["client_id"], row["sentence"]) for row in rows
    ]
    assert len(found) == 10


def test_tsv_in_quotes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text('"path"\t"speaker"\n"a.wav"\t"x"\n')
    assert message(path) == (
        f"{path}: the header is in double quotes, which TSV has not: save it as CSV"
    )
    path.write_text("path\tx\na.wav\t1\t2\n")
    assert message(path) == (
        f"{path}:2 has 3 cells, the header 2: cells of TSV hold no tabs and no line breaks"
    )


def test_rows_of_csv_over_several_lines_are_noted(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    path = tmp_path / "x.csv"
    path.write_text('path,speaker,text\na.wav,s,"Hello\nb.wav,s,Bye"\n')
    corpus = read_manifest_file(path)
    assert corpus.notes == (f"{path}: rows that go over several lines, in double quotes: 1",)


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_nemo_manifests_give_the_parts_that_they_name(tmp_path: Path, name: str) -> None:
    audio(tmp_path / "a.wav")
    objects = [
        {"audio_filepath": "a.wav", "offset": 0.5, "duration": 0.25, "text": "x", "speaker": "s"},
        {"audio_filepath": "a.wav", "duration": 0.75, "text": "y"},
        {"audio_filepath": str(tmp_path / "a.wav"), "offset": 1.5, "duration": None},
        {"audio_filepath": "a.wav"},
    ]
    path = tmp_path / name
    path.write_text("\n".join(map(json.dumps, objects)))
    corpus = read_manifest_file(path)
    waves = [
        read_audio(each.path, 16_000, span=(each.start, each.end)).wave
        for each in corpus.utterances
    ]
    for wave, part in zip(
        waves,
        (slice(8_000, 12_000), slice(12_000), slice(24_000, None), slice(None)),
        strict=True,
    ):
        np.testing.assert_array_equal(wave, WAVE[part])
    assert corpus.fields == ("text",)
    assert corpus.utterances[0].speaker == "s"


def test_an_array_of_objects_is_read_as_lines_of_them(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"path": "a.wav", "speaker": "s"}], indent=1))
    assert [each.speaker for each in read_manifest_file(path).utterances] == ["s"]
    path.write_text('[{"path": "a.wav"}, 3]')
    assert message(path) == f"{path}, object 2 is '\"3\"': expected a JSON object"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"audio_filepath": "a.wav", "offset": "soon"}, ":1: offset is 'soon': expected seconds"),
        ({"audio_filepath": "a.wav", "offset": -1}, ":1: start is '-1.0': expected seconds from 0"),
        ({"audio_filepath": "a.wav", "duration": 0}, ":1: end is 0.0, start is 0: a part ends"),
        ({"audio_filepath": ["a.wav"]}, ":1: 'audio_filepath' is [\"a.wav\"]: a column holds"),
        ({"path": "a.wav", "offset": 1}, " has the column 'offset', which may say what part of a"),
        ({"path": "a.wav", "begin_time": 1}, " has the column 'begin_time', which may say what"),
        ({"path": "a.wav", "start": 1, "duration": 1}, " has the column 'duration', which may say"),
        ({"path": "a.wav", "speaker": float("nan")}, ":1: speaker is 'NaN', which programs write"),
        ({"path": "a.wav", "speaker": "<NA>"}, ":1: speaker is '<NA>', which programs write"),
        ({"path": "a.wav", "split": "None"}, ":1: split is 'None', which programs write where a"),
        ({"path": "a.wav", "key": "nan"}, ":1: key is 'nan', which programs write where a value"),
    ],
)
def test_what_would_be_taken_for_something_else_is_refused(
    tmp_path: Path, line: dict[str, object], expected: str
) -> None:
    audio(tmp_path / "a.wav")
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(line))
    assert message(path).startswith(f"{path}{expected}")


def test_a_duration_that_is_only_told_is_a_label(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    path = tmp_path / "x.csv"
    path.write_text("path,duration\na.wav,2.0\n")
    (utterance,) = read_manifest_file(path).utterances
    assert (utterance.end, utterance.fields["duration"]) == (None, "2.0")
