import gzip
import io
import shutil
import tarfile
from pathlib import Path

import pytest

from aalbert.cli import main
from aalbert.errors import InputError
from aalbert.pipeline.corpora.corpus import Corpus, Skip
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.plan import plan_fingerprint
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare

SUBSETS = ["dev-clean", "train-clean-100"]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def pack(corpus: Path, subset: str, folder: Path, top: str = "LibriSpeech") -> Path:
    """Pack a subset as the official archives are packed, but in an order of its own."""
    folder.mkdir(exist_ok=True)
    archive = folder / f"{subset}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        if (corpus / "SPEAKERS.TXT").exists():
            tar.add(corpus / "SPEAKERS.TXT", f"{top}/SPEAKERS.TXT")
        for path in sorted((corpus / subset).rglob("*"), reverse=True):
            tar.add(path, f"{top}/{path.relative_to(corpus)}", recursive=False)
    return archive


@pytest.fixture(scope="session")
def archives(librispeech_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus as two archives; read only."""
    folder = tmp_path_factory.mktemp("archives")
    for subset in SUBSETS:
        pack(librispeech_folder, subset, folder)
    return folder


@pytest.fixture
def corpus_copy(librispeech_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(librispeech_folder, tmp_path / "LibriSpeech"))


def facts(corpus: Corpus) -> list[tuple[object, ...]]:
    return [
        (u.key, u.split, u.source, u.size, u.start, u.end, u.speaker, dict(u.fields))
        for u in corpus.utterances
    ]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_archives_give_the_bytes_that_the_unpacked_corpus_gives(
    workers: int, archives: Path, prepared: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    corpus = read_librispeech(archives, (), tmp_path / "cache")
    prepare(corpus, out, small_config, PrepareLimits(engine=LocalEngine(workers=workers)))
    assert tree(out) == tree(prepared)


def test_archives_have_the_utterances_of_the_unpacked_corpus_in_its_order(
    archives: Path, librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path
) -> None:
    unpacked = read_librispeech(librispeech_folder)
    packed = read_librispeech(archives, (), tmp_path)
    assert facts(packed) == facts(unpacked)
    assert packed.notes == unpacked.notes == ()
    assert {u.path.name for u in packed.utterances} == {f"{name}.tar.gz" for name in SUBSETS}
    assert plan_fingerprint(packed, small_config) == plan_fingerprint(unpacked, small_config)


def test_unusual_files_and_folders_are_the_same_from_an_archive(
    corpus_copy: Path, tmp_path: Path
) -> None:
    chapter = next(corpus_copy.glob("dev-clean/500/*"))
    audio = sorted(chapter.glob("*.flac"))
    (chapter / "a folder").mkdir()
    shutil.copy(audio[0], chapter / "a folder/500-5000-0099.FLAC")
    shutil.copy(audio[0], chapter / "a folder/copy of 1.flac")
    shutil.copy(audio[0], chapter.parent / "500-5000-0098.flac")
    shutil.copy(audio[0], chapter / "zz.flac")
    (chapter / f"._{audio[0].name}").write_bytes(b"\x00\x05\x16\x07")
    (chapter / "._500.trans.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    (corpus_copy / "dev-clean/9/10").mkdir(parents=True)
    shutil.move(audio[0], corpus_copy / "dev-clean/9/10/9-10-0000.flac")
    pack(corpus_copy, "dev-clean", tmp_path / "archives")
    packed = read_librispeech(tmp_path / "archives", (), tmp_path / "cache")
    unpacked = read_librispeech(corpus_copy, ["dev-clean"])
    assert facts(packed) == facts(unpacked)
    assert packed.skipped == unpacked.skipped
    assert [(Path(skip.source).name, skip.reason) for skip in packed.skipped] == [
        ("zz.flac", "name is not SPEAKER-CHAPTER-UTTERANCE"),
        ("copy of 1.flac", "name is not SPEAKER-CHAPTER-UTTERANCE"),
        (audio[0].name, "listed in a transcript, not here"),
    ]
    assert {"500-5000-0098", "500-5000-0099"} <= {each.key for each in packed.utterances}


def test_damaged_audio_is_skipped_for_the_same_reasons(
    corpus_copy: Path, tmp_path: Path, small_config: PrepareConfig
) -> None:
    paths = sorted(corpus_copy.rglob("*.flac"))
    paths[0].write_bytes(b"")
    paths[9].write_bytes(b"<html>")
    paths[20].write_bytes(paths[20].read_bytes()[:3000])
    for subset in SUBSETS:
        pack(corpus_copy, subset, tmp_path / "archives")
    limits = PrepareLimits(engine=LocalEngine(workers=1), max_skipped=1)
    prepare(read_librispeech(corpus_copy), tmp_path / "a", small_config, limits)
    packed = read_librispeech(tmp_path / "archives", (), tmp_path / "cache")
    prepare(packed, tmp_path / "b", small_config, limits)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert len((tmp_path / "b/skipped.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("top", [".", "./LibriSpeech"])
def test_archives_packed_at_another_level_are_read(
    top: str, librispeech_folder: Path, tmp_path: Path
) -> None:
    archive = pack(librispeech_folder, "dev-clean", tmp_path / "archives", top)
    packed = read_librispeech(archive, (), tmp_path / "cache")
    assert facts(packed) == facts(read_librispeech(librispeech_folder, ["dev-clean"]))


def test_one_archive_can_be_named_itself(
    archives: Path, librispeech_folder: Path, tmp_path: Path
) -> None:
    packed = read_librispeech(archives / "dev-clean.tar.gz", (), tmp_path)
    assert facts(packed) == facts(read_librispeech(librispeech_folder, ["dev-clean"]))


def test_only_the_archives_of_named_subsets_are_read(archives: Path, tmp_path: Path) -> None:
    packed = read_librispeech(archives, ["dev-clean"], tmp_path)
    assert {u.split for u in packed.utterances} == {"dev-clean"}
    (index,) = tmp_path.glob("*.index")
    assert index.name.startswith("dev-clean.tar.gz-")


def test_a_subset_that_is_not_there_is_refused_with_those_that_are(
    archives: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        read_librispeech(archives, ["test-clean"], tmp_path)
    assert str(caught.value) == (
        f"{archives} has no subset test-clean: it has dev-clean, train-clean-100"
    )


def test_archives_add_to_the_unpacked_subsets_which_come_first(
    corpus_copy: Path, archives: Path, tmp_path: Path
) -> None:
    expected = facts(read_librispeech(corpus_copy))
    shutil.rmtree(corpus_copy / "train-clean-100")
    for subset in SUBSETS:
        shutil.copy(archives / f"{subset}.tar.gz", corpus_copy)
    corpus = read_librispeech(corpus_copy, (), tmp_path / "cache")
    assert facts(corpus) == expected
    assert {u.split for u in corpus.utterances if u.offset is None} == {"dev-clean"}
    assert corpus.notes == (
        "dev-clean is read from its folder, not from dev-clean.tar.gz",
        "train-clean-100 is read from the archive train-clean-100.tar.gz",
    )


def test_without_speakers_txt_the_gender_is_unknown_with_a_note(
    corpus_copy: Path, tmp_path: Path
) -> None:
    (corpus_copy / "SPEAKERS.TXT").unlink()
    archive = pack(corpus_copy, "dev-clean", tmp_path / "archives")
    corpus = read_librispeech(archive, (), tmp_path / "cache")
    assert {u.fields["gender"] for u in corpus.utterances} == {None}
    assert corpus.notes == (f"no SPEAKERS.TXT in {archive}: the speakers' gender is unknown",)


def test_unsafe_members_are_skipped_and_the_rest_is_read(
    librispeech_folder: Path, tmp_path: Path
) -> None:
    archive = pack(librispeech_folder, "dev-clean", tmp_path / "archives")
    with tarfile.open(archive) as tar:
        members = [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]  # type: ignore[union-attr]
    climbing = tarfile.TarInfo("LibriSpeech/dev-clean/../../../500-1-1.flac")
    link = tarfile.TarInfo("LibriSpeech/dev-clean/1/1/1-1-1.flac")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(archive, "w:gz") as tar:
        for info, data in [(climbing, b""), *members, (link, b"")]:
            tar.addfile(info, io.BytesIO(data))
    corpus = read_librispeech(archive, (), tmp_path / "cache")
    assert len(corpus.utterances) == 6
    assert corpus.skipped == (
        Skip(
            source="dev-clean/../../../500-1-1.flac", reason="has a name with '..' in the archive"
        ),
        Skip(source="dev-clean/1/1/1-1-1.flac", reason="is a link in the archive"),
    )


def test_an_archive_of_something_else_is_refused(librispeech_folder: Path, tmp_path: Path) -> None:
    archive = pack(librispeech_folder, "dev-clean", tmp_path / "archives")
    wrong = archive.rename(archive.with_name("dev-other.tar.gz"))
    with pytest.raises(InputError) as caught:
        read_librispeech(wrong, (), tmp_path / "cache")
    assert str(caught.value) == (
        f"{wrong} holds no audio of dev-other: name an archive after the subset in it"
    )


def test_an_archive_cut_off_is_refused_not_read_in_part(archives: Path, tmp_path: Path) -> None:
    archive = tmp_path / "dev-clean.tar.gz"
    archive.write_bytes((archives / "dev-clean.tar.gz").read_bytes()[:-100])
    with pytest.raises(InputError, match="delete it and download it again"):
        read_librispeech(tmp_path, (), tmp_path / "cache")


def test_indexes_go_to_the_cache_folder_of_the_user(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    corpus = read_librispeech(archives)
    indexes = {utterance.index for utterance in corpus.utterances}
    assert indexes == set((tmp_path / "aalbert" / "archives").glob("*.index"))


def test_a_key_in_two_places_is_refused_with_both_places(
    corpus_copy: Path, tmp_path: Path, small_config: PrepareConfig
) -> None:
    chapter = next(corpus_copy.glob("dev-clean/500/*"))
    first = min(chapter.glob("*.flac"))
    (chapter / "again").mkdir()
    shutil.copy(first, chapter / "again")
    archive = pack(corpus_copy, "dev-clean", tmp_path / "archives")
    corpus = read_librispeech(archive, (), tmp_path / "cache")
    source = first.relative_to(corpus_copy)
    with pytest.raises(InputError) as caught:
        prepare(
            corpus, tmp_path / "data", small_config, PrepareLimits(engine=LocalEngine(workers=1))
        )
    assert str(caught.value) == (
        f"two files have the key '{first.stem}': {source} in {archive} and "
        f"{source.parent}/again/{first.name} in {archive}; remove one of them"
    )


def test_the_command_takes_archives_and_leaves_nothing_beside_them(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(archives.iterdir())
    arguments = ["prepare", "librispeech", str(archives), "--out", "data", "--workers", "1"]
    assert main(arguments) == 0
    finished = tree(tmp_path / "data")
    assert main(arguments) == 0
    assert tree(tmp_path / "data") == finished
    assert not any(name.startswith(".prepare") for name in finished)
    assert sorted(archives.iterdir()) == before


def test_the_command_does_not_touch_a_folder_that_holds_something_else(
    archives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").touch()
    assert main(["prepare", "librispeech", str(archives), "--out", str(out)]) == 6
    assert f"{out} is not empty: choose another --out" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_a_transcript_that_is_no_text_is_named_and_the_archive_is_not_called_damaged(
    corpus_copy: Path, tmp_path: Path
) -> None:
    path = next(corpus_copy.glob("dev-clean/500/*/*.trans.txt"))
    path.write_bytes(path.read_bytes() + "500-5000-0009 \u00fcber\n".encode("latin-1"))
    place = path.relative_to(corpus_copy)
    line = len(path.read_bytes().split(b"\n")) - 1
    pack(corpus_copy, "dev-clean", tmp_path / "archives")
    archive = tmp_path / "archives/dev-clean.tar.gz"
    with pytest.raises(InputError) as caught:
        read_librispeech(tmp_path / "archives", (), tmp_path / "cache")
    assert str(caught.value) == (
        f"{archive}: LibriSpeech/{place}:{line} is not UTF-8 (byte 0xfc): save it as UTF-8"
    )


def test_a_file_in_place_of_the_top_folder_is_no_audio(
    librispeech_folder: Path, tmp_path: Path
) -> None:
    archive = pack(librispeech_folder, "dev-clean", tmp_path / "archives")
    stream = io.BytesIO(gzip.decompress(archive.read_bytes()))
    with tarfile.open(fileobj=stream, mode="a") as tar:
        tar.addfile(tarfile.TarInfo("LibriSpeech"))
        tar.addfile(tarfile.TarInfo("."))
    archive.write_bytes(gzip.compress(stream.getvalue()))
    packed = read_librispeech(archive, (), tmp_path / "cache")
    assert facts(packed) == facts(read_librispeech(librispeech_folder, ["dev-clean"]))
