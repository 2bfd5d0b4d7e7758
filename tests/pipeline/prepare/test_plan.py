from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aalbert.errors import ConfigError, InputError
from aalbert.pipeline.corpora.corpus import Corpus, Utterance
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.plan import make_plan, plan_fingerprint, stored_bytes
from aalbert.shards.format.feature_settings import FbankSettings, FeatureSettings, LogMelSettings
from aalbert.shards.format.wave_settings import WaveSettings

CONFIG = PrepareConfig(features=(LogMelSettings(),), shard_bytes=2**20)
# A feature of 80 numbers, 100 times a second, in 2 bytes each; WAV has 32,000 bytes a second.
STORED_SHARE_OF_WAV = 0.5


def make_corpus(sizes: Sequence[tuple[str, int]], root: str = "/corpus") -> Corpus:
    return Corpus(
        name="test",
        root=Path(root),
        fields=(),
        utterances=tuple(
            Utterance(
                key=f"k{number}",
                split=split,
                source=f"{number}.wav",
                path=Path(root, f"{number}.wav"),
                size=size,
            )
            for number, (split, size) in enumerate(sizes)
        ),
    )


CORPORA = st.lists(
    st.tuples(st.sampled_from(["dev", "test", "train"]), st.integers(0, 3_000_000)), max_size=60
).map(make_corpus)


@given(CORPORA)
def test_the_plan_holds_every_utterance_once_in_its_split(corpus: Corpus) -> None:
    tasks = make_plan(corpus, CONFIG)
    planned = [(task.split, u.key) for task in tasks for u in task.utterances]
    assert sorted(planned) == sorted((u.split, u.key) for u in corpus.utterances)
    assert all(task.utterances for task in tasks)


@given(CORPORA)
def test_the_shards_of_a_split_are_numbered_from_zero(corpus: Corpus) -> None:
    names = [task.name for task in make_plan(corpus, CONFIG)]
    for split in ("dev", "test", "train"):
        own = [name for name in names if name.startswith(split)]
        assert own == [f"{split}/{number:06d}" for number in range(len(own))]


@given(CORPORA, st.randoms())
def test_the_plan_does_not_depend_on_the_order_of_the_files(corpus: Corpus, random: Random) -> None:
    shuffled = list(corpus.utterances)
    random.shuffle(shuffled)
    again = replace(corpus, utterances=tuple(shuffled))
    assert make_plan(again, CONFIG) == make_plan(corpus, CONFIG)


def test_shards_are_of_about_equal_size_and_near_the_requested_one() -> None:
    corpus = make_corpus([("train", 200_000 + 1_000 * (n % 90)) for n in range(400)])
    sizes = [
        sum(u.size * STORED_SHARE_OF_WAV for u in task.utterances)
        for task in make_plan(corpus, CONFIG)
    ]
    assert max(sizes) < 1.2 * CONFIG.shard_bytes
    assert min(sizes) > 0.7 * CONFIG.shard_bytes


def test_every_shard_is_a_sample_of_the_whole_split() -> None:
    corpus = make_corpus([("train", 200_000)] * 400)
    tasks = make_plan(corpus, CONFIG)
    for task in tasks:
        numbers = [int(u.key[1:]) for u in task.utterances]
        assert max(numbers) - min(numbers) > 100


def test_a_small_split_is_divided_so_that_several_workers_have_work() -> None:
    corpus = make_corpus([("train", 1_000_000)] * 40)
    assert 4 <= len(make_plan(corpus, PrepareConfig(features=CONFIG.features))) <= 16


def test_the_estimate_of_a_part_that_starts_late_is_the_rest_of_its_file() -> None:
    (whole,) = make_corpus([("train", 320_000)]).utterances
    numbers_per_second = 100 * 80
    parts = {None: 6.0, 5.0: 1.0}
    for end, seconds in parts.items():
        part = replace(whole, start=4.0, end=end)
        assert stored_bytes(part, CONFIG.features) == seconds * numbers_per_second * 2
    assert stored_bytes(replace(whole, start=1e6), CONFIG.features) > 0


@pytest.mark.parametrize("end", [1e6, 1e12, 1e308])
def test_an_end_far_beyond_a_recording_makes_no_more_shards_than_the_file_could_fill(
    end: float,
) -> None:
    corpus = make_corpus([("a", 32_000 * 60)])
    far = replace(corpus, utterances=(replace(corpus.utterances[0], end=end),))
    assert stored_bytes(far.utterances[0], CONFIG.features) <= 16_000 * far.utterances[0].size
    (task,) = make_plan(far, CONFIG)
    assert task.utterances == far.utterances


def test_two_files_with_one_key_are_both_named() -> None:
    corpus = make_corpus([("train", 1), ("dev", 1)])
    twice = tuple(replace(u, key="k") for u in corpus.utterances)
    with pytest.raises(InputError) as caught:
        make_plan(replace(corpus, utterances=twice), CONFIG)
    assert str(caught.value) == (
        "two files have the key 'k': /corpus/0.wav and /corpus/1.wav; remove one of them"
    )


def test_the_fingerprint_of_a_plan_does_not_depend_on_where_the_corpus_lies() -> None:
    sizes = [("train", 5), ("dev", 6)]
    assert plan_fingerprint(make_corpus(sizes, "/a"), CONFIG) == plan_fingerprint(
        make_corpus(sizes, "/b/c"), CONFIG
    )


def test_whatever_decides_the_bytes_changes_the_fingerprint_of_the_plan() -> None:
    corpus = make_corpus([("train", 5), ("dev", 6)])
    first, second = corpus.utterances
    corpora = [
        corpus,
        replace(corpus, utterances=(first,)),
        *(
            replace(corpus, utterances=(replace(first, **change), second))
            for change in (
                {"key": "x"},
                {"split": "test"},
                {"size": 7},
                {"speaker": "x"},
                {"fields": {"text": "x"}},
                {"source": "x.wav"},
                {"start": 1.0},
                {"end": 2.0},
            )
        ),
    ]
    configs = [
        replace(CONFIG, features=(FbankSettings(),)),
        replace(CONFIG, features=(LogMelSettings(mels=40),)),
        replace(CONFIG, shard_bytes=2**21),
        replace(CONFIG, strict_audio=True),
    ]
    prints = [plan_fingerprint(each, CONFIG) for each in corpora]
    prints += [plan_fingerprint(corpus, config) for config in configs]
    assert len(set(prints)) == len(corpora) + len(configs)


@pytest.mark.parametrize(
    ("features", "text"),
    [
        ((), "no feature is asked for: name at least one"),
        (
            (LogMelSettings(), LogMelSettings(mels=40)),
            "a feature is named twice: logmel, logmel",
        ),
        (
            (LogMelSettings(), FbankSettings(sample_rate=8_000)),
            "the features of a dataset share one sample_rate, these do not: "
            "logmel has 16000, fbank has 8000",
        ),
        (
            (LogMelSettings(wave=WaveSettings(gain_db=3.0)), FbankSettings()),
            "the features of a dataset share one wave, these do not: "
            "logmel has WaveSettings(silence=None, gain_db=3.0, loudness_db=None), "
            "fbank has WaveSettings(silence=None, gain_db=0.0, loudness_db=None)",
        ),
    ],
)
def test_features_of_different_waves_are_refused(
    features: tuple[FeatureSettings, ...], text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        PrepareConfig(features=features)
    assert str(caught.value) == text
