import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aalbert.errors import ConfigError, InputError, IntegrityError
from aalbert.shards.format.feature_settings import fingerprint
from aalbert.shards.format.index import read_index
from aalbert.shards.format.manifest import read_manifest, text_with_checksum
from aalbert.shards.reading.dataset import Dataset

SHARD = Path("train-clean-100/000001.tar")
INDEX = Path("index/dev-clean.arrow")


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text("utf-8"))
    edit(document)
    path.write_text(json.dumps(document), "utf-8")


def rewrite(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest and update its checksum."""
    path = folder / "manifest.json"
    document = json.loads(path.read_text("utf-8"))
    edit(document)
    del document["checksum"]
    path.write_text(text_with_checksum(document), "utf-8")


def flip(path: Path, position: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 0x10
    path.write_bytes(raw)


def features_of_all_rows(dataset: Dataset) -> list[bytes]:
    return [
        dataset.features(row, feature).tobytes()
        for row in range(len(dataset))
        for feature in ("logmel", "fbank")
    ]


def test_a_folder_that_is_not_there_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with pytest.raises(InputError) as caught:
        Dataset(folder)
    assert str(caught.value) == (
        f"there is no folder {folder}: make it with 'aalbert prepare CORPUS DIR --out {folder}'"
    )


def test_for_the_parent_of_a_dataset_the_error_suggests_the_dataset(dataset_copy: Path) -> None:
    parent = dataset_copy.parent
    with pytest.raises(InputError) as caught:
        Dataset(parent)
    assert str(caught.value) == (
        f"{parent} is not a dataset but holds some: did you mean {dataset_copy}?"
    )


def test_without_its_manifest_a_dataset_counts_as_unfinished(dataset_copy: Path) -> None:
    (dataset_copy / "manifest.json").unlink()
    with pytest.raises(InputError) as caught:
        Dataset(dataset_copy)
    assert str(caught.value) == (
        f"{dataset_copy} has no manifest.json: it is not a dataset made by 'aalbert prepare', or "
        "its 'prepare' was interrupted (run the same command again to finish it)"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": "aalbert-shards"}', "\x00"])
def test_a_damaged_manifest_is_named(dataset_copy: Path, text: str) -> None:
    (dataset_copy / "manifest.json").write_text(text)
    with pytest.raises(IntegrityError, match=str(dataset_copy / "manifest.json")):
        Dataset(dataset_copy)


@pytest.mark.parametrize(
    "name", ["corpus", "features", "statistics", "splits", "attachments", "fingerprint"]
)
def test_a_manifest_without_one_of_its_parts_is_damaged(dataset_copy: Path, name: str) -> None:
    rewrite(dataset_copy, lambda document: document.pop(name))
    with pytest.raises(IntegrityError, match=r"manifest\.json is damaged .*prepare the data again"):
        read_manifest(dataset_copy)


def test_a_manifest_of_another_version_is_refused(dataset_copy: Path) -> None:
    change(dataset_copy, lambda document: document.update(format_version=2))
    with pytest.raises(IntegrityError) as caught:
        read_manifest(dataset_copy)
    assert str(caught.value) == (
        f"{dataset_copy / 'manifest.json'} has format aalbert-shards version 2, this aalbert reads "
        "aalbert-shards version 1; prepare the data again"
    )


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document["features"]["logmel"].update(log_offset=1e-6),
        lambda document: document["splits"]["dev-clean"].update(utterances=5),
        lambda document: document["splits"]["dev-clean"]["shards"][0].update(xxh3="0" * 32),
        lambda document: document["statistics"]["logmel"]["mean"].reverse(),
    ],
    ids=["feature settings", "count", "hash", "statistics"],
)
def test_a_manifest_changed_by_hand_is_refused(
    dataset_copy: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    change(dataset_copy, edit)
    with pytest.raises(IntegrityError, match="was changed after it was written"):
        read_manifest(dataset_copy)


def test_a_dataset_may_be_moved(dataset_copy: Path, tmp_path: Path, prepared: Path) -> None:
    moved = dataset_copy.rename(tmp_path / "elsewhere")
    assert features_of_all_rows(Dataset(moved)) == features_of_all_rows(Dataset(prepared))


def test_every_flipped_bit_of_a_manifest_is_found(dataset_copy: Path) -> None:
    path = dataset_copy / "manifest.json"
    raw = path.read_bytes()
    for position in range(0, len(raw), max(1, len(raw) // 400)):
        changed = bytearray(raw)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(IntegrityError):
            read_manifest(dataset_copy)


@pytest.mark.parametrize("text", ["{}\n", " {}", "{}\r\n"], ids=["line", "blank", "return"])
def test_white_space_added_to_a_manifest_is_found(dataset_copy: Path, text: str) -> None:
    path = dataset_copy / "manifest.json"
    path.write_bytes(text.replace("{}", path.read_bytes().decode()).encode())
    with pytest.raises(IntegrityError, match="was changed after it was written"):
        read_manifest(dataset_copy)


@pytest.mark.parametrize("outside", ["/etc/passwd", "../secret", "index/../../secret"])
def test_a_manifest_that_names_a_file_outside_of_its_folder_is_refused(
    dataset_copy: Path, outside: str
) -> None:
    record = {"path": outside, "size": 0, "xxh3": "0" * 32}
    rewrite(dataset_copy, lambda document: document["documents"].append(record))
    with pytest.raises(IntegrityError) as caught:
        read_manifest(dataset_copy)
    assert str(caught.value) == (
        f"{dataset_copy / 'manifest.json'} names a file outside of its folder, '{outside}': "
        "do not use this dataset"
    )


def reseal(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest, and then its fingerprint and its checksum."""
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    del document["checksum"], document["fingerprint"]
    edit(document)
    left_out = ("plan_fingerprint", "software", "documents")
    hashed = {name: value for name, value in document.items() if name not in left_out}
    path.write_text(text_with_checksum({**document, "fingerprint": fingerprint(hashed)}))


SPLIT = ("splits", "dev-clean")
SHARD_0 = (*SPLIT, "shards", 0)
LOGMEL = ("features", "logmel")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("corpus",), 5),
        (("skipped",), "many"),
        (("skipped",), -1),
        (("software",), {"numpy": 2}),
        (("splits",), {}),
        (("splits",), []),
        (("features",), {}),
        (("more",), 1),
        ((*SPLIT, "hours"), "1"),
        ((*SPLIT, "hours"), -1),
        ((*SPLIT, "speakers"), []),
        ((*SPLIT, "utterances"), 7),
        ((*SPLIT, "index"), None),
        ((*SPLIT, "index", "size"), -5),
        ((*SPLIT, "index", "size"), "5"),
        ((*SPLIT, "index", "size"), 2**70),
        ((*SPLIT, "index", "size"), True),
        ((*SPLIT, "index", "path"), 5),
        ((*SPLIT, "index", "path"), "a\0b"),
        ((*SPLIT, "index", "path"), ""),
        ((*SPLIT, "index", "xxh3"), "0"),
        ((*SHARD_0, "utterances"), -1),
        ((*SHARD_0, "more"), 1),
        (("statistics", "logmel", "mean"), [1.0]),
        (("statistics", "logmel", "std", 0), "a"),
        (("statistics", "logmel", "frames"), -1),
        (LOGMEL, None),
        ((*LOGMEL, "kind"), "fbank"),
        ((*LOGMEL, "kind"), "wav"),
        ((*LOGMEL, "mels"), "80"),
        ((*LOGMEL, "mels"), 10**12),
        ((*LOGMEL, "mels"), 40),
        ((*LOGMEL, "sample_rate"), True),
        ((*LOGMEL, "fft_size"), 2**40),
        ((*LOGMEL, "window_length_ms"), 1e12),
        ((*LOGMEL, "frame_shift_ms"), 1e12),
        ((*LOGMEL, "wave"), [1]),
        ((*LOGMEL, "wave", "silence"), "none"),
    ],
)
def test_values_of_other_types_are_named_even_with_their_checksum(
    dataset_copy: Path, place: tuple[Any, ...], value: object
) -> None:
    def edit(document: Any) -> None:
        for name in place[:-1]:
            document = document[name]
        document[place[-1]] = value

    reseal(dataset_copy, edit)
    with pytest.raises(IntegrityError, match=r"manifest\.json (is damaged|names a file)"):
        read_manifest(dataset_copy)


