"""Damage to the files of a dataset, drawn at random: bytes and places, or edits that are sealed.

A damage of bytes contradicts a checksum. A sealed edit comes with every checksum computed anew, so
that only what the files say of one another can tell.
"""

import dataclasses
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from aalbert.common.files import file_digest
from aalbert.shards.format.index import read_index, write_index
from aalbert.shards.format.manifest import (
    FeatureStatistics,
    FileRecord,
    Manifest,
    SplitRecord,
    read_manifest,
)

BLOCK_BYTES = 512
MOST_GROWTH_BYTES = 3000

Damage = Callable[[Random, Path], None]
Edit = Callable[[Random, Path, Manifest], Manifest]


def files_of(folder: Path) -> list[Path]:
    """The files of a dataset, those in place of which something else lies too."""
    return sorted(each for each in folder.rglob("*") if each.is_symlink() or not each.is_dir())


def draw_file(random: Random, folder: Path) -> Path:
    """A file with something in it: of every kind equally often, though most are shards."""
    kinds: dict[str, list[Path]] = {}
    for path in files_of(folder):
        if path.stat().st_size:
            kinds.setdefault(f"{path.parent.name if path.suffix == '.arrow' else path.suffix}", [])
            kinds[path.parent.name if path.suffix == ".arrow" else path.suffix].append(path)
    return random.choice(kinds[random.choice(sorted(kinds))])


def rewrite(path: Path, content: bytes, *, in_place: bool) -> None:
    """Give a file another content: that of the same inode, or a new file under its name."""
    if in_place:
        with path.open("r+b") as stream:
            stream.write(content)
            stream.truncate()
        return
    other = path.with_name(".other")
    other.write_bytes(content)
    other.replace(path)


def flipped(random: Random, content: bytes) -> bytes:
    """One to three bits flipped, wherever they are."""
    changed = bytearray(content)
    for place in random.sample(range(8 * len(changed)), random.randint(1, 3)):
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def overwritten(random: Random, content: bytes) -> bytes:
    """A stretch of zeros or noise in place of what was there; at least its first byte changes."""
    start = random.randrange(len(content))
    if random.random() < 0.5:
        start -= start % BLOCK_BYTES
    size = min(random.choice([1, 8, BLOCK_BYTES, 4096]), len(content) - start)
    new = bytes(size) if random.random() < 0.5 else random.randbytes(size)
    changed = content[:start] + new + content[start + size :]
    return changed if changed != content else flipped(random, content)


def exchanged(random: Random, content: bytes) -> bytes:
    """Two stretches of whole blocks in each other's place, such as members of a shard."""
    blocks = [content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES)]
    cuts = sorted(random.choices(range(len(blocks) + 1), k=4))
    a, b, c, d = cuts
    changed = b"".join([*blocks[:a], *blocks[c:d], *blocks[b:c], *blocks[a:b], *blocks[d:]])
    return changed if changed != content else flipped(random, content)


def cut(random: Random, content: bytes) -> bytes:
    """Cut off anywhere, or at a block."""
    size = random.randrange(len(content))
    return content[: size if random.random() < 0.5 else size - size % BLOCK_BYTES]


def grown(random: Random, content: bytes) -> bytes:
    """Longer, by zeros, noise, or once more the same."""
    more = random.randint(1, MOST_GROWTH_BYTES)
    return content + random.choice([bytes(more), random.randbytes(more), content])


SAME_SIZE = (flipped, overwritten, exchanged)
OTHER_SIZE = (cut, grown)


def damage_content(random: Random, folder: Path) -> None:
    """Change the bytes of a file."""
    path = draw_file(random, folder)
    change = random.choice([*SAME_SIZE, *OTHER_SIZE])
    rewrite(path, change(random, path.read_bytes()), in_place=random.random() < 0.5)


def remove(random: Random, folder: Path) -> None:
    """Delete a file, or a folder with its files."""
    path = random.choice(files_of(folder))
    if random.random() < 0.2 and path.parent != folder:
        shutil.rmtree(path.parent)
    else:
        path.unlink()


def swap_files(random: Random, folder: Path) -> None:
    """Put two files of different content in each other's place."""
    one = draw_file(random, folder)
    others = [path for path in files_of(folder) if path.read_bytes() != one.read_bytes()]
    alike = [path for path in others if path.suffix == one.suffix]
    other = random.choice(alike or others)
    aside = folder / ".aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def copy_over(random: Random, folder: Path) -> None:
    """Write a file of the dataset over another of different content."""
    one = draw_file(random, folder)
    others = [path for path in files_of(folder) if path.read_bytes() != one.read_bytes()]
    alike = [path for path in others if path.suffix == one.suffix]
    shutil.copyfile(one, random.choice(alike or others))


