import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aalbert.cli import main
from aalbert.errors import ConfigError, InputError
from aalbert.pipeline.corpora.corpus import AUDIO_SUFFIXES, Utterance, scan_files
from aalbert.pipeline.corpora.folder import FolderOptions, read_folder
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.plan import make_plan, plan_fingerprint
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards import Dataset
from aalbert.shards.format.feature_settings import LogMelSettings

CONFIG = PrepareConfig(features=(LogMelSettings(),))
NAMES = [
    "plain.wav",
    "two words.wav",
    "dots.in.the.name.wav",
    "שלום עולם.wav",
    "日本語/東京.wav",
    "caf\u00e9.wav",
    "cafe\u0301.wav",
    "a/b-c.wav",
    "a-b/c.wav",
    "=cmd().wav",
    "line\nbreak.wav",
    "quote\"s'.wav",
    "pipe|.wav",
    "x.flac",
    "x.wav",
    "n" * 251 + ".wav",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two speakers in two splits; the files are found, not read."""
    root = tmp_path / "corpus"
    for name in ("train/anna/1.wav", "train/ben/1.flac", "test/anna/2.wav"):
        write(root / name)
    return root


def write(path: Path, content: bytes = b"audio") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def by_source(root: Path, options: FolderOptions) -> dict[str, Utterance]:
    return {each.source: each for each in read_folder(root, options).utterances}


def options(**values: object) -> FolderOptions:
    return FolderOptions(**values)  # type: ignore[arg-type]


def test_without_options_speakers_are_unknown_with_a_note(folder: Path) -> None:
    corpus = read_folder(folder, FolderOptions())
    assert {(u.key, u.split, u.speaker, u.size) for u in corpus.utterances} == {
        ("train-anna-1", "all", None, 5),
        ("train-ben-1--flac", "all", None, 5),
        ("test-anna-2", "all", None, 5),
    }
    assert corpus.fields == ()
    assert corpus.notes == ("the speakers are unknown: say where they are with --speaker-level",)


@pytest.mark.parametrize(("speaker", "split"), [(2, 1), (-1, -2), (-1, 1), (2, -2)])
def test_levels_count_from_the_root_or_from_the_file(
    folder: Path, speaker: int, split: int
) -> None:
    found = by_source(folder, options(speaker_level=speaker, split_level=split))
    for source, utterance in found.items():
        assert [utterance.split, utterance.speaker] == source.split("/")[:2]
        assert utterance.path == folder / source
    assert len(found) == 3


def test_a_file_less_deep_than_the_level_is_skipped_with_the_reason(folder: Path) -> None:
    write(folder / "train/3.wav")
    for level in (2, -2):
        corpus = read_folder(folder, options(speaker_level=level))
        assert [(skip.source, skip.reason) for skip in corpus.skipped] == [
            ("train/3.wav", f"lies less deep than --speaker-level {level}")
        ]
        assert len(corpus.utterances) == 3


def test_a_pattern_gives_speaker_split_and_columns(folder: Path) -> None:
    pattern = r"^(?P<split>\w+)/(?P<speaker>\w+)/(?P<take>\d)\.(?P<kind>wav)?"
    corpus = read_folder(folder, options(speaker_pattern=pattern))
    assert corpus.fields == ("take", "kind")
    assert {(u.split, u.speaker, *u.fields.values()) for u in corpus.utterances} == {
        ("train", "anna", "1", "wav"),
        ("train", "ben", "1", None),
        ("test", "anna", "2", "wav"),
    }
    assert corpus.notes == ()


def test_a_pattern_and_a_level_may_give_different_labels(folder: Path) -> None:
    found = by_source(folder, options(speaker_pattern="/(?P<speaker>an)", split_level=1))
    assert {(u.split, u.speaker) for u in found.values()} == {("train", "an"), ("test", "an")}


def test_a_path_that_does_not_match_is_skipped_with_the_reason(folder: Path) -> None:
    corpus = read_folder(folder, options(speaker_pattern="(?P<speaker>anna)"))
    assert [(skip.source, skip.reason) for skip in corpus.skipped] == [
        ("train/ben/1.flac", "path does not match --speaker-pattern")
    ]


def test_a_group_that_takes_no_part_is_an_unknown_speaker_and_no_split(folder: Path) -> None:
    found = by_source(folder, options(speaker_pattern="(?P<speaker>anna)?/"))
    assert {u.speaker for u in found.values()} == {None}
    corpus = read_folder(folder, options(speaker_pattern=r"(?P<split>test)?/\w+/"))
    assert {skip.reason for skip in corpus.skipped} == {
        "the group 'split' of --speaker-pattern is empty"
    }
    assert [u.split for u in corpus.utterances] == ["test"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"speaker_level": 0},
            "--speaker-level 0 is no folder: 1 is the first below the root, -1 the one that holds "
            "the file",
        ),
        (
            {"split_level": 0},
            "--split-level 0 is no folder: 1 is the first below the root, -1 the one that holds "
            "the file",
        ),
        (
            {"speaker_pattern": "(?P<speaker>"},
            "--speaker-pattern '(?P<speaker>' is not a regular expression: missing ), "
            "unterminated subpattern at position 0",
        ),
        (
            {"speaker_pattern": r"(\w+)/"},
            r"--speaker-pattern '(\w+)/' has no named group: mark what is the speaker, as in "
            "(?P<speaker>[^/]+)/",
        ),
        (
            {"speaker_pattern": "(?P<speaker>x)", "speaker_level": -1},
            "--speaker-level -1 and the group 'speaker' of --speaker-pattern both say the "
            "speaker: leave one out",
        ),
        (
            {"speaker_pattern": "(?P<split>x)", "split_level": 1},
            "--split-level 1 and the group 'split' of --speaker-pattern both say the split: "
            "leave one out",
        ),
        (
            {"speaker_pattern": "(?P<shard>x)"},
            "--speaker-pattern has the group 'shard', which the index of a dataset needs for "
            "itself: give the group another name",
        ),
    ],
    ids=["speaker 0", "split 0", "pattern", "no group", "speaker twice", "split twice", "taken"],
)
def test_options_without_a_meaning_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**values)
    assert str(caught.value) == message


def test_a_split_that_is_no_safe_folder_is_refused_with_its_first_file(folder: Path) -> None:
    write(folder / "two words/anna/1.wav")
    write(folder / "two words/anna/2.wav")
    with pytest.raises(InputError, match="^two words/anna/1.wav would be in the split 'two words'"):
        read_folder(folder, options(split_level=1))


def test_a_folder_without_audio_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    write(tmp_path / "readme.txt")
    with pytest.raises(InputError) as caught:
        read_folder(tmp_path, FolderOptions())
    assert str(caught.value) == (
        f"no audio files below {tmp_path}: expected files in {', '.join(sorted(AUDIO_SUFFIXES))}"
    )


def test_a_folder_without_usable_audio_is_refused_with_an_example(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_folder(folder, options(speaker_level=3))
    assert str(caught.value) == (
        f"none of the 3 audio files below {folder} can be taken; for example test/anna/2.wav: "
        "lies less deep than --speaker-level 3"
    )


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder .*: expected a folder with audio"):
        read_folder(tmp_path / "x", FolderOptions())


@pytest.mark.parametrize("spell", [str, lambda root: f"{root}/", os.path.relpath])
def test_sources_keys_and_plan_do_not_depend_on_how_the_folder_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spell: Callable[[Path], str]
) -> None:
    monkeypatch.chdir(folder.parent)
    expected = plan_fingerprint(read_folder(folder, FolderOptions()), CONFIG)
    assert plan_fingerprint(read_folder(Path(spell(folder)), FolderOptions()), CONFIG) == expected
    monkeypatch.chdir(folder)
    assert plan_fingerprint(read_folder(Path("."), FolderOptions()), CONFIG) == expected


def test_a_key_stays_when_files_with_like_names_come(folder: Path) -> None:
    before = by_source(folder, FolderOptions())
    for name in ("train/anna/1.flac", "train-anna/1.wav", "train/anna-1.wav", "test/anna-2.wav"):
        write(folder / name)
    after = by_source(folder, FolderOptions())
    assert {source: after[source].key for source in before} == {
        source: each.key for source, each in before.items()
    }
    assert len({each.key for each in after.values()}) == 7


def test_every_name_a_disk_can_hold_survives_into_the_index(tmp_path: Path) -> None:
    noise = np.random.default_rng(7).uniform(-0.5, 0.5, 1_600)
    for name in NAMES:
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise, 16_000)
    corpus = read_folder(tmp_path / "corpus", options(speaker_pattern="(?P<speaker>.*)"))
    prepare(
        corpus,
        tmp_path / "data",
        CONFIG,
        PrepareLimits(engine=LocalEngine(workers=1), max_skipped=0.0),
    )
    dataset = Dataset(tmp_path / "data")
    assert sorted(map(str, dataset.column("source"))) == sorted(NAMES)
    # Without DOTALL a dot does not match a line break.
    assert sorted(map(str, dataset.column("speaker"))) == sorted(
        name.split("\n")[0] for name in NAMES
    )
    assert {(u.source, u.key) for u in corpus.utterances} == set(
        zip(dataset.column("source"), dataset.column("key"), strict=True)
    )


def test_a_name_that_is_not_utf_8_is_skipped_and_shown_with_its_bytes(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    try:
        write(folder / name)
    except OSError:
        pytest.skip("this disk takes names in UTF-8 only")
    (skip,) = read_folder(folder, FolderOptions()).skipped
    assert (skip.source, skip.reason) == (r"caf\xe9.wav", "name is not UTF-8")
    skip.source.encode("utf-8")


def test_a_broken_link_is_skipped_with_the_reason(folder: Path) -> None:
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "self.wav").symlink_to(folder / "self.wav")
    assert {
        (skip.source, skip.reason) for skip in read_folder(folder, FolderOptions()).skipped
    } == {
        ("gone.wav", "is a link to a file that is not there"),
        ("self.wav", "is a link to a file that is not there"),
    }


def test_a_pipe_named_like_audio_is_skipped_and_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "pipe.wav")
    (skip,) = read_folder(folder, FolderOptions()).skipped
    assert (skip.source, skip.reason) == ("pipe.wav", "is not a file but a folder or a device")


def test_links_to_folders_are_followed_but_never_in_a_loop(folder: Path) -> None:
    (folder / "train/anna/up").symlink_to(folder)
    (folder / "train/here").symlink_to(folder / "train")
    (folder / "test/both").symlink_to(folder / "train/ben")
    assert sorted(by_source(folder, FolderOptions())) == [
        "test/anna/2.wav",
        "test/both/1.flac",
        "train/anna/1.wav",
        "train/ben/1.flac",
    ]


def test_a_loop_that_leaves_the_folder_ends(tmp_path: Path) -> None:
    write(tmp_path / "outside/inner/1.wav")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/link").symlink_to(tmp_path / "outside/inner")
    (tmp_path / "outside/inner/back").symlink_to(tmp_path / "outside")
    names = [
        path.relative_to(tmp_path).as_posix() for path in map(Path, scan_files(tmp_path / "corpus"))
    ]
    assert names == ["corpus/link/1.wav"]


def test_audio_is_found_as_a_plain_walk_finds_it(folder: Path) -> None:
    for name in ("b.WAV", "a/z.mp3", "a.wav/inner.opus", "._x.wav", "a/notes.txt", "wav"):
        write(folder / name)
    walked = [
        Path(parent, name)
        for parent, folders, names in os.walk(folder)
        if folders.sort() is None
        for name in sorted(names)
        if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith("._")
    ]
    assert list(map(Path, scan_files(folder))) == walked
    assert len(walked) == 6


def test_a_very_deep_folder_is_read(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(1_200):
        deep = deep / "d"
        deep.mkdir()
    write(deep / "1.wav")
    (utterance,) = read_folder(tmp_path, FolderOptions()).utterances
    assert utterance.source == f"{'d/' * 1_200}1.wav"
    # The cleanup after the tests would fail at this depth.
    (deep / "1.wav").unlink()
    while deep != tmp_path:
        deep.rmdir()
        deep = deep.parent


def test_a_folder_that_cannot_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> "AbstractContextManager[Iterator[os.DirEntry[str]]]":
        if path.endswith("ben"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError) as caught:
        read_folder(folder, FolderOptions())
    assert str(caught.value) == (
        f"the folder {folder}/train/ben cannot be read (Permission denied): change its "
        "permissions, or move it elsewhere"
    )


@pytest.mark.parametrize(
    ("speakers", "limit"), [(20, 3.0), pytest.param(1_000, 30.0, marks=pytest.mark.slow)]
)
def test_a_large_folder_is_planned_in_seconds(tmp_path: Path, speakers: int, limit: float) -> None:
    for speaker in range(speakers):
        folder = tmp_path / f"speaker {speaker:04d}"
        folder.mkdir()
        for number in range(100):
            (folder / f"take-{number}.flac").touch()
    started = time.process_time()
    corpus = read_folder(tmp_path, options(speaker_level=1))
    found = time.process_time()
    tasks = make_plan(corpus, CONFIG)
    planned = time.process_time()
    plan_fingerprint(corpus, CONFIG)
    hashed = time.process_time()
    print(
        f"{100 * speakers} files: read_folder {found - started:.2f} s, make_plan "
        f"{planned - found:.2f} s, plan_fingerprint {hashed - planned:.2f} s"
    )
    assert sum(len(task.utterances) for task in tasks) == 100 * speakers
    assert hashed - started < limit


@pytest.mark.parametrize("suffix", [".m4a", ".AAC", ".wma", ".webm"])
def test_audio_that_is_not_decoded_is_skipped_with_the_way_to_convert_it(
    tmp_path: Path, suffix: str
) -> None:
    write(tmp_path / "plain.wav")
    write(tmp_path / "two words" / f"talk{suffix}")
    corpus = read_folder(tmp_path, options())
    assert [(skip.source, skip.reason) for skip in corpus.skipped] == [
        (
            f"two words/talk{suffix}",
            f"is {suffix} audio, which must be converted with ffmpeg first: "
            f"ffmpeg -i 'two words/talk{suffix}' -ac 1 -ar 16000 'two words/talk.flac'",
        )
    ]
    write(tmp_path / "two words" / "talk.flac")
    corpus = read_folder(tmp_path, options())
    assert [u.source for u in corpus.utterances] == ["plain.wav", "two words/talk.flac"]
    assert corpus.skipped == ()


def test_suffixes_may_be_in_capitals(tmp_path: Path) -> None:
    for name in ("a.WAV", "b.Flac", "c.MP3"):
        write(tmp_path / name)
    assert [u.source for u in read_folder(tmp_path, options()).utterances] == [
        "a.WAV",
        "b.Flac",
        "c.MP3",
    ]


def test_libritts_is_prepared_with_its_splits_and_speakers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "LibriTTS", tmp_path / "data"
    names = {
        ("train-clean-100", "19"): "train-clean-100/19/198/19_198_000000_000000",
        ("train-clean-100", "103"): "train-clean-100/103/1240/103_1240_000001_000002",
        ("dev-clean", "84"): "dev-clean/84/121123/84_121123_000007_000001",
    }
    for name in names.values():
        path = root / f"{name}.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.full(12_000, 0.1), 24_000)
        for text in (".normalized.txt", ".original.txt"):
            path.with_suffix(text).write_text("Words.")
    (root / "train-clean-100" / "19" / "198" / "19_198.trans.tsv").write_text("x\tWords.\n")
    (root / "speakers.tsv").write_text("READER\tGENDER\n")
    levels = ["--split-level", "1", "--speaker-level", "2"]
    command = ["prepare", "folder", str(root), *levels, "--out", str(out), "--workers", "1"]
    assert main(command) == 0
    assert "3 utterances" in capsys.readouterr().out
    dataset = Dataset(out)
    columns = (dataset.column(name) for name in ("split", "speaker", "source"))
    found = {(split, speaker): source for split, speaker, source in zip(*columns, strict=True)}
    assert found == {labels: f"{name}.wav" for labels, name in names.items()}