def test_a_resealed_manifest_is_read(dataset_copy: Path) -> None:
    reseal(dataset_copy, lambda document: document.update(corpus="other"))
    assert read_manifest(dataset_copy).corpus == "other"


def test_a_manifest_whose_fingerprint_is_computed_differently_here_is_refused(
    dataset_copy: Path,
) -> None:
    rewrite(dataset_copy, lambda document: document.update(corpus="other"))
    with pytest.raises(IntegrityError, match="has fingerprint [0-9a-f]{16}, this aalbert computes"):
        read_manifest(dataset_copy)


def test_a_shard_that_is_not_recorded_is_named_on_opening(dataset_copy: Path) -> None:
    extra = dataset_copy / "train-clean-100" / "000099.tar"
    extra.write_bytes(bytes(1024))
    with pytest.raises(IntegrityError) as caught:
        Dataset(dataset_copy)
    assert str(caught.value) == (
        f"{extra} is no part of the dataset: the manifest does not record it; move it elsewhere"
    )


@pytest.mark.parametrize("file", [SHARD, INDEX], ids=["shard", "index"])
def test_a_missing_file_is_named_on_opening(dataset_copy: Path, file: Path) -> None:
    path = dataset_copy / file
    size = path.stat().st_size
    path.unlink()
    with pytest.raises(IntegrityError) as caught:
        Dataset(dataset_copy)
    assert str(caught.value) == (
        f"{path} is missing, the manifest says {size} bytes; restore it, or delete "
        f"{dataset_copy} and prepare the data again"
    )


