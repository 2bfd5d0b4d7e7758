import numpy as np
import pytest
import torch

from aalbert.shards.format.feature_settings import FbankSettings, FeatureSettings, LogMelSettings
from aalbert.train.downstream.inputs import stacked_times
from aalbert.train.downstream.label_grid import LabelGrid, nearest_frames
from aalbert.train.downstream.labels import ColumnLabels
from aalbert.train.downstream.phones import FrameLabels, label_places


@pytest.mark.parametrize("stacked", [1, 2, 3, 5])
@pytest.mark.parametrize("shift_ms", [10.0, 20.0])
@pytest.mark.parametrize("settings", [LogMelSettings(), FbankSettings()], ids=["logmel", "fbank"])
def test_a_label_frame_has_the_frame_whose_centre_is_nearest(
    settings: FeatureSettings, shift_ms: float, stacked: int
) -> None:
    found = nearest_frames(40, stacked_times(settings, stacked), label_shift_ms=shift_ms)
    stored = settings.centres_ms(np.arange(0.0, 200 * stacked)).reshape(200, stacked)
    for label, frame in enumerate(found):
        distances = np.abs(stored.mean(axis=1) - (label + 0.5) * shift_ms).round(6)
        assert frame == distances.argmin()


@pytest.mark.parametrize("settings", [LogMelSettings(), FbankSettings()], ids=["logmel", "fbank"])
def test_frames_as_long_as_labels_are_nearest_to_the_label_they_take(
    settings: FeatureSettings,
) -> None:
    times = stacked_times(settings, 1)
    labels = label_places(30, times, label_shift_ms=10.0)
    frames = nearest_frames(40, times, label_shift_ms=10.0)
    assert frames[labels].tolist() == list(range(30))


def test_every_label_frame_is_compared_with_the_frame_of_its_time() -> None:
    # Row 0 is of another part; row 1 has seven label frames, row 2 four.
    labels = FrameLabels(
        ["a", "b"],
        torch.tensor([0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0], dtype=torch.int16),
        torch.tensor([0, 0, 7]),
        torch.tensor([0, 7, 4]),
        torch.arange(7),
    )
    nearest = torch.tensor([0, 0, 0, 1, 1, 1, 2])
    grid = LabelGrid(labels, labels.count, nearest)
    # Row 2 comes first; it has one frame, of which the fourth label frame is past the end.
    scored, correct = grid.count_correct(
        torch.tensor([2, 1]), torch.tensor([1, 2]), torch.tensor([[1, 0], [0, 1]])
    )
    assert scored.tolist() == [4, 7]
    # 1110 as 1 1 1 1; 0011101 as 000 111 and 1, the last frame, once more.
    assert correct.tolist() == [3, 5]


def test_a_label_of_a_whole_utterance_holds_for_all_its_label_frames() -> None:
    grid = LabelGrid(
        ColumnLabels(["a", "b"], torch.tensor([1, 0])),
        torch.tensor([5, 2]),
        torch.tensor([0, 0, 1, 1, 2]),
    )
    scored, correct = grid.count_correct(
        torch.tensor([0, 1]), torch.tensor([3, 1]), torch.tensor([[1, 0, 1], [0, 1, 1]])
    )
    assert scored.tolist() == [5, 2] and correct.tolist() == [3, 2]


def test_checksums_tell_labels_apart_and_not_upstreams() -> None:
    def checksums(classes: list[int], nearest: list[int]) -> list[int]:
        labels = FrameLabels(
            ["a", "b"],
            torch.tensor(classes, dtype=torch.int16),
            torch.tensor([0, 4]),
            torch.tensor([4, 3]),
            torch.arange(4),
        )
        grid = LabelGrid(labels, labels.count, torch.tensor(nearest))
        # Alone and beside a longer one a row has the same.
        alone = [int(grid.checksums(torch.tensor([row]))[0]) for row in (1, 0)]
        assert grid.checksums(torch.tensor([1, 0])).tolist() == alone
        return alone

    one = checksums([0, 1, 1, 0, 1, 0, 1], [0, 1, 2, 3])
    assert one == checksums([0, 1, 1, 0, 1, 0, 1], [0, 0, 1, 1])
    other = checksums([0, 1, 1, 0, 0, 1, 1], [0, 1, 2, 3])
    assert one[0] != other[0] and one[1] == other[1]
