"""The end of a `prepare`: indexes, list of skipped inputs, dataset card, and the manifest last."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from aalbert.common.files import file_digest
from aalbert.common.signals import stop_if_asked
from aalbert.errors import InputError, IntegrityError, OutputInUseError
from aalbert.pipeline.prepare.card import dataset_card
from aalbert.pipeline.prepare.output import Output
from aalbert.pipeline.prepare.work_folder import (
    Fragment,
    PrepareRecord,
    fragment_name,
    missing_parts,
    publish_bytes,
    read_fragment,
)
from aalbert.shards.format.dataset_folder import MANIFEST_NAME
from aalbert.shards.format.feature_settings import FeatureSettings
from aalbert.shards.format.index import frame_counts, statistics_schema, write_index
from aalbert.shards.format.manifest import (
    SKIPPED_NAME,
    FileRecord,
    Manifest,
    ShardRecord,
    SplitRecord,
)
from aalbert.shards.format.statistics import pool_statistics

CARD_NAME = "README.md"


def finish_dataset(output: Output, record: PrepareRecord) -> Manifest:
    """Complete the dataset of finished shards and return its manifest."""
    require_all_shards(output, record)
    fragments = read_fragments(output, record.shards)
    require_whole_shards(output, [fragment.record for fragment in fragments.values()])
    skipped = [*record.skipped, *(skip for each in fragments.values() for skip in each.skipped)]
    if not any(fragment.table.num_rows for fragment in fragments.values()):
        raise InputError(
            f"none of the {len(skipped)} audio files can be used; "
            f"for example {skipped[0].source}: {skipped[0].reason}"
        )
    lines = sorted(json.dumps(asdict(skip)) + "\n" for skip in skipped)
    publish_text(output, SKIPPED_NAME, "".join(lines))
    splits = {
        split: finish_split(output, split, [fragments[shard] for shard in shards], record.features)
        for split, shards in groupby(record.shards, key=lambda shard: shard.rpartition("/")[0])
    }
    everything = pa.concat_tables([fragment.table for fragment in fragments.values()])
    for name, copy in record.attachments.items():
        stop_if_asked()
        publish_bytes(output, name, output.fetch(copy).read_bytes())
    manifest = Manifest(
        corpus=record.corpus,
        features={settings.kind: settings for settings in record.features},
        statistics={
            settings.kind: pool_statistics(
                everything, settings.kind, frame_counts(everything, settings.kind)
            )
            for settings in record.features
        },
        splits=splits,
        skipped=len(skipped),
        plan_fingerprint=record.plan_fingerprint,
        attachments=tuple(record_file(output, name) for name in record.attachments),
        software=record.software,
    )
    publish_text(output, CARD_NAME, dataset_card(manifest, record.licence, skipped))
    documents = tuple(record_file(output, name) for name in (CARD_NAME, SKIPPED_NAME))
    manifest = replace(manifest, documents=documents)
    with output.build(MANIFEST_NAME) as path:
        manifest.write(path.parent)
    return manifest


def read_fragments(output: Output, shards: Sequence[str]) -> dict[str, Fragment]:
    """Return the fragments of finished shards, by their names."""
    fragments = {}
    for shard in shards:
        stop_if_asked()
        fragments[shard] = read_fragment(output, shard)
    return fragments


def require_all_shards(output: Output, record: PrepareRecord) -> None:
    """Raise `OutputInUseError` when shards are missing."""
    present = output.sizes().keys()
    missing = [shard for shard in record.shards if fragment_name(shard) not in present]
    if missing:
        way_out = (
            f"run the missing parts (--part {', '.join(missing_parts(record, missing))})"
            if record.parts > 1
            else "run the same 'prepare' again to finish it"
        )
        raise OutputInUseError(
            f"{output.name} is not finished: {len(missing)} of {len(record.shards)} shards are "
            f"missing, for example {missing[0]}; {way_out}"
        )


def require_whole_shards(output: Output, records: Sequence[ShardRecord]) -> None:
    """Raise `IntegrityError` when a shard has gone, or has another size, since it was written."""
    present = output.sizes()
    for record in records:
        if present.get(record.path) != record.size:
            raise IntegrityError(
                f"{output.name}/{record.path} has {present.get(record.path, 0)} bytes, "
                f"{record.size} were written: run the same 'prepare' again, which does it anew"
            )


def finish_split(
    output: Output,
    split: str,
    fragments: Sequence[Fragment],
    features: Sequence[FeatureSettings],
) -> SplitRecord:
    """Write the index and statistics of a split and return its record."""
    stop_if_asked()
    rows = pa.concat_tables([fragment.table for fragment in fragments])
    columns = statistics_schema({each.kind: each.dims for each in features}).names
    table = rows.drop_columns(columns).combine_chunks()
    sample_rate = features[0].sample_rate
    return SplitRecord(
        index=publish_table(output, f"index/{split}.arrow", table),
        statistics=publish_table(output, f"statistics/{split}.arrow", rows.select(columns)),
        shards=tuple(fragment.record for fragment in fragments),
        utterances=table.num_rows,
        hours=int(table.column("samples").to_numpy().sum()) / sample_rate / 3600,
        speakers=len(table.column("speaker").drop_null().unique()),
    )


def publish_table(output: Output, name: str, table: pa.Table) -> FileRecord:
    """Write an Arrow file into the dataset and return its record."""
    with output.build(name) as path:
        write_index(path, table)
        return record_local(path, name)


def record_local(path: Path, name: str) -> FileRecord:
    """Return the record, size and hash, of a file that was just written."""
    return FileRecord(path=name, size=path.stat().st_size, xxh3=file_digest(path))


def record_file(output: Output, name: str) -> FileRecord:
    """Return the record, size and hash, of a file of the dataset."""
    return record_local(output.fetch(name), name)


def publish_text(output: Output, name: str, text: str) -> None:
    """Write a text into the dataset."""
    publish_bytes(output, name, text.encode("utf-8"))
