import io
import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aalbert.common.files import file_digest
from aalbert.errors import InputError, IntegrityError
from aalbert.pipeline.corpora.librispeech import read_librispeech
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.engine import LocalEngine
from aalbert.pipeline.prepare.prepare import PrepareLimits, prepare
from aalbert.shards import Dataset
from aalbert.shards.format.index import read_index, write_index
from aalbert.shards.format.manifest import FileRecord, Manifest, ShardRecord, read_manifest
from aalbert.shards.format.tar import TarWriter, member_header
from aalbert.shards.loading.webdataset_pipeline import decode
from aalbert.shards.verification.shard_check import ShardComparison, describe_npy
from aalbert.shards.verification.verify import verify

SHARD = Path("train-clean-100/000000.tar")


def messages(folder: Path) -> list[str]:
    return [str(problem) for problem in verify(folder)]


def flip(path: Path, position: int, bit: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(position)
        byte = stream.read(1)[0]
        stream.seek(position)
        stream.write(bytes([byte ^ 1 << bit]))


def owner_of_byte(shard: Path, position: int) -> str | None:
    """The key of the utterance to which a byte belongs, according to the standard library."""
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            size = -(-member.size // 512) * 512
            if member.offset <= position < member.offset_data + size:
                return member.name.partition(".")[0]
    return None


def test_a_whole_dataset_has_no_problems_and_every_byte_of_it_is_read(prepared: Path) -> None:
    read: list[int] = []
    assert verify(prepared, read.append) == []
    files = [path for path in prepared.rglob("*") if path.is_file()]
    assert sum(read) == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize(
    "kind", ["*/*.tar", "index/*.arrow", "statistics/*.arrow", "manifest.json", "README.md"]
)
def test_every_flipped_bit_is_found_with_its_file_and_key(dataset_copy: Path, kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    paths = sorted(dataset_copy.glob(kind))
    for _ in range(20):
        path = paths[rng.integers(len(paths))]
        position, bit = int(rng.integers(path.stat().st_size)), int(rng.integers(8))
        key = owner_of_byte(path, position) if path.suffix == ".tar" else None
        flip(path, position, bit)
        (problem,) = verify(dataset_copy)
        assert problem.path == str(path)
        if key:
            assert problem.where == key
            assert f"'{key}" in problem.what
        flip(path, position, bit)
    assert verify(dataset_copy) == []


def test_a_hundred_random_bits_of_a_dataset_with_skipped_inputs_are_all_found(
    dataset_copy: Path,
) -> None:
    line = json.dumps({"source": "a.flac", "reason": "it is empty"}) + "\n"
    (dataset_copy / "skipped.jsonl").write_text(line)
    replace(read_manifest(dataset_copy), skipped=1).write(dataset_copy)
    record_files(dataset_copy)
    rng = np.random.default_rng(7)
    paths = [path for path in sorted(dataset_copy.rglob("*")) if path.is_file()]
    for _ in range(100):
        path = paths[rng.integers(len(paths))]
        position, bit = int(rng.integers(path.stat().st_size)), int(rng.integers(8))
        flip(path, position, bit)
        assert {problem.path for problem in verify(dataset_copy)} == {str(path)}
        flip(path, position, bit)


def test_damage_is_reported_with_the_part_it_affects(dataset_copy: Path) -> None:
    dataset = Dataset(dataset_copy)
    row = 8
    key = dataset.column("key")[row]
    path = dataset.shard_paths[dataset.shards()[row]]
    with tarfile.open(path, "r:") as tar:
        fbank, logmel, about = (m for m in tar if m.name.startswith(f"{key}."))
    cases = {
        fbank.offset + 10: f"tar header of '{key}.fbank.npy' is not what was written",
        fbank.offset_data + 20: f"npy header of '{key}.fbank.npy' is not what was written",
        logmel.offset_data + 128: f"payload of '{key}' (logmel) is not what was written",
        logmel.offset_data + logmel.size: f"padding after '{key}.logmel.npy' is not what",
        about.offset + 200: f"tar header of '{key}.json' is not what was written",
        about.offset_data + 3: f"content of '{key}.json' is not what was written",
        path.stat().st_size - 1: "end of the archive is not what was written",
    }
    for position, expected in cases.items():
        flip(path, position, 1)
        (message,) = messages(dataset_copy)
        assert message.startswith(f"{path}: {expected}")
        flip(path, position, 1)


def test_the_bytes_of_a_damaged_payload_are_reported(dataset_copy: Path) -> None:
    dataset = Dataset(dataset_copy)
    start = dataset.table.column("logmel_offset")[0].as_py()
    size = dataset.table.column("logmel_bytes")[0].as_py()
    flip(dataset.shard_paths[0], start + size // 2, 0)
    (message,) = messages(dataset_copy)
    assert message.endswith(f"is not what was written, bytes {start:,} to {start + size:,}")


@pytest.mark.parametrize("name", ["README.md", "skipped.jsonl", "index/dev-clean.arrow", SHARD])
def test_a_missing_file_is_reported(dataset_copy: Path, name: str | Path) -> None:
    (dataset_copy / name).unlink()
    assert messages(dataset_copy) == [f"{dataset_copy / name}: is missing"]


def test_a_truncated_shard_is_reported_with_its_last_utterance(
    dataset_copy: Path,
) -> None:
    path = dataset_copy / SHARD
    size = path.stat().st_size
    key = owner_of_byte(path, size // 2)
    os.truncate(path, size // 2)
    first, second = messages(dataset_copy)
    assert first == f"{path}: has {size // 2:,} bytes, {size:,} were written"
    assert "the file ends in the " in second
    assert f"'{key}" in second
    assert second.endswith(f"at byte {size // 2:,}")


def test_a_shard_with_bytes_after_its_end_is_reported(dataset_copy: Path) -> None:
    path = dataset_copy / SHARD
    size = path.stat().st_size
    with path.open("ab") as stream:
        stream.write(b"x")
    assert messages(dataset_copy) == [f"{path}: has {size + 1:,} bytes, {size:,} were written"]


def test_swapped_shards_are_reported_with_their_contents(dataset_copy: Path) -> None:
    first, second = sorted((dataset_copy / "train-clean-100").glob("*.tar"))[:2]
    first.rename(dataset_copy / "x")
    second.rename(first)
    (dataset_copy / "x").rename(second)
    assert messages(dataset_copy) == [
        f"{first}: holds what was written as train-clean-100/000001.tar",
        f"{second}: holds what was written as train-clean-100/000000.tar",
    ]


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("train-clean-100/000099.tar", ""),
        ("dev-clean/000000.tar.partial", " (a file that was never finished)"),
        (".prepare/plan.json", ""),
        ("notes.txt", ""),
    ],
)
def test_a_file_that_does_not_belong_is_reported(dataset_copy: Path, name: str, note: str) -> None:
    path = dataset_copy / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    assert messages(dataset_copy) == [
        f"{path}: does not belong to the dataset{note}: delete or move it"
    ]


def test_a_link_that_does_not_belong_is_reported(dataset_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (dataset_copy / "more").symlink_to(tmp_path / "elsewhere")
    assert len(messages(dataset_copy)) == 1


def test_only_the_first_problems_of_a_different_shard_are_listed(
    dataset_copy: Path,
) -> None:
    path = dataset_copy / SHARD
    noise = np.random.default_rng(1).bytes(path.stat().st_size)
    path.write_bytes(noise)
    found = messages(dataset_copy)
    assert len(found) == 11
    assert found[-1].endswith("more places in it")


def test_a_damaged_index_leaves_the_hashes_of_its_shards_to_be_checked(dataset_copy: Path) -> None:
    index = dataset_copy / "index/train-clean-100.arrow"
    flip(index, 4000, 3)
    flip(dataset_copy / SHARD, 4000, 3)
    assert messages(dataset_copy) == [
        f"{index}: is not what was written (checksum)",
        f"{dataset_copy / SHARD}: is not what was written (checksum)",
    ]


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_a_damaged_index_of_the_only_split_is_a_problem(
    librispeech_folder: Path, small_config: PrepareConfig, tmp_path: Path, damage: str
) -> None:
    corpus = read_librispeech(librispeech_folder)
    split = corpus.utterances[0].split
    one = replace(corpus, utterances=tuple(u for u in corpus.utterances if u.split == split))
    prepare(one, tmp_path, small_config, PrepareLimits(engine=LocalEngine(workers=1)))
    (index,) = tmp_path.glob("index/*.arrow")
    if damage == "flipped":
        flip(index, 4000, 3)
    elif damage == "gone":
        index.unlink()
    else:
        index.write_bytes(b"" if damage == "empty" else index.read_bytes()[:3000])
    assert messages(tmp_path)[0].startswith(f"{index}: ")


def test_a_file_that_the_system_cannot_read_is_a_problem(
    dataset_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(comparison: ShardComparison) -> str:
        if comparison.path == str(dataset_copy / SHARD):
            raise OSError(5, "Input/output error")
        return real(comparison)

    real = ShardComparison.finish
    monkeypatch.setattr(ShardComparison, "finish", failing)
    assert messages(dataset_copy) == [
        f"{dataset_copy / SHARD}: cannot be read (Input/output error)"
    ]


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        verify(tmp_path)


# From here on the manifest matches the files: an attacker wants these bytes to be read.


def record_files(folder: Path) -> None:
    """Write a manifest that records the files as they are now."""
    manifest = read_manifest(folder)

    def updated_record(record: FileRecord) -> dict[str, object]:
        path = folder / record.path
        return {
            **asdict(record),
            "size": path.stat().st_size,
            "xxh3": file_digest(path),
        }

    splits = {
        name: replace(
            split,
            index=FileRecord(**updated_record(split.index)),  # type: ignore[arg-type]
            statistics=FileRecord(**updated_record(split.statistics)),  # type: ignore[arg-type]
            shards=tuple(ShardRecord(**updated_record(shard)) for shard in split.shards),  # type: ignore[arg-type]
        )
        for name, split in manifest.splits.items()
    }
    documents = tuple(FileRecord(**updated_record(record)) for record in manifest.documents)  # type: ignore[arg-type]
    updated: Manifest = replace(manifest, splits=splits, documents=documents)
    updated.write(folder)


def rewrite_shard(folder: Path, edit: Callable[[list[tuple[bytes, bytes]]], None]) -> None:
    """Change the members of a shard, as (header, payload), and update the manifest."""
    path = folder / SHARD
    raw = path.read_bytes()
    with tarfile.open(path, "r:") as tar:
        members = [
            (raw[m.offset : m.offset + 512], raw[m.offset_data : m.offset_data + m.size])
            for m in tar
        ]
    edit(members)
    with path.open("wb") as stream:
        for header, payload in members:
            stream.write(header + payload + bytes(-len(payload) % 512))
        stream.write(bytes(1024))
    record_files(folder)


class Evil:
    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return (os._exit, (99,))


def unexpected_member(kind: str) -> tuple[bytes, bytes]:
    payload = b"" if "link" in kind else pickle.dumps(Evil())
    names = {"pickle": "1-2-3.pyd", "absolute": "/etc/cron.d/x", "outside": "../../x"}
    member = tarfile.TarInfo(names.get(kind, "1-2-3.json"))
    member.size = len(payload)
    if "link" in kind:
        member.type = tarfile.SYMTYPE if kind == "symlink" else tarfile.LNKTYPE
        member.linkname = "/etc/passwd"
    return member.tobuf(format=tarfile.USTAR_FORMAT), payload


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("pickle", "a file '1-2-3.pyd' does not belong"),
        ("absolute", "a file '/etc/cron.d/x' does not belong"),
        ("outside", "a file '../../x' does not belong"),
        ("symlink", "a link '1-2-3.json' to '/etc/passwd' does not belong"),
        ("hard link", "a link '1-2-3.json' to '/etc/passwd' does not belong"),
    ],
)
@pytest.mark.parametrize("place", [0, 2, 3, None], ids=["first", "json", "utterance", "last"])
def test_a_member_that_the_format_does_not_know_is_reported_and_never_opened(
    dataset_copy: Path, kind: str, what: str, place: int | None
) -> None:
    rewrite_shard(
        dataset_copy,
        lambda members: members.insert(
            len(members) if place is None else place, unexpected_member(kind)
        ),
    )
    found = messages(dataset_copy)
    assert found[0].startswith(f"{dataset_copy / SHARD}: {what}, at byte ")


def test_an_array_of_python_objects_is_reported_and_never_opened(dataset_copy: Path) -> None:
    def edit(members: list[tuple[bytes, bytes]]) -> None:
        buffer = io.BytesIO()
        np.save(buffer, np.array([Evil()], dtype=object), allow_pickle=True)
        name = tarfile.TarInfo.frombuf(members[0][0], "utf-8", "strict").name
        payload = buffer.getvalue().ljust(len(members[0][1]), b"\0")
        members[0] = (member_header(name, len(payload)), payload)

    rewrite_shard(dataset_copy, edit)
    first, second = messages(dataset_copy)
    assert first.endswith("there is an array of object (1,), a pickle, which is not opened")
    assert "payload of" in second


def test_two_exchanged_utterances_are_reported(dataset_copy: Path) -> None:
    def edit(members: list[tuple[bytes, bytes]]) -> None:
        members[:6] = [*members[3:6], *members[:3]]

    rewrite_shard(dataset_copy, edit)
    assert any("tar header of" in message for message in messages(dataset_copy))


def edit_index(folder: Path, column: str, edit: Callable[[list[object]], None]) -> None:
    """Change a column of the larger index and update the manifest."""
    path = folder / "index/train-clean-100.arrow"
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    values = table.column(column).to_pylist()
    edit(values)
    place = table.schema.get_field_index(column)
    changed = table.set_column(
        place, table.schema.field(column), pa.array(values, table.schema.field(column).type)
    )
    write_index(path, changed)
    record_files(folder)


@pytest.mark.parametrize(
    ("column", "row", "value", "what"),
    [
        ("logmel_offset", 3, 10**9, "gives the logmel of 'KEY' a location outside of its shard"),
        ("logmel_offset", 3, -8, "gives the logmel of 'KEY' a location outside of its shard"),
        ("logmel_bytes", 3, 160, "gives the logmel of 'KEY' a size that does not match its frames"),
        ("logmel_frames", 3, 1, "gives the logmel of 'KEY' a size that does not match its frames"),
        ("shard", 0, 1, "does not give every shard the utterances that the manifest says"),
        ("split", 0, "dev", "does not give every shard the utterances that the manifest says"),
    ],
)
def test_an_inconsistent_index_is_reported_with_the_key(
    dataset_copy: Path, column: str, row: int, value: object, what: str
) -> None:
    key = read_index(dataset_copy / "index/train-clean-100.arrow").column("key")[row].as_py()
    edit_index(dataset_copy, column, lambda values: values.__setitem__(row, value))
    index = dataset_copy / "index/train-clean-100.arrow"
    assert messages(dataset_copy)[0] == f"{index}: {what.replace('KEY', key)}"


def test_two_rows_of_an_index_that_share_bytes_are_reported(dataset_copy: Path) -> None:
    key = read_index(dataset_copy / "index/train-clean-100.arrow").column("key")[1].as_py()

    def overlap(values: list[object]) -> None:
        values[1] = values[0]

    edit_index(dataset_copy, "logmel_offset", overlap)
    assert (
        f"the logmel of '{key}' a location that overlaps another array" in messages(dataset_copy)[0]
    )


def test_a_row_with_another_hash_is_reported(dataset_copy: Path) -> None:
    key = read_index(dataset_copy / "index/train-clean-100.arrow").column("key")[5].as_py()
    edit_index(dataset_copy, "fbank_xxh3", lambda values: values.__setitem__(5, 1))
    (message,) = messages(dataset_copy)
    assert f"payload of '{key}' (fbank) is not what was written" in message


def test_a_row_with_a_slightly_wrong_offset_is_reported(dataset_copy: Path) -> None:
    def shift(values: list[object]) -> None:
        values[5] = int(str(values[5])) - 64

    key = read_index(dataset_copy / "index/train-clean-100.arrow").column("key")[5].as_py()
    edit_index(dataset_copy, "fbank_offset", shift)
    (message,) = messages(dataset_copy)
    assert f"the index places the payload of '{key}' (fbank) at byte" in message


def test_a_key_that_occurs_twice_is_reported(dataset_copy: Path) -> None:
    def repeat(values: list[object]) -> None:
        values[4] = values[3]

    key = read_index(dataset_copy / "index/train-clean-100.arrow").column("key")[3].as_py()
    edit_index(dataset_copy, "key", repeat)
    assert f"the key '{key}' occurs more than once" in messages(dataset_copy)[0]


def test_an_index_with_other_columns_is_reported(dataset_copy: Path) -> None:
    path = dataset_copy / "index/train-clean-100.arrow"
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    write_index(path, table.drop_columns(["samples"]))
    record_files(dataset_copy)
    assert (
        "has other columns, or other types, than it should: key, split, shard, "
        in messages(dataset_copy)[0]
    )


def test_statistics_of_other_rows_are_reported(dataset_copy: Path) -> None:
    shutil.copy(
        dataset_copy / "statistics/dev-clean.arrow",
        dataset_copy / "statistics/train-clean-100.arrow",
    )
    record_files(dataset_copy)
    assert messages(dataset_copy) == [
        f"{dataset_copy / 'statistics/train-clean-100.arrow'}: has 6 rows, the manifest says 24"
    ]


def test_a_tar_of_this_writer_is_what_the_standard_library_writes(tmp_path: Path) -> None:
    stream = io.BytesIO()
    writer = TarWriter(stream)
    names = ["a.json", "ünï-1.logmel.npy", "x" * 100]
    for size, name in zip((0, 511, 1025), names, strict=True):
        writer.add(name, bytes(size))
    writer.finish()
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w:", format=tarfile.USTAR_FORMAT) as tar:
        for size, name in zip((0, 511, 1025), names, strict=True):
            member = tarfile.TarInfo(name)
            member.size, member.mode = size, 0o644
            tar.addfile(member, io.BytesIO(bytes(size)))
    written = stream.getvalue()
    assert expected.getvalue()[: len(written)] == written


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 1), ("a", 8**11), ("a", -1)])
def test_a_header_that_cannot_hold_its_member_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="a tar header cannot hold"):
        member_header(name, size)


