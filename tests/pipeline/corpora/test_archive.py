import gzip
import io
import json
import random
import tarfile
from pathlib import Path

import pytest

from aalbert.errors import InputError
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.pipeline.corpora import archive as archive_module
from aalbert.pipeline.corpora.archive import index_path, list_members, read_member
from aalbert.pipeline.corpora.corpus import Skip

FOLDER, LINK = tarfile.DIRTYPE, tarfile.SYMTYPE


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def tar_bytes(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.fixture
def contents() -> dict[str, bytes]:
    """Eighty files of up to 100 kB with names short and long, and an empty one."""
    names = [f"top/{number}/{'long' * (number % 40)}.flac" for number in range(80)]
    sizes = [random.Random(number).randrange(100_000) for number in range(79)]
    return {name: noise(size, size) for name, size in zip(names, [*sizes, 0], strict=True)}


@pytest.fixture
def archive(contents: dict[str, bytes], tmp_path: Path) -> Path:
    path = tmp_path / "archive.tar.gz"
    members = [(member("top", type=FOLDER), b"")]
    members += [(member(name), data) for name, data in contents.items()]
    path.write_bytes(gzip.compress(tar_bytes(members), 1))
    return path


@pytest.fixture
def index(archive: Path, tmp_path: Path) -> Path:
    return index_path(tmp_path / "cache", archive)


def test_every_member_is_listed_and_read_back_in_any_order(
    archive: Path, index: Path, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "SMALLEST_SPACING", 2**17)
    members = list(list_members(archive, index).members)
    assert [item.name for item in members] == list(contents)
    assert index.stat().st_size > 20 * 2**15  # so many seek points that most reads need one
    random.Random(0).shuffle(members)
    for item in members:
        assert read_member(archive, index, item.offset, item.size) == contents[item.name]


def test_requested_texts_are_returned_with_the_list(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    texts = {"a/one.txt": "première", "a/two.txt": "", "a/three.md": "no", "a/._four.txt": "no"}
    members = [(member(name), text.encode()) for name, text in texts.items()]
    path.write_bytes(gzip.compress(tar_bytes(members)))
    listing = list_members(path, tmp_path / "i.index", ("one.txt", "two.txt", "four.txt"))
    assert listing.texts == {"a/one.txt": "première", "a/two.txt": ""}
    assert [item.name for item in listing.members] == ["a/one.txt", "a/two.txt", "a/three.md"]


def test_an_unchanged_archive_is_not_read_again(
    archive: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = list_members(archive, index)
    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "read_archive", None)
        assert list_members(archive, index) == first


def test_a_changed_archive_is_read_again(archive: Path, index: Path) -> None:
    list_members(archive, index)
    archive.write_bytes(gzip.compress(tar_bytes([(member("other"), b"12345")])))
    (only,) = list_members(archive, index).members
    assert only.name == "other"
    assert read_member(archive, index, only.offset, only.size) == b"12345"


def test_a_damaged_index_is_made_again(archive: Path, index: Path) -> None:
    list_members(archive, index)
    whole = index.read_bytes()
    index.write_bytes(whole[:-1000])
    list_members(archive, index)
    assert index.read_bytes() == whole


def test_the_listing_is_json_and_holds_no_pickle(archive: Path, index: Path) -> None:
    list_members(archive, index)
    document = json.loads(index.with_suffix(".json").read_text("utf-8"))
    assert len(document["listing"]["members"]) == 80
    assert {path.name for path in index.parent.iterdir()} == {
        index.name,
        index.with_suffix(".json").name,
        index.with_suffix(".lock").name,
    }


def test_of_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(tar_bytes([(member("a"), b"old"), (member("a"), b"newer")])))
    (only,) = list_members(path, tmp_path / "i.index").members
    assert read_member(path, tmp_path / "i.index", only.offset, only.size) == b"newer"


def test_of_members_with_one_name_the_last_counts_also_where_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    link = member("a.flac", type=LINK, linkname="b.flac")
    text_link = member("a.txt", type=LINK, linkname="b.txt")
    refused = [(member("a.flac"), b"old"), (link, b""), (member("a.txt"), b"old"), (text_link, b"")]
    path.write_bytes(gzip.compress(tar_bytes(refused)))
    listing = list_members(path, tmp_path / "i.index", ("a.txt",))
    assert listing.members == () and listing.texts == {}
    assert [each.source for each in listing.skipped] == ["a.flac", "a.txt"]
    path.write_bytes(gzip.compress(tar_bytes([(link, b""), (member("a.flac"), b"newer")])))
    listing = list_members(path, tmp_path / "i.index")
    assert [each.size for each in listing.members] == [5] and listing.skipped == ()


def test_unsafe_members_are_skipped_with_the_reason_and_nothing_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    path = folder / "a.tar.gz"
    data = tar_bytes(
        [
            (member("/absolute.flac"), b"x"),
            (member("a/../../../climbing.flac"), b"x"),
            (member("link.flac", type=LINK, linkname="/etc/passwd"), b""),
            (member("hard.flac", type=tarfile.LNKTYPE, linkname="good.flac"), b""),
            (member("device.flac", type=tarfile.CHRTYPE), b""),
            (member("pipe.flac", type=tarfile.FIFOTYPE), b""),
            (member("latin\udce9.flac"), b"x"),
            (member("good.flac"), b"good"),
        ]
    )
    path.write_bytes(gzip.compress(data))
    listing = list_members(path, folder / "i.index")
    assert listing.skipped == (
        Skip(source="/absolute.flac", reason="has an absolute name in the archive"),
        Skip(source="a/../../../climbing.flac", reason="has a name with '..' in the archive"),
        Skip(source="link.flac", reason="is a link in the archive"),
        Skip(source="hard.flac", reason="is a link in the archive"),
        Skip(source="device.flac", reason="is a device or another special file in the archive"),
        Skip(source="pipe.flac", reason="is a device or another special file in the archive"),
        Skip(source="latin\\udce9.flac", reason="has a name in the archive that is not UTF-8"),
    )
    (only,) = listing.members
    assert read_member(path, folder / "i.index", only.offset, only.size) == b"good"
    assert [item.name for item in tmp_path.iterdir()] == ["inner"]
    assert len(list(folder.iterdir())) == 4


def test_a_member_larger_than_2_gib_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aalbert.pipeline.corpora.archive.LARGEST_MEMBER", 10_000)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(
        gzip.compress(tar_bytes([(member("big"), bytes(10_001)), (member("small"), b"s")]))
    )
    listing = list_members(path, tmp_path / "i.index")
    assert listing.skipped == (
        Skip(source="big", reason="claims to be larger than 2 GiB: 10001 bytes"),
    )
    assert [item.name for item in listing.members] == ["small"]


