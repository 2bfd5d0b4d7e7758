from pathlib import Path

import numpy as np
import pytest
import torch

from aalbert.errors import ConfigError, InputError
from aalbert.shards.format.feature_settings import FbankSettings, FeatureSettings, LogMelSettings
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import LabelConfig
from aalbert.train.downstream.inputs import stacked_times
from aalbert.train.downstream.phones import (
    Alignment,
    FrameLabels,
    check_length,
    find_aligned,
    gather_labels,
    label_places,
    read_alignments,
)

SPECTROGRAM = LogMelSettings()


def places(frames: int, settings: FeatureSettings = SPECTROGRAM, *, stacked: int = 1) -> list[int]:
    found = label_places(frames, stacked_times(settings, stacked), label_shift_ms=10)
    return [int(place) for place in found]


def test_numbers_per_frame_are_read_for_the_wanted_utterances(tmp_path: Path) -> None:
    path = tmp_path / "converted_aligned_phones.txt"
    path.write_text("a 3 3 40\nb 1 1\n\n")
    found = read_alignments(str(path), ["a"], shift_ms=10, drop_stress=False)
    assert found == {"a": Alignment(["3", "3", "40"], 10)}


def test_frames_take_the_label_that_their_centre_lies_in() -> None:
    # Centred on 0, 10, 20 ms: labels begin there.
    assert places(4) == [0, 1, 2, 3]
    # Kaldi's windows of 25 ms are centred on 12.5, 22.5, ... ms.
    assert places(3, FbankSettings()) == [1, 2, 3]
    # Three frames a stack: centres at 10, 40, 70 ms.
    assert places(3, stacked=3) == [1, 4, 7]
    # Two frames a stack: centres at 5, 25, 45 ms.
    assert places(3, stacked=2) == [0, 2, 4]
    # A frame every 12.5 ms, labels every 10 ms: 0, 12.5, 25, 37.5, 50 ms.
    assert places(5, LogMelSettings(frame_shift_ms=12.5)) == [0, 1, 2, 3, 5]
    # 12.5 ms are 275 whole samples at 22,050 Hz, 12.47 ms: after 1,000 frames 28 ms less.
    coarse = LogMelSettings(sample_rate=22_050, fft_size=1024, frame_shift_ms=12.5)
    assert places(1001, coarse)[1000] == 1_000 * 275 * 100 // 22_050


def test_labels_of_a_batch_are_padded_and_the_last_one_goes_on() -> None:
    labels = gather_labels(
        4,
        np.array([1, 3]),
        [Alignment(["7", "7", "2"], 10), Alignment(["10"], 10)],
        label_places(4, stacked_times(SPECTROGRAM, 1), label_shift_ms=10),
    )
    assert isinstance(labels, FrameLabels) and labels.names == ["2", "7", "10"]
    targets = labels.targets(torch.tensor([3, 1]), torch.tensor([2, 4]), torch.zeros(2, 5, 3))
    assert targets.tolist() == [[2, 2, -1, -1, -1], [1, 1, 0, 0, -1]]
    assert labels.majority(np.array([1, 3])) == 1


def test_an_alignment_of_another_recording_is_refused() -> None:
    check_length("a", Alignment(["1"] * 100, 10), 1.04)
    with pytest.raises(InputError, match=r"'a' lasts 1\.00 s, its audio 1\.20 s: they are not of"):
        check_length("a", Alignment(["1"] * 100, 10), 1.2)


def test_the_phones_have_the_names_of_the_list_beside_the_file(tmp_path: Path) -> None:
    path, names = tmp_path / "alignments.txt", tmp_path / "phones.json"
    path.write_text("a 2 0 0 1\n")
    names.write_text('["AA1", "AA2", "SIL"]')
    found = read_alignments(str(path), ["a"], shift_ms=10, drop_stress=False)
    assert found["a"].phones == ["SIL", "AA1", "AA1", "AA2"]
    plain = read_alignments(str(path), ["a"], shift_ms=10, drop_stress=True)
    assert plain["a"].phones == ["SIL", "AA", "AA", "AA"]
    for text, message in (
        ('["AA"]', r"alignments\.txt:1 has the phone 2, phones\.json beside it names 0 to 0"),
        ('{"AA": 0}', r"phones\.json is not a list of names: expected the names of the phones"),
        ('["AA", "AA", "AE"]', r"phones\.json is empty or has a name twice: expected the names"),
        ("AA", r"phones\.json is not JSON \(.*\): expected the names of the phones 0, 1, 2"),
    ):
        names.write_text(text)
        with pytest.raises(InputError, match=message):
            read_alignments(str(path), ["a"], shift_ms=10, drop_stress=False)


def test_utterances_with_an_alignment_are_found_in_both_forms(
    librispeech_data: Path, tmp_path: Path
) -> None:
    dataset = Dataset(librispeech_data)
    keys = [dataset.key(row) for row in range(len(dataset))]
    (tmp_path / "grids" / "speaker").mkdir(parents=True)
    (tmp_path / "grids" / "speaker" / f"{keys[1]}.TextGrid").touch()
    (tmp_path / "phones.txt").write_text(f"{keys[1]} 1 2\n\n{keys[1]}0 1\n")
    for place in ("grids", "phones.txt"):
        classes = find_aligned(dataset, LabelConfig(alignments=str(tmp_path / place)))
        assert np.flatnonzero(classes == 0).tolist() == [1] and set(classes.tolist()) == {0, -1}
    with pytest.raises(InputError, match="there are no alignments at nowhere"):
        find_aligned(dataset, LabelConfig(alignments="nowhere"))
    with pytest.raises(ConfigError, match="labels.alignments is not set: name the folder or file"):
        find_aligned(dataset, LabelConfig())
    (tmp_path / "phones.txt").write_text("other 1 2\n")
    with pytest.raises(InputError, match=f"no alignment of any of the 24 .*, such as '{keys[0]}'"):
        find_aligned(dataset, LabelConfig(alignments=str(tmp_path / "phones.txt")))


def test_a_malformed_alignment_is_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "phones.txt"
    for wrong in ("x", "²", "9" * 5_000):
        path.write_text(f"a 1 2\nb {wrong}\n", "utf-8")
        with pytest.raises(InputError, match=rf"phones\.txt:2 is 'b {wrong[:58]}': expected 'KEY"):
            read_alignments(str(path), ["a", "b"], shift_ms=10, drop_stress=False)