# Every checksum is computed anew: only what the files say of one another can tell.


def edit_statistics(folder: Path, edit: Callable[[list[list[float | None]]], None]) -> Path:
    """Change the means of the larger split and update the manifest."""
    path = folder / "statistics/train-clean-100.arrow"
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    values = table.column("logmel_mean").to_pylist()
    edit(values)
    field = table.schema.field("logmel_mean")
    place = table.schema.get_field_index("logmel_mean")
    write_index(path, table.set_column(place, field, pa.array(values, field.type)))
    record_files(folder)
    return path


def test_statistics_that_are_not_those_of_the_arrays_are_reported(dataset_copy: Path) -> None:
    def exchange(values: list[list[float | None]]) -> None:
        values[0], values[1] = values[1], values[0]

    edit_statistics(dataset_copy, exchange)
    keys = read_index(dataset_copy / "index/train-clean-100.arrow").column("key").to_pylist()
    found = messages(dataset_copy)
    assert found[0].endswith("has not the mean and deviation of logmel that its utterances have")
    assert [message.partition(": ")[2] for message in found[1:]] == [
        f"the payload of '{key}' (logmel) has another mean or deviation than its statistics say"
        for key in keys[:2]
    ]


def test_statistics_that_are_not_finite_are_reported(dataset_copy: Path) -> None:
    def spoil(values: list[list[float | None]]) -> None:
        values[3][5] = float("nan")

    path = edit_statistics(dataset_copy, spoil)
    assert messages(dataset_copy) == [f"{path}: has numbers in logmel_mean that are not finite"]