def add_file(random: Random, folder: Path) -> None:
    """Put a file into the dataset that is none of its own."""
    parent = random.choice(sorted({path.parent for path in files_of(folder)}))
    name = random.choice(["000099.tar", "more.arrow", "000000.tar.partial", "x", ".x", "\n\x1b[2J"])
    shutil.copyfile(draw_file(random, folder), parent / name)


def put_in_place(random: Random, folder: Path) -> None:
    """Put something that is no file of these bytes in place of a file."""
    path = draw_file(random, folder)
    content = path.read_bytes()
    path.unlink()
    kind = random.choice(["folder", "pipe", "nowhere", "itself", "device", "other", "root"])
    others = [other for other in files_of(folder) if other.read_bytes() != content]
    links: dict[str, Path | str] = {
        "nowhere": "nowhere",
        "itself": path.name,
        "device": "/dev/zero",
        "other": random.choice(others),
        "root": "/",
    }
    if kind == "folder":
        path.mkdir()
        (path / "inside").write_bytes(content)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(links[kind])


BYTES: tuple[Damage, ...] = (
    damage_content,
    damage_content,
    damage_content,
    remove,
    swap_files,
    copy_over,
    add_file,
    put_in_place,
)


def replace_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    """Give a column other values of its type."""
    field = table.schema.field(name)
    return table.set_column(table.column_names.index(name), field, pa.array(values, field.type))


def edit_table(
    random: Random, folder: Path, record: FileRecord, change: Callable[[pa.Table], pa.Table]
) -> None:
    """Change an Arrow file."""
    path = folder / record.path
    changed = change(read_index(path))
    path.unlink()
    write_index(path, changed)


def draw_split(random: Random, manifest: Manifest) -> SplitRecord:
    """One of the splits."""
    return manifest.splits[random.choice(sorted(manifest.splits))]


def edit_index(random: Random, folder: Path, manifest: Manifest) -> Manifest:
    """Change a value in the index, so that it no longer says what shards and manifest say."""
    record = draw_split(random, manifest).index
    feature = random.choice(sorted(manifest.features))

    def change(table: pa.Table) -> pa.Table:
        row = random.randrange(table.num_rows)
        other = random.choice([each for each in range(table.num_rows) if each != row])
        kinds: dict[str, Callable[[Any], Any]] = {
            f"{feature}_offset": lambda value: random.choice([-1, 0, value + 512, 2**62, -(2**62)]),
            f"{feature}_bytes": lambda value: random.choice([0, -2, value + 1, value - 160, 2**62]),
            f"{feature}_frames": lambda value: random.choice([0, -1, value + 1, 2**31 - 1]),
            f"{feature}_xxh3": lambda value: value ^ (1 << random.randrange(64)),
            "key": lambda value: random.choice(
                ["", "k" * 200, "../../x", value + "é", table.column("key")[other].as_py()]
            ),
            "shard": lambda value: random.choice([value + 1, -1, 2**31 - 1]),
            "split": lambda value: "elsewhere",
            "speaker": lambda value: random.choice([None, "somebody", "s" * 500]),
            "samples": lambda value: random.choice([0, -1, value + 1, 2**62]),
            "source": lambda value: value + "\n",
            "source_sample_rate": lambda value: value + 1,
            "source_channels": lambda value: value + 1,
            "flags": lambda value: [*value, "odd"],
        }
        name = random.choice(sorted(kinds))
        values = table.column(name).to_pylist()
        values[row] = kinds[name](values[row])
        return replace_column(table, name, values)

    edit_table(random, folder, record, change)
    return manifest


def edit_rows(random: Random, folder: Path, manifest: Manifest) -> Manifest:
    """Drop, repeat or exchange rows, of the index or the statistics."""
    split = draw_split(random, manifest)
    record = random.choice([split.index, split.statistics])

    def change(table: pa.Table) -> pa.Table:
        rows = list(range(table.num_rows))
        one, other = random.sample(rows, 2)
        kind = random.choice(["drop", "repeat", "exchange", "none", "all twice"])
        if kind == "drop":
            del rows[one]
        elif kind == "repeat":
            rows.insert(other, one)
        elif kind == "exchange":
            rows[one], rows[other] = rows[other], rows[one]
        elif kind == "none":
            rows = []
        else:
            rows *= 2
        return table.take(pa.array(rows, pa.int64())).combine_chunks()

    edit_table(random, folder, record, change)
    return manifest