@pytest.mark.parametrize("file", [SHARD, INDEX], ids=["shard", "index"])
def test_a_truncated_file_is_named_on_opening(dataset_copy: Path, file: Path) -> None:
    path = dataset_copy / file
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    with pytest.raises(IntegrityError) as caught:
        Dataset(dataset_copy)
    assert str(caught.value) == (
        f"{path} has {size // 2} bytes, the manifest says {size} bytes; "
        f"restore it, or delete {dataset_copy} and prepare the data again"
    )


def test_a_flipped_bit_in_a_payload_is_found_on_reading_with_shard_and_key(
    dataset_copy: Path,
) -> None:
    dataset = Dataset(dataset_copy)
    row = 7
    key = dataset.column("key")[row]
    path = dataset.shard_paths[dataset.shards()[row]]
    flip(path, dataset.table.column("logmel_offset")[row].as_py() + 33)
    with pytest.raises(IntegrityError) as caught:
        Dataset(dataset_copy).features(row, "logmel")
    assert str(caught.value) == (
        f"{path}: the logmel of '{key}' is not what was written (checksum); "
        "restore the shard or prepare the data again"
    )


def test_a_flipped_bit_leaves_the_other_utterances_readable(
    dataset_copy: Path, prepared: Path
) -> None:
    dataset = Dataset(dataset_copy)
    path = dataset.shard_paths[dataset.shards()[7]]
    flip(path, dataset.table.column("logmel_offset")[7].as_py())
    others = [row for row in range(len(dataset)) if row != 7]
    whole = Dataset(prepared)
    for row in others:
        np.testing.assert_array_equal(
            dataset.features(row, "logmel"), whole.features(row, "logmel")
        )


def test_a_hundred_flipped_payload_bits_are_all_found(dataset_copy: Path) -> None:
    rng = np.random.default_rng(1)
    dataset = Dataset(dataset_copy)
    for _ in range(100):
        row, feature = int(rng.integers(len(dataset))), ("logmel", "fbank")[rng.integers(2)]
        path = dataset.shard_paths[dataset.shards()[row]]
        size = dataset.table.column(f"{feature}_bytes")[row].as_py()
        place = dataset.table.column(f"{feature}_offset")[row].as_py() + int(rng.integers(size))
        with path.open("r+b") as stream:
            stream.seek(place)
            byte = stream.read(1)[0]
            stream.seek(place)
            stream.write(bytes([byte ^ 1 << rng.integers(8)]))
            stream.flush()
            with pytest.raises(IntegrityError, match="checksum"):
                dataset.features(row, feature)
            stream.seek(place)
            stream.write(bytes([byte]))


