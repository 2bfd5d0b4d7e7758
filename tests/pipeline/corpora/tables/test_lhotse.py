import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from aalbert.errors import InputError
from aalbert.pipeline.corpora.manifest_file import read_manifest_file

# As lhotse 1.33.0 writes them.
RECORDING = {
    "id": "a",
    "sources": [{"type": "file", "channels": [0], "source": "w/a.wav"}],
    "sampling_rate": 16000,
    "num_samples": 32000,
    "duration": 2.0,
    "channel_ids": [0],
}
HELLO = {
    "id": "a-1",
    "recording_id": "a",
    "start": 0.25,
    "duration": 0.7,
    "channel": 0,
    "text": "HELLO",
    "language": "en",
    "speaker": "s1",
    "gender": "F",
}
THERE = {**HELLO, "id": "a-2", "start": 1.0, "duration": 1.0, "text": "THERE", "language": None}


def cut(**changes: Any) -> dict[str, Any]:
    whole = {"id": "a-0", "start": 0, "duration": 2.0, "channel": 0}
    return {
        **whole,
        "supervisions": [HELLO, THERE],
        "recording": RECORDING,
        "type": "MonoCut",
        **changes,
    }


STEREO = {**RECORDING, "sources": [{"type": "file", "channels": [0, 1], "source": "w/a.wav"}]}
RESAMPLED = {**RECORDING, "transforms": [{"name": "Resample", "kwargs": {}}]}
COMMAND = {**RECORDING, "sources": [{"type": "command", "channels": [0], "source": "cat x |"}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "w").mkdir()
    soundfile.write(tmp_path / "w/a.wav", np.zeros(32_000), 16_000)
    return tmp_path


def write(folder: Path, *cuts: dict[str, Any]) -> Path:
    path = folder / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, cuts)).encode()))
    return path


def test_a_cut_is_a_part_of_its_recording_with_its_labels(folder: Path) -> None:
    first = cut(id="a-1", start=0.25, duration=0.7, supervisions=[{**HELLO, "start": 0.0}])
    last = cut(id="the second/.", start=1.0, duration=1.0, supervisions=[THERE])
    stereo = cut(id="st", channel=[0, 1], recording=STEREO, type="MultiCut", supervisions=[])
    corpus = read_manifest_file(write(folder, first, last, cut(), stereo))
    assert [(each.source, each.start, each.end) for each in corpus.utterances] == [
        ("w/a.wav", 0.25, 0.95),
        ("w/a.wav", 1.0, None),
        ("w/a.wav", 0.0, None),
        ("w/a.wav", 0.0, None),
    ]
    assert [each.speaker for each in corpus.utterances] == ["s1", "s1", "s1", None]
    assert [each.fields["text"] for each in corpus.utterances] == [
        *("HELLO", "THERE", "HELLO THERE", None)
    ]
    assert dict(corpus.utterances[2].fields) == {
        "gender": "F",
        "language": "en",
        "text": "HELLO THERE",
    }
    keys = [each.key for each in corpus.utterances]
    assert (keys[0], keys[2], keys[3]) == ("a-1", "a-0", "st")
    assert keys[1].startswith("the_second")


def test_a_cut_with_several_speakers_has_none(folder: Path) -> None:
    other = {**THERE, "speaker": "s2"}
    (utterance,) = read_manifest_file(write(folder, cut(supervisions=[HELLO, other]))).utterances
    assert (utterance.speaker, utterance.fields["text"]) == (None, "HELLO THERE")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recording": STEREO}, "is one channel of several: save its audio with lhotse first"),
        ({"recording": RESAMPLED}, "is changed when it is read (transforms): save its audio with"),
        ({"recording": COMMAND}, "is no recording in one file: its sources are command"),
        ({"recording": {**RECORDING, "sources": RECORDING["sources"] * 2}}, "is no recording in"),  # type: ignore[operator]
        ({"recording": None}, "is a cut without a recording"),
        ({"type": "MixedCut", "tracks": []}, "is a MixedCut: save its audio with lhotse first"),
        ({"type": "PaddingCut"}, "is a PaddingCut: save its audio with lhotse first"),
    ],
)
def test_what_is_no_plain_part_of_one_file_is_skipped(
    folder: Path, changes: dict[str, Any], reason: str
) -> None:
    corpus = read_manifest_file(write(folder, cut(), cut(id="other", **changes)))
    assert [each.key for each in corpus.utterances] == ["a-0"]
    (skip,) = corpus.skipped
    assert skip.source == "other"
    assert skip.reason.startswith(reason)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"id": "a", "recording_id": "a"}, ":2 is no cut, unlike the first line: it has id, rec"),
        (cut(id="b", start="soon"), ":2 is not a cut as lhotse writes it: ValueError: could not"),
        (cut(id="b", recording={"sources": ["x"]}), ":2 is not a cut as lhotse writes it: Attr"),
        (
            cut(id="b", recording={**RECORDING, "sampling_rate": 0}),
            ":2 is not a cut as lhotse writes it: ZeroDivisionError",
        ),
        (
            cut(id="b", recording={**RECORDING, "sources": [{"type": "file", "source": ["x"]}]}),
            ":2 is not a cut as lhotse writes it: TypeError: path is a list",
        ),
        (cut(id="b", supervisions=["x"]), ":2 is not a cut as lhotse writes it: AttributeError"),
    ],
)
def test_a_line_of_another_form_is_named(
    folder: Path, document: dict[str, Any], message: str
) -> None:
    path = write(folder, cut(), document)
    with pytest.raises(InputError) as caught:
        read_manifest_file(path)
    assert str(caught.value).startswith(f"{path}{message}")