def test_lists_with_gaps_are_reported(dataset_copy: Path) -> None:
    def spoil(values: list[list[float | None]]) -> None:
        values[3][5] = None

    path = edit_statistics(dataset_copy, spoil)
    assert messages(dataset_copy) == [f"{path}: has rows without logmel_mean"]


@pytest.mark.parametrize(("row", "what"), [(0, "(Column "), (3, "(places of flags)")])
def test_lists_whose_places_are_damaged_are_reported(
    dataset_copy: Path, row: int, what: str
) -> None:
    def spoil(values: list[object]) -> None:
        values[:] = [["clipped", "silent"] for _ in values]

    edit_index(dataset_copy, "flags", spoil)
    path = dataset_copy / "index/train-clean-100.arrow"
    places = 2 * np.arange(read_index(path).num_rows + 1, dtype="<i4")
    content = path.read_bytes()
    assert content.count(places.tobytes()) == 1
    damaged = np.where(places == 2 * row, 2**30, places).astype("<i4")
    path.unlink()
    path.write_bytes(content.replace(places.tobytes(), damaged.tobytes()))
    record_files(dataset_copy)
    assert messages(dataset_copy)[0].startswith(f"{path}: holds invalid values {what}")
    with pytest.raises(IntegrityError, match="holds invalid values"):
        Dataset(dataset_copy)