def edit_columns(random: Random, folder: Path, manifest: Manifest) -> Manifest:
    """Drop, rename or retype a column, or leave values out, of the index or the statistics."""
    split = draw_split(random, manifest)
    record = random.choice([split.index, split.statistics])
    optional = {field.name for field in read_index(folder / record.path).schema if field.nullable}

    def change(table: pa.Table) -> pa.Table:
        at = random.randrange(table.num_columns)
        name, values = table.column_names[at], table.column(at).to_pylist()
        kind = random.choice(["drop", "rename", "text", "nothing", "nulls", "version"])
        if kind == "drop":
            return table.drop_columns([name])
        if kind == "rename":
            names = [f"{each}_" if each == name else each for each in table.column_names]
            return table.rename_columns(names).replace_schema_metadata(table.schema.metadata)
        if kind == "text":
            texts = pa.array([[str(value)] for value in values])
            return table.set_column(at, name, texts)
        if kind == "nothing":
            return table.select([]).replace_schema_metadata(table.schema.metadata)
        if kind == "version":
            return table.replace_schema_metadata({"aalbert_format_version": "2"})
        missing = pa.array([None] * len(values), table.schema.field(at).type)
        if name in optional:
            return table.set_column(at, pa.field(name, missing.type, nullable=False), missing)
        return table.set_column(at, table.schema.field(at), missing)

    edit_table(random, folder, record, change)
    return manifest


def edit_arrow_bytes(random: Random, folder: Path, manifest: Manifest) -> Manifest:
    """Change bytes of an Arrow file that mean something: it is no longer what it says, or no file.

    What is changed has to be read differently, or not at all; padding is of no consequence.
    """
    split = draw_split(random, manifest)
    path = folder / random.choice([split.index, split.statistics]).path
    written, before = path.read_bytes(), read_index(path).to_pylist()
    while True:
        path.unlink()
        path.write_bytes(random.choice([*SAME_SIZE, *OTHER_SIZE])(random, written))
        try:
            table = read_index(path)
            table.validate(full=True)
            if differ(before, table.to_pylist()):
                return manifest
        # Whatever pyarrow raises, and what cannot be read at all.
        except Exception:
            return manifest


