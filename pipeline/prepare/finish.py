"""The end of a `prepare`: indexes, list of skipped inputs, dataset card, and then the manifest."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from aalbert.common.files import file_digest
from aalbert.errors import InputError, OutputInUseError
from aalbert.pipeline.card import dataset_card
from aalbert.pipeline.corpora.corpus import Skip
from aalbert.pipeline.prepare.output import Output
from aalbert.pipeline.prepare.shard_task import Fragment, fragment_name, read_fragment
from aalbert.pipeline.prepare.work_folder import Job, publish_bytes
from aalbert.shards.index import statistics_schema, write_index
from aalbert.shards.manifest import (
    MANIFEST_NAME,
    SKIPPED_NAME,
    FileRecord,
    Manifest,
    SplitRecord,
)
from aalbert.shards.settings import FeatureSettings
from aalbert.shards.statistics import frame_counts, pool_statistics

CARD_NAME = "README.md"


def finalise(output: Output, job: Job) -> Manifest:
    """Turn finished shards into a finished dataset and return its manifest."""
    require_all_shards(output, job)
    fragments = {shard: read_fragment(output, shard) for shard in job.shards}
    skipped = [*job.skipped, *(skip for each in fragments.values() for skip in each.skipped)]
    if not any(fragment.table.num_rows for fragment in fragments.values()):
        raise InputError(
            f"none of the {len(skipped)} audio files can be used; "
            f"for example {skipped[0].source}: {skipped[0].reason}"
        )
    publish_text(output, SKIPPED_NAME, skip_lines(skipped))
    splits = {
        split: finalise_split(output, split, [fragments[shard] for shard in shards], job.features)
        for split, shards in groupby(job.shards, key=lambda shard: shard.rpartition("/")[0])
    }
    everything = pa.concat_tables([fragment.table for fragment in fragments.values()])
    manifest = Manifest(
        corpus=job.corpus,
        features={settings.kind: settings for settings in job.features},
        statistics={
            settings.kind: pool_statistics(
                everything, settings.kind, frame_counts(everything, settings.kind)
            )
            for settings in job.features
        },
        splits=splits,
        skipped=len(skipped),
        plan_fingerprint=job.plan_fingerprint,
        attachments=tuple(
            publish_attachment(output, name, path) for name, path in job.attachments.items()
        ),
        software=job.software,
    )
    publish_text(output, CARD_NAME, dataset_card(manifest, job.licence, skipped))
    documents = tuple(record_file(output, name) for name in (CARD_NAME, SKIPPED_NAME))
    manifest = replace(manifest, documents=documents)
    with output.build(MANIFEST_NAME) as path:
        manifest.write(path.parent)
    return manifest


def require_all_shards(output: Output, job: Job) -> None:
    """Raise `OutputInUseError` when some shards are not done yet."""
    present = output.sizes().keys()
    missing = [shard for shard in job.shards if fragment_name(shard) not in present]
    if missing:
        how = (
            f"run the parts that are left (--part I/{job.parts})"
            if job.parts > 1
            else "run the same 'prepare' again to finish it"
        )
        raise OutputInUseError(
            f"{output.name} is not finished: {len(missing)} of {len(job.shards)} shards are "
            f"missing, for example {missing[0]}; {how}"
        )


def finalise_split(
    output: Output,
    split: str,
    fragments: Sequence[Fragment],
    features: Sequence[FeatureSettings],
) -> SplitRecord:
    """Write index and statistics of a split and record them and its shards."""
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
    """Write an Arrow file into the dataset and record it."""
    with output.build(name) as path:
        write_index(path, table)
        return record_local(path, name)


def record_local(path: Path, name: str) -> FileRecord:
    """Record the size and hash of a file that was just written."""
    return FileRecord(path=name, size=path.stat().st_size, xxh3=file_digest(path))


def record_file(output: Output, name: str) -> FileRecord:
    """Record the size and hash of a file of the dataset."""
    return record_local(output.fetch(name), name)


def publish_attachment(output: Output, name: str, copy: str) -> FileRecord:
    """Put a file of the corpus into the dataset, from the copy that a run made, and record it."""
    publish_bytes(output, name, output.fetch(copy).read_bytes())
    return record_file(output, name)


def publish_text(output: Output, name: str, text: str) -> None:
    """Write a text into the dataset."""
    publish_bytes(output, name, text.encode("utf-8"))


def skip_lines(skipped: list[Skip]) -> str:
    """Return the list of inputs that were not taken, one JSON document a line."""
    return "".join(sorted(json.dumps(asdict(skip)) + "\n" for skip in skipped))
