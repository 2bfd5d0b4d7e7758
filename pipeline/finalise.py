"""The end of a `prepare`: indexes, list of skipped inputs, dataset card, and then the manifest."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import soundfile

from aalbert.errors import InputError
from aalbert.files import file_digest, write_text
from aalbert.pipeline.card import dataset_card
from aalbert.pipeline.corpus import Corpus, Skip
from aalbert.pipeline.plan import PrepareConfig, ShardTask
from aalbert.pipeline.task import read_fragment
from aalbert.shards.index import statistics_schema, write_index
from aalbert.shards.manifest import (
    SKIPPED_NAME,
    FileRecord,
    Manifest,
    ShardRecord,
    SplitRecord,
)
from aalbert.shards.statistics import frame_counts, pool_statistics

CARD_NAME = "README.md"
SOFTWARE = ("aalbert", "torch", "torchaudio", "numpy", "soundfile")


def finalise(
    corpus: Corpus, config: PrepareConfig, tasks: list[ShardTask], out: Path, plan: str
) -> Manifest:
    """Turn finished shards into a finished dataset and return its manifest."""
    fragments = {task.name: read_fragment(out, task) for task in tasks}
    tables = {name: table for name, (table, _) in fragments.items()}
    skipped = [*corpus.skipped, *(skip for _, skips in fragments.values() for skip in skips)]
    if not any(table.num_rows for table in tables.values()):
        raise InputError(
            f"none of the {len(skipped)} audio files can be used; "
            f"for example {skipped[0].source}: {skipped[0].reason}"
        )
    write_skipped(out / SKIPPED_NAME, skipped)
    splits = {
        split: finalise_split(out, split, list(group), tables)
        for split, group in groupby(tasks, key=lambda task: task.split)
    }
    everything = pa.concat_tables(list(tables.values()))
    manifest = Manifest(
        corpus=corpus.name,
        features={settings.kind: settings for settings in config.features},
        statistics={
            settings.kind: pool_statistics(
                everything, settings.kind, frame_counts(everything, settings.kind)
            )
            for settings in config.features
        },
        splits=splits,
        skipped=len(skipped),
        plan_fingerprint=plan,
        attachments=carry_along(corpus.attachments, out),
        software=software_versions(),
    )
    write_text(out / CARD_NAME, dataset_card(manifest, corpus, skipped))
    documents = tuple(record_file(out, Path(name)) for name in (CARD_NAME, SKIPPED_NAME))
    manifest = replace(manifest, documents=documents)
    manifest.write(out)
    return manifest


def finalise_split(
    out: Path, split: str, tasks: list[ShardTask], tables: Mapping[str, pa.Table]
) -> SplitRecord:
    """Write index and statistics of a split and record them and its shards."""
    rows = pa.concat_tables([tables[task.name] for task in tasks])
    feature_dims: dict[str, int] = {
        settings.kind: settings.dims for settings in tasks[0].config.features
    }
    statistics_columns = statistics_schema(feature_dims).names
    table = rows.drop_columns(statistics_columns).combine_chunks()
    index, statistics = (Path(kind, f"{split}.arrow") for kind in ("index", "statistics"))
    write_index(out / index, table)
    write_index(out / statistics, rows.select(statistics_columns))
    sample_rate = tasks[0].config.features[0].sample_rate
    return SplitRecord(
        index=record_file(out, index),
        statistics=record_file(out, statistics),
        shards=tuple(
            ShardRecord(
                **asdict(record_file(out, Path(f"{task.name}.tar"))),
                utterances=tables[task.name].num_rows,
            )
            for task in tasks
        ),
        utterances=table.num_rows,
        hours=sum(table.column("samples").to_pylist()) / sample_rate / 3600,
        speakers=len(set(table.column("speaker").to_pylist()) - {None}),
    )


def record_file(out: Path, path: Path) -> FileRecord:
    """Record the size and hash of a file of the dataset."""
    full = out / path
    return FileRecord(path=path.as_posix(), size=full.stat().st_size, xxh3=file_digest(full))


def write_skipped(path: Path, skipped: list[Skip]) -> None:
    """Write the list of inputs that were not taken, one JSON document a line."""
    lines = sorted(json.dumps(asdict(skip)) + "\n" for skip in skipped)
    write_text(path, "".join(lines))


def carry_along(attachments: Mapping[str, Path], out: Path) -> tuple[FileRecord, ...]:
    """Copy the corpus's own files, such as trial lists, into the dataset."""
    for name, source in attachments.items():
        write_text(out / name, source.read_text("utf-8"))
    return tuple(record_file(out, Path(name)) for name in attachments)


def software_versions() -> dict[str, str]:
    """Return the versions of what decided the bytes."""
    versions = {name: version(name) for name in SOFTWARE}
    return {**versions, "libsndfile": soundfile.__libsndfile_version__}
