from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from aalbert.errors import ConfigError
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.shards.loading.config import OrderConfig
from aalbert.shards.loading.epoch_plan import Plan
from aalbert.shards.loading.order import Rows, choose_static_lengths, padded_shape


def padded_frames(frames: list[int], lengths: tuple[int, ...]) -> int:
    return sum(min(length for length in lengths if length >= own) for own in frames)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 5))
def test_no_other_lengths_take_less_padding(frames: list[int], count: int) -> None:
    """Against all choices there are."""
    lengths = choose_static_lengths(np.array(frames), count, multiple=5)
    possible = sorted({-(-own // 5) * 5 for own in frames})
    best = min(
        padded_frames(frames, (*some, possible[-1]))
        for size in range(count)
        for some in combinations(possible[:-1], min(size, len(possible) - 1))
    )
    assert len(lengths) <= count
    assert lengths == tuple(sorted(set(lengths)))
    assert lengths[-1] == possible[-1]
    assert padded_frames(frames, lengths) == best


def test_lengths_without_a_number_or_utterances_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 lengths were asked for: give 1 or more"):
        choose_static_lengths(np.array([5]), 0)
    with pytest.raises(ConfigError, match="no utterance to choose lengths for"):
        choose_static_lengths(np.array([], np.int64), 3)


def efficiency(frames: Rows, config: OrderConfig) -> float:
    """The share of the frames in an epoch's batches that are speech."""
    plan = Plan(frames, np.arange(len(frames)) // 1300, config)
    batches = [step.batches[0] for step in plan.rest_of_epoch(0, 1)]
    taken = sum(
        np.prod(padded_shape(len(batch), int(frames[batch].max()), config)) for batch in batches
    )
    return float(frames.sum() / taken)


def test_sixteen_static_shapes_hold_95_percent_speech() -> None:
    """Durations like LibriSpeech's: many of 12 to 16 s, shorter ones, a few up to 35 s."""
    draws = np.random.default_rng(3)
    many, short = draws.normal(1420, 130, 15_000), draws.uniform(140, 1300, 12_000)
    frames = np.clip(np.concatenate([many, short]), 140, 3500).astype(np.int64)
    draws.shuffle(frames)
    lengths = choose_static_lengths(frames, 16)
    config = OrderConfig(frames_per_batch=48_000, static_lengths=lengths)
    assert efficiency(frames, config) > 0.95
    assert efficiency(frames, OrderConfig(frames_per_batch=48_000)) > 0.98


def test_the_durations_of_librispeech_make_little_padding(shared: Path) -> None:
    """Those of 520 recordings, many times over, as in the whole corpus."""
    found = read_librispeech(shared / "data" / "LibriSpeech").utterances
    frames = np.array([soundfile.info(item.path).frames // 160 + 1 for item in found])
    frames = np.random.default_rng(1).permutation(np.tile(frames, 50))
    lengths = choose_static_lengths(frames, 16)
    assert efficiency(frames, OrderConfig(frames_per_batch=24_000, static_lengths=lengths)) > 0.95
    assert efficiency(frames, OrderConfig(frames_per_batch=24_000)) > 0.97