def test_swapped_shards_are_found(dataset_copy: Path) -> None:
    first, second = sorted((dataset_copy / "train-clean-100").glob("*.tar"))[:2]
    first.rename(dataset_copy / "x.tar")
    second.rename(first)
    (dataset_copy / "x.tar").rename(second)
    with pytest.raises(IntegrityError):
        features_of_all_rows(Dataset(dataset_copy))


def test_a_changed_speaker_in_the_index_is_found(dataset_copy: Path) -> None:
    path = dataset_copy / INDEX
    size = path.stat().st_size
    table = pa.ipc.open_file(str(path)).read_all()
    speakers = table.column("speaker").to_pylist()
    speakers[0] = {"500": "501", "501": "500"}[speakers[0]]
    place = table.schema.get_field_index("speaker")
    changed = table.set_column(place, table.schema.field("speaker"), pa.array(speakers))
    with pa.ipc.new_file(str(path), changed.schema) as writer:
        writer.write_table(changed)
    assert path.stat().st_size == size
    with pytest.raises(IntegrityError):
        features_of_all_rows(Dataset(dataset_copy))


def test_an_index_of_another_version_is_refused(prepared: Path, tmp_path: Path) -> None:
    table = pa.ipc.open_file(str(prepared / INDEX)).read_all()
    path = tmp_path / "later.arrow"
    schema = table.schema.with_metadata({b"aalbert_format_version": b"2"})
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_table(table.replace_schema_metadata(schema.metadata))
    with pytest.raises(IntegrityError) as caught:
        read_index(path)
    assert str(caught.value) == (
        f"{path} has format version 2, this aalbert reads 1; "
        "prepare the data again or use the version that wrote it"
    )


@pytest.mark.parametrize("content", [b"", b"not arrow at all", b"ARROW1\0\0" + bytes(100)])
def test_a_file_that_is_no_index_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "index.arrow"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{path} is missing or damaged"):
        read_index(path)


def test_rows_are_chosen_by_patterns_of_splits(prepared: Path) -> None:
    dataset = Dataset(prepared)
    splits = dataset.column("split")
    for pattern, expected in (("train*", {"train-clean-100"}), ("*", set(splits))):
        chosen = dataset.rows([pattern])
        assert [splits[row] in expected for row in range(len(dataset))] == np.isin(
            np.arange(len(dataset)), chosen
        ).tolist()


def test_a_pattern_without_a_split_is_refused_with_the_splits_there_are(prepared: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Dataset(prepared).rows(["train*", "test-*"])
    assert str(caught.value) == (
        f"{prepared} has no split 'test-*': it has dev-clean, train-clean-100"
    )


def test_a_feature_that_is_not_stored_is_refused_with_those_that_are(prepared: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Dataset(prepared).frames("mfcc")
    assert str(caught.value) == (
        f"{prepared} has no feature 'mfcc': it has logmel, fbank; prepare it with --feature mfcc"
    )


@pytest.mark.parametrize("rows", [[0], [3, 1, 7], list(range(30))], ids=str)
def test_statistics_of_some_rows_are_those_of_their_frames(prepared: Path, rows: list[int]) -> None:
    dataset = Dataset(prepared)
    frames = np.concatenate([dataset.features(row, "fbank") for row in rows]).astype(np.float64)
    statistics = dataset.statistics(np.array(rows), "fbank")
    assert statistics.frames == len(frames)
    np.testing.assert_allclose(statistics.mean, frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(statistics.std, frames.std(axis=0), rtol=1e-4)


def test_damaged_statistics_are_named_when_they_are_read(dataset_copy: Path) -> None:
    path = dataset_copy / "statistics" / "dev-clean.arrow"
    flip(path, path.stat().st_size // 2)
    dataset = Dataset(dataset_copy)
    with pytest.raises(IntegrityError, match=f"{path} is not what was written"):
        dataset.statistics(np.array([0]), "logmel")