def damaged_message(path: Path, detail: str) -> str:
    return f"{path} is damaged or incomplete ({detail}): delete it and download it again"


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "empty file"),
        (b"<html>404</html>" * 99, "Not a gzipped file (b'<h')"),
        (gzip.compress(b"no tar at all" * 999), "invalid header"),
        (gzip.compress(tar_bytes([(member("a"), b"x" * 600)])[:1300]), "unexpected end of data"),
        (
            gzip.compress(tar_bytes([(member("a"), b"x" * 512)])[:1024]),
            "a header that cannot be read, or no end mark",
        ),
        (
            gzip.compress(tar_bytes([(member("a"), b"")])[:512] + b"x" * 10_240),
            "a header that cannot be read, or no end mark",
        ),
        (
            gzip.compress(member("a", size=2**40).tobuf() + bytes(10_240)),
            "unexpected end of data",
        ),
        (
            gzip.compress(tar_bytes([(member("x", type=tarfile.XHDTYPE), b"y" * 2**21)])),
            f"a header or text of {2**21} bytes",
        ),
    ],
    ids=[
        "empty",
        "html",
        "no tar",
        "cut in a file",
        "cut between files",
        "a broken header",
        "an impossible size",
        "an enormous header",
    ],
)
def test_an_incomplete_archive_is_refused(data: bytes, detail: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        list_members(path, tmp_path / "i.index")
    assert str(caught.value) == damaged_message(path, detail)
    assert not (tmp_path / "i.index").exists()


def test_a_header_that_points_backwards_ends_in_an_error_not_in_a_loop(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    block = bytearray(tar_bytes([(member("a"), b"")])[:512])
    block[124:136] = (2**96 - 1024).to_bytes(12, "big")  # base 256, minus 1024
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path.write_bytes(gzip.compress(bytes(block) + bytes(10_240)))
    with pytest.raises(InputError, match="a header that points backwards"):
        list_members(path, tmp_path / "i.index")


def test_a_cut_is_noticed_wherever_it_is(archive: Path, index: Path) -> None:
    data = archive.read_bytes()
    draw = random.Random(1)
    for length in [
        *(draw.randrange(len(data)) for _ in range(10)),
        *(len(data) - n for n in (1, 8, 9)),
    ]:
        archive.write_bytes(data[:length])
        with pytest.raises(InputError, match="is damaged or incomplete"):
            list_members(archive, index)


def test_a_flipped_bit_is_noticed_wherever_it_is(archive: Path, index: Path) -> None:
    data = archive.read_bytes()
    draw = random.Random(2)
    for position in [
        *(draw.randrange(10, len(data)) for _ in range(10)),
        len(data) - 8,
        len(data) - 1,
    ]:
        flipped = bytearray(data)
        flipped[position] ^= 1 << draw.randrange(8)
        archive.write_bytes(flipped)
        with pytest.raises(InputError, match="is damaged or incomplete"):
            list_members(archive, index)


def test_a_read_beyond_the_end_is_refused(archive: Path, index: Path) -> None:
    last = list_members(archive, index).members[-2]
    end = len(gzip.decompress(archive.read_bytes()))
    with pytest.raises(UnusableAudioError) as caught:
        read_member(archive, index, end - 10, 99)
    assert str(caught.value) == "cut off in its archive: 10 of 99 bytes"
    assert len(read_member(archive, index, last.offset, last.size)) == last.size


def test_an_archive_damaged_after_it_was_listed_gives_unusable_audio(
    archive: Path, index: Path
) -> None:
    last = list_members(archive, index).members[-2]
    data = archive.read_bytes()
    archive.write_bytes(data[:-500_000] + bytes(500_000))
    with pytest.raises(UnusableAudioError, match="^(cannot be read from|cut off in) its archive: "):
        read_member(archive, index, last.offset, last.size)


def test_an_archive_cut_after_it_was_listed_is_an_error_of_the_whole_run(
    archive: Path, index: Path
) -> None:
    last = list_members(archive, index).members[-2]
    archive.write_bytes(archive.read_bytes()[:-300_000])
    with pytest.raises(InputError, match="archive.tar.gz cannot be read with its index"):
        read_member(archive, index, last.offset, last.size)


def test_an_archive_that_is_gone_is_an_error_of_the_whole_run(archive: Path, index: Path) -> None:
    first = list_members(archive, index).members[0]
    archive.unlink()
    with pytest.raises(InputError, match="archive.tar.gz cannot be read with its index"):
        read_member(archive, index, first.offset, first.size)


def test_a_missing_index_is_an_error_of_the_whole_run(archive: Path, index: Path) -> None:
    first = list_members(archive, index).members[0]
    index.unlink()
    with pytest.raises(InputError) as caught:
        read_member(archive, index, first.offset, first.size)
    assert str(caught.value).startswith(f"{archive} cannot be read with its index {index} (")
    assert str(caught.value).endswith("): run the command again")


@pytest.mark.parametrize("notes", ["", "{}", "[]", '{"archive": 1}'])
def test_a_list_in_the_cache_that_cannot_be_read_is_made_again(
    archive: Path, index: Path, notes: str
) -> None:
    listing = list_members(archive, index)
    index.with_suffix(".json").write_text(notes)
    assert list_members(archive, index) == listing
