from pathlib import Path

import pytest

from aalbert.pipeline.corpora.synthesis import write_voxceleb1
from aalbert.pipeline.corpora.voxceleb1 import read_voxceleb1
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.prepare import prepare
from aalbert.shards.format.feature_settings import LogMelSettings
from benchmarks import ladder
from benchmarks.ladder import Places, climb, measure, tables
from benchmarks.speedrun import read_lines

QUICK = (
    *("steps=6", "validate_every_steps=3", "data.batch_seconds=4", "data.crop_seconds=1"),
    *("encoder.width=16", "encoder.heads=2", "encoder.feed_forward_width=32"),
)


def line(name: str, correct: list[int], **more: object) -> dict[str, object]:
    """Return a line of four utterances of two sessions, 100 frames each, with two states."""
    states = [[10, 10, 10, 10], correct]
    return {
        "name": name,
        "linear": states,
        "hidden": states[1:],
        "scored": [100] * 4,
        "session": [0, 0, 1, 1],
        **more,
    }


def test_differences_are_paired_by_seed_and_resample_sessions() -> None:
    lines = [
        line("log-mel, 1 frame", [40, 40, 50, 50]),
        *(line("AALBERT", [60 + s, 60, 60, 60], minutes=3, seed=s) for s in (0, 1, 2)),
        line("AALBERT, untrained", [50, 50, 50, 50], minutes=3, seed=1),
    ]
    untrained, plain = ladder.differences(lines)
    assert untrained[:3] == ["3", "AALBERT - AALBERT, untrained", "+10.2"]
    assert plain[:3] == ["3", "AALBERT - log-mel, 1 frame", "+15.0, +15.2, +15.5"]
    # Only the first session, or only the second; means over seeds.
    assert plain[3] == "+10.0 to +20.5"


def test_a_row_has_the_median_and_the_range_of_its_seeds() -> None:
    own = [
        line("AALBERT", [share] * 4, minutes=3, seed=seed)
        for seed, share in enumerate((60, 64, 61))
    ]
    assert ladder.cells(ladder.shares(own, "linear")) == ["10.0 [10.0..10.0]", "61.0 [60.0..64.0]"]


def test_one_model_alone_is_pretrained_on_the_utterances_to_test_on() -> None:
    reading = [
        name
        for name in ladder.MODELS
        if "data.exclude=labels/test_list.txt"
        not in ladder.pretrain_settings(name, 1, Path("labels"))
    ]
    assert reading == ["AALBERT, test read too"]
    assert ladder.pretrain_settings(reading[0], 1, Path("labels")) == ["seed=1"]


@pytest.mark.slow
def test_a_rung_is_climbed_and_measured_once(
    phone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ladder.MODELS, "AALBERT", QUICK)
    monkeypatch.setattr(ladder, "HIDDEN", 8)
    monkeypatch.setattr(ladder, "SPEAKER_SETTINGS", ("epochs=1", "batch_seconds=4"))
    write_voxceleb1(
        tmp_path / "corpus",
        speakers=2,
        videos_per_speaker=2,
        utterances_per_video=2,
        seed=0,
        seconds=(1.0, 1.5),
    )
    config = PrepareConfig(features=(LogMelSettings(),))
    prepare(read_voxceleb1(tmp_path / "corpus"), tmp_path / "studio", config)
    places = Places(phone_corpus / "data", phone_corpus, tmp_path / "studio", tmp_path)
    for _ in range(2):
        measure(places, {"name": "log-mel, 5 frames"}, "logmel", ["phones"])
        measure(places, {"name": "log-mel, 1 frame"}, "logmel")
        climb(places, 3, "AALBERT", 0)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["aalbert-3-0"]
    phones, speakers = (
        {line["name"]: line for line in read_lines(tmp_path / f"{what}.jsonl")}
        for what in ("phones", "speakers")
    )
    names = ["log-mel, 1 frame", "AALBERT", "AALBERT, untrained"]
    assert list(phones) == ["log-mel, 5 frames", *names] and list(speakers) == names
    assert [len(line["linear"]) for line in phones.values()] == [1, 1, 4, 4]
    assert phones["AALBERT"]["linear"] != phones["AALBERT, untrained"]["linear"]
    assert [len(line["states"]) for line in speakers.values()] == [1, 4, 4]
    losses, accuracies, differences, mixes = tables(tmp_path)
    assert losses.splitlines()[2].startswith("| 3 | AALBERT | ")
    assert len(accuracies.splitlines()) == 6
    assert len(differences.splitlines()) == len(mixes.splitlines()) == 5
