"""What an earlier run wrote and the disk lost is noticed and done again, never sealed."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aalbert.errors import InputError, IntegrityError, OutputInUseError
from aalbert.pipeline.corpora.attachment import attach
from aalbert.pipeline.corpora.corpus import Corpus
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare import prepare as prepare_module
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.finish import finish_dataset
from aalbert.pipeline.prepare.output import LocalOutput, Output
from aalbert.pipeline.prepare.prepare import PrepareLimits, finalize, prepare, prepare_part
from aalbert.pipeline.prepare.work_folder import Part
from tests.trees import tree

ENGINE = LocalEngine(workers=1)
ONE = PrepareLimits(engine=ENGINE)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 8
    path.write_bytes(content)


def swap(path: Path) -> None:
    other = next(each for each in sorted(path.parent.glob("*")) if each != path)
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


DAMAGES: list[Callable[[Path], None]] = [Path.unlink, empty, cut, flip, swap]
every_damage = pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)


@pytest.fixture(scope="module")
def corpus(librispeech_folder: Path) -> Corpus:
    return read_librispeech(librispeech_folder)


@pytest.fixture(scope="module")
def computed(
    corpus: Corpus, small_config: PrepareConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A dataset whose shards are all computed, by two parts, but which is not finished."""
    out = tmp_path_factory.mktemp("computed") / "data"
    for number in (1, 2):
        prepare_part(corpus, out, small_config, ENGINE, Part(number=number, count=2))
    return out


@every_damage
@pytest.mark.parametrize("kind", ["shard", "fragment"])
def test_damage_between_two_runs_is_mended_by_the_second(
    damage: Callable[[Path], None],
    kind: str,
    computed: Path,
    corpus: Corpus,
    small_config: PrepareConfig,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = Path(shutil.copytree(computed, tmp_path / "data"))
    place = out if kind == "shard" else out / ".prepare"
    damage(sorted(place.glob("train-clean-100/*.*"))[1])
    prepare(corpus, out, small_config, ONE)
    assert tree(out) == tree(prepared)
    lost_fragment = kind == "fragment" and damage is Path.unlink
    assert lost_fragment or ".tar is not what an earlier run wrote: it is done again" in (
        capsys.readouterr().err
    )


@every_damage
def test_finalize_names_shards_that_are_not_what_was_written(
    damage: Callable[[Path], None], computed: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(computed, tmp_path / "data"))
    damage(sorted(out.glob("train-clean-100/*.tar"))[1])
    with pytest.raises(OutputInUseError, match=r"shards? are missing, .* \(--part [12]/2"):
        finalize(out, max_skipped=0.001)
    assert not (out / "manifest.json").exists()


def test_a_shard_that_is_lost_during_the_run_is_not_sealed(
    corpus: Corpus, small_config: PrepareConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finish_dataset

    def lose_one(output: Output, record: object) -> object:
        assert isinstance(output, LocalOutput)
        cut(next(iter(sorted(output.folder.glob("*/*.tar")))))
        return whole(output, record)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare_module, "finish_dataset", lose_one)
    with pytest.raises(IntegrityError, match=r"000000\.tar has \d+ bytes, \d+ were written: run"):
        prepare(corpus, tmp_path / "data", small_config, ONE)
    assert not (tmp_path / "data/manifest.json").exists()


def test_a_link_to_a_folder_in_the_work_folder_goes_with_it(
    computed: Path, corpus: Corpus, small_config: PrepareConfig, prepared: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(computed, tmp_path / "data"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (out / ".prepare/link").symlink_to(elsewhere)
    prepare(corpus, out, small_config, ONE)
    assert tree(out) == tree(prepared) and not (out / ".prepare").exists()
    assert (elsewhere / "file").exists()


@pytest.mark.parametrize("content", [b"", b"fLaC"])
def test_a_recording_that_changes_during_the_run_ends_it(
    content: bytes, librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(librispeech_folder, tmp_path / "LibriSpeech"))
    found = read_librispeech(root)
    found.utterances[-1].path.write_bytes(content)
    message = rf"{found.utterances[-1].path} has changed during the run: {len(content)} bytes, "
    with pytest.raises(InputError, match=message):
        prepare(found, tmp_path / "data", small_config, ONE)
    assert not (tmp_path / "data/manifest.json").exists()


@pytest.mark.parametrize("folder", [".prepare/records", "statistics", "index", "dev-clean"])
def test_nothing_is_written_through_a_link_in_place_of_a_folder(
    folder: str, corpus: Corpus, small_config: PrepareConfig, computed: Path, tmp_path: Path
) -> None:
    out, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    shutil.copytree(computed, out)
    shutil.rmtree(out / folder, ignore_errors=True)
    elsewhere.mkdir()
    (elsewhere / "lock").write_text("theirs")
    (out / folder).symlink_to(elsewhere)
    with pytest.raises(OutputInUseError, match=f"/{folder} is a link, and no file is written"):
        prepare(corpus, out, small_config, ONE)
    assert [each.name for each in elsewhere.iterdir()] == ["lock"]
    assert (elsewhere / "lock").read_text() == "theirs"


def test_a_list_that_changes_after_it_was_read_is_not_copied_as_another(
    corpus: Corpus, small_config: PrepareConfig, tmp_path: Path
) -> None:
    trials, out = tmp_path / "trials.txt", tmp_path / "data"
    trials.write_text("1 a b\n")
    listed = replace(corpus, attachments={"trials/trials.txt": attach(trials)})
    trials.write_text("0 a b\n")
    with pytest.raises(InputError) as caught:
        prepare(listed, out, small_config, ONE)
    assert str(caught.value) == (
        f"{trials} has changed since the inputs were listed: run the same command again"
    )
    again = replace(corpus, attachments={"trials/trials.txt": attach(trials)})
    prepare(again, out, small_config, ONE)
    assert (out / "trials/trials.txt").read_text() == "0 a b\n"
