import numpy as np

from aalbert.shards.format.manifest import FeatureStatistics
from aalbert.shards.format.statistics import combine_statistics


def measured(frames: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> FeatureStatistics:
    return FeatureStatistics(
        frames=len(frames),
        mean=tuple(frames.mean(axis=0).tolist()),
        std=tuple(frames.std(axis=0).tolist()),
    )


def test_combined_statistics_are_those_of_all_frames_together() -> None:
    draws = np.random.default_rng(2)
    parts = [draws.normal(number, 1 + number, (50 * number, 3)) for number in (1, 2, 3)]
    combined = combine_statistics([measured(part) for part in parts])
    expected = measured(np.concatenate(parts))
    assert combined.frames == expected.frames
    np.testing.assert_allclose(combined.mean, expected.mean)
    np.testing.assert_allclose(combined.std, expected.std)