def test_a_flag_without_a_name_is_reported(dataset_copy: Path) -> None:
    def spoil(values: list[object]) -> None:
        values[2] = ["clipped", None]

    edit_index(dataset_copy, "flags", spoil)
    path = dataset_copy / "index/train-clean-100.arrow"
    assert messages(dataset_copy) == [f"{path}: has rows without flags"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"hours": 2.0}, "says that 'dev-clean' has 2.0 hours, its index "),
        ({"speakers": 9}, "says that 'dev-clean' has 9 speakers, its index 2"),
    ],
)
def test_totals_that_an_index_contradicts_are_reported(
    dataset_copy: Path, change: dict[str, Any], what: str
) -> None:
    manifest = read_manifest(dataset_copy)
    split = replace(manifest.splits["dev-clean"], **change)
    replace(manifest, splits={**manifest.splits, "dev-clean": split}).write(dataset_copy)
    [message] = messages(dataset_copy)
    assert message.startswith(f"{dataset_copy / 'manifest.json'}: {what}")


def test_a_count_of_skipped_inputs_that_differs_is_reported(dataset_copy: Path) -> None:
    replace(read_manifest(dataset_copy), skipped=2).write(dataset_copy)
    assert messages(dataset_copy) == [
        f"{dataset_copy / 'skipped.jsonl'}: lists 0 inputs, of 2 skipped ones in the manifest"
    ]