def differ(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> bool:
    """Whether rows differ, by more than the last digits of numbers in float32."""
    if [row.keys() for row in before] != [row.keys() for row in after]:
        return True
    pairs = [
        (row[name], other[name]) for row, other in zip(before, after, strict=True) for name in row
    ]
    numbers = all(isinstance(one, list) and one and isinstance(one[0], float) for one, _ in pairs)
    if not numbers:
        return before != after
    return any(not np.allclose(one, other, rtol=0.01, atol=0.01) for one, other in pairs)


def edit_statistics(random: Random, folder: Path, manifest: Manifest) -> Manifest:
    """Change a number of the statistics of an utterance."""

    def change(table: pa.Table) -> pa.Table:
        name = random.choice(table.column_names)
        values = table.column(name).to_pylist()
        row = random.randrange(len(values))
        place = random.randrange(len(values[row]))
        old = values[row][place]
        # Away from zero by more than rounding is taken for, or to the other side of it.
        step = math.copysign(1 + abs(old), old)
        values[row][place] = random.choice(
            [old + 0.01 * step, -old - step, float("nan"), float("inf")]
        )
        return replace_column(table, name, values)

    edit_table(random, folder, draw_split(random, manifest).statistics, change)
    return manifest


def edit_payload(random: Random, folder: Path, manifest: Manifest) -> Manifest:
    """Change the numbers of an utterance, and its checksum in the index with them."""
    split = draw_split(random, manifest)
    feature = random.choice(sorted(manifest.features))

    def change(table: pa.Table) -> pa.Table:
        row = random.randrange(table.num_rows)
        start, size = (
            table.column(f"{feature}_{name}")[row].as_py() for name in ("offset", "bytes")
        )
        path = folder / split.shards[table.column("shard")[row].as_py()].path
        content = bytearray(path.read_bytes())
        numbers = np.frombuffer(content, "<f2", size // 2, start)
        at = random.randrange(len(numbers))
        kind = random.choice(["nan", "infinite", "sign", "zeros", "noise"])
        if kind == "nan":
            numbers[at] = np.nan
        elif kind == "infinite":
            numbers[at] = np.inf
        elif kind == "sign":
            numbers *= -1
            numbers += 1
        elif kind == "zeros":
            numbers[:] = 0
        else:
            numbers[:] = np.frombuffer(random.randbytes(len(numbers)), np.int8)
        path.unlink()
        path.write_bytes(content)
        hashes = table.column(f"{feature}_xxh3").to_pylist()
        hashes[row] = xxhash.xxh3_64_intdigest(content[start : start + size])
        return replace_column(table, f"{feature}_xxh3", hashes)

    edit_table(random, folder, split.index, change)
    return manifest


def edit_shard(random: Random, folder: Path, manifest: Manifest) -> Manifest:
    """Change the bytes of a shard or of a document, whose own checksum is computed anew."""
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    path = folder / random.choice(shards).path
    content = random.choice([*SAME_SIZE, *OTHER_SIZE])(random, path.read_bytes())
    path.unlink()
    path.write_bytes(content)
    return manifest


def edit_manifest(random: Random, folder: Path, manifest: Manifest) -> Manifest:
    """Change what the manifest says of the dataset."""
    name = random.choice(sorted(manifest.splits))
    split = manifest.splits[name]
    feature = random.choice(sorted(manifest.features))
    statistics, settings = manifest.statistics[feature], manifest.features[feature]

    def with_split(**changes: Any) -> Manifest:
        changed = dataclasses.replace(split, **changes)
        return dataclasses.replace(manifest, splits={**manifest.splits, name: changed})

    def with_statistics(changed: FeatureStatistics) -> Manifest:
        return dataclasses.replace(manifest, statistics={**manifest.statistics, feature: changed})

    def with_feature(**changes: Any) -> Manifest:
        changed = dataclasses.replace(settings, **changes)
        return dataclasses.replace(manifest, features={**manifest.features, feature: changed})

    def without(mapping: Mapping[str, Any], key: str) -> dict[str, Any]:
        return {each: value for each, value in mapping.items() if each != key}

    first, *rest = split.shards
    kinds: list[Callable[[], Manifest]] = [
        lambda: with_split(utterances=split.utterances + random.choice([-1, 1])),
        lambda: with_split(hours=split.hours * 1.01),
        lambda: with_split(speakers=split.speakers + random.choice([-1, 1])),
        lambda: with_split(shards=tuple(rest)),
        lambda: with_split(shards=(*rest, first) if rest else ()),
        lambda: with_split(shards=(first, *split.shards)),
        lambda: with_split(index=split.statistics),
        lambda: with_split(statistics=split.index),
        lambda: with_split(
            shards=(dataclasses.replace(first, utterances=first.utterances + 1), *rest)
        ),
        lambda: with_statistics(dataclasses.replace(statistics, frames=statistics.frames + 1)),
        lambda: with_statistics(
            dataclasses.replace(statistics, mean=(statistics.mean[0] + 0.01, *statistics.mean[1:]))
        ),
        lambda: with_statistics(
            dataclasses.replace(statistics, std=(*statistics.std[:-1], statistics.std[-1] * 1.01))
        ),
        lambda: with_statistics(
            dataclasses.replace(statistics, mean=statistics.mean[1:], std=statistics.std[1:])
        ),
        lambda: with_feature(mels=settings.dims + 1),
        lambda: with_feature(frame_shift_ms=5.0),
        lambda: dataclasses.replace(manifest, features=without(manifest.features, feature)),
        lambda: dataclasses.replace(manifest, splits=without(manifest.splits, name)),
        lambda: dataclasses.replace(
            manifest, splits={f"{each} ": value for each, value in manifest.splits.items()}
        ),
        lambda: dataclasses.replace(manifest, skipped=manifest.skipped + 1),
        lambda: dataclasses.replace(manifest, documents=manifest.documents[1:]),
        lambda: dataclasses.replace(manifest, attachments=manifest.attachments[1:]),
        lambda: dataclasses.replace(manifest, statistics=without(manifest.statistics, feature)),
    ]
    return random.choice(kinds)()


EDITS: tuple[Edit, ...] = (
    edit_index,
    edit_index,
    edit_rows,
    edit_columns,
    edit_arrow_bytes,
    edit_statistics,
    edit_payload,
    edit_shard,
    edit_manifest,
)


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest with size and checksum of every file as it is now."""

    def sealed(record: Any) -> Any:
        path = folder / record.path
        if not path.is_file():
            return record
        return dataclasses.replace(record, size=path.stat().st_size, xxh3=file_digest(path))

    splits = {
        name: dataclasses.replace(
            split,
            index=sealed(split.index),
            statistics=sealed(split.statistics),
            shards=tuple(sealed(shard) for shard in split.shards),
        )
        for name, split in manifest.splits.items()
    }
    dataclasses.replace(
        manifest,
        splits=splits,
        attachments=tuple(sealed(record) for record in manifest.attachments),
        documents=tuple(sealed(record) for record in manifest.documents),
    ).write(folder)


def edit_and_seal(random: Random, folder: Path, edits: tuple[Edit, ...] = EDITS) -> str:
    """Change what a dataset says, with all of its checksums; return the name of the edit."""
    edit = random.choice(edits)
    manifest = edit(random, folder, read_manifest(folder))
    (folder / "manifest.json").unlink()
    seal(folder, manifest)
    return edit.__name__