def test_a_shard_that_was_recorded_with_more_after_its_end_is_reported(dataset_copy: Path) -> None:
    path = dataset_copy / SHARD
    with path.open("ab") as stream:
        stream.write(b"xyz")
    record_files(dataset_copy)
    assert messages(dataset_copy) == [f"{path}: has 3 bytes after its end"]


def test_a_key_that_no_member_has_room_for_is_reported(dataset_copy: Path) -> None:
    def lengthen(keys: list[object]) -> None:
        keys[0] = "k" * 101

    edit_index(dataset_copy, "key", lengthen)
    assert "is longer than a member's name may be" in messages(dataset_copy)[0]


def test_frames_that_do_not_follow_from_the_samples_are_reported(dataset_copy: Path) -> None:
    def lengthen(samples: list[object]) -> None:
        samples[0] = 10**6

    edit_index(dataset_copy, "samples", lengthen)
    key = read_index(dataset_copy / "index/train-clean-100.arrow").column("key")[0].as_py()
    what = f"gives the logmel of '{key}' more or fewer frames than its samples have"
    assert any(what in message for message in messages(dataset_copy))


def test_a_dataset_with_an_index_that_cannot_be_true_is_not_opened(dataset_copy: Path) -> None:
    def stretch(frames: list[object]) -> None:
        frames[0] = 2**31 - 1

    edit_index(dataset_copy, "logmel_frames", stretch)
    dataset = Dataset(dataset_copy)
    with pytest.raises(IntegrityError, match="a size that does not match its frames; restore"):
        dataset.frames("logmel")

    def move(shards: list[object]) -> None:
        shards[0] = 99

    edit_index(dataset_copy, "shard", move)
    with pytest.raises(IntegrityError, match="does not give every shard the utterances"):
        Dataset(dataset_copy)


@pytest.mark.parametrize("header", [b"{'descr': '<f2', 'shape': (3,\n", b"{'shape': (" + b"9" * 60])
def test_a_header_that_numpy_cannot_parse_is_no_header(header: bytes) -> None:
    """NumPy raises `tokenize.TokenError` for it, which is no `ValueError`."""
    content = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(118)
    assert describe_npy(content) is None
    sample = {"__url__": "x.tar", "__key__": "k", "logmel.npy": content}
    with pytest.raises(IntegrityError, match=r"^x\.tar: 'k\.logmel\.npy' holds no array"):
        decode(sample)
