"""The work folder of an unfinished dataset: fragments of its index, and a record of the run.

Each part of a run writes its own record, so that parts that start at the same moment do not
collide; all must have the same plan. The end of the run reads any of them.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import soundfile
import xxhash

from aalbert.common.files import atomic_write, write_json
from aalbert.common.json_files import parse_record
from aalbert.common.json_files import read_record as read_json_record
from aalbert.common.notes import say
from aalbert.common.signals import stop_if_asked
from aalbert.errors import ConfigError, IntegrityError, OutputInUseError
from aalbert.pipeline.corpora.corpus import Corpus, Skip
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.output import Output
from aalbert.pipeline.prepare.plan import ShardTask
from aalbert.shards.format.manifest import ShardRecord, StoredSettings

# Holds index fragments until all shards are finished, and is then removed.
WORK_FOLDER = ".prepare"
NOTES_KEY = b"aalbert_fragment"
# At the end of a fragment.
HASH_BYTES = 16
RECORD_FOLDER = f"{WORK_FOLDER}/records"
ATTACHMENT_FOLDER = f"{WORK_FOLDER}/attachments"
SOFTWARE = ("aalbert", "numpy", "soundfile", "miniaudio", "soxr")


@dataclass(frozen=True, kw_only=True)
class Amount:
    """An amount of work: files taken, files skipped, and seconds of audio."""

    taken: int = 0
    skipped: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            taken=self.taken + other.taken,
            skipped=self.skipped + other.skipped,
            seconds=self.seconds + other.seconds,
        )


@dataclass(frozen=True, kw_only=True)
class FragmentNotes:
    """What a fragment holds beside its index rows."""

    record: ShardRecord
    skipped: tuple[Skip, ...]


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """A finished shard: its index rows, its record for the manifest, and what it skipped."""

    table: pa.Table
    record: ShardRecord
    skipped: tuple[Skip, ...]

    def amount(self, sample_rate: int) -> Amount:
        """Return the amount of work in the shard."""
        samples = int(self.table.column("samples").to_numpy().sum())
        return Amount(
            taken=self.table.num_rows,
            skipped=len(self.skipped),
            seconds=samples / sample_rate,
        )


def fragment_name(shard: str) -> str:
    """Return the path, in the output, of the index fragment of a shard."""
    return f"{WORK_FOLDER}/{shard}.arrow"


def write_fragment(path: Path, fragment: Fragment) -> None:
    """Write the index rows of a shard, its record, the list of skipped inputs, and their hash."""
    notes = json.dumps(asdict(FragmentNotes(record=fragment.record, skipped=fragment.skipped)))
    metadata = {**(fragment.table.schema.metadata or {}), NOTES_KEY: notes.encode()}
    table = fragment.table.replace_schema_metadata(metadata)
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    content = buffer.getvalue().to_pybytes()
    with atomic_write(path) as stream:
        stream.write(content + xxhash.xxh3_128_digest(content))


def read_fragment(output: Output, shard: str) -> Fragment:
    """Read the fragment of a finished shard; `IntegrityError` when it is not what was written."""
    path = output.fetch(fragment_name(shard))
    content = path.read_bytes()
    rows, digest = content[:-HASH_BYTES], content[-HASH_BYTES:]
    if xxhash.xxh3_128_digest(rows) != digest:
        raise IntegrityError(
            f"{path} is damaged (checksum): run the same 'prepare' again, which does its shard anew"
        )
    table = pa.ipc.open_stream(rows).read_all()
    metadata = dict(table.schema.metadata)
    way_out = "run the same 'prepare' again, which does its shard anew"
    notes = parse_record(FragmentNotes, metadata.pop(NOTES_KEY, b""), str(path), way_out)
    return Fragment(
        table=table.replace_schema_metadata(metadata), record=notes.record, skipped=notes.skipped
    )


def discard_damaged(output: Output, shards: Iterable[str]) -> None:
    """Remove the fragments of finished shards that are not what was written, and say so.

    So they count as missing. A disk may have lost what an earlier run wrote, and no later step
    reads it again.
    """
    present = output.sizes()
    for shard in shards:
        stop_if_asked()
        if fragment_name(shard) not in present:
            continue
        try:
            record = read_fragment(output, shard).record
            whole = (
                record.path == f"{shard}.tar"
                and present.get(record.path) == record.size
                and output.digest(record.path) == record.xxh3
            )
        except IntegrityError:
            whole = False
        if not whole:
            say(
                f"{output.name}/{shard}.tar is not what an earlier run wrote: it is done again",
            )
            output.remove(fragment_name(shard))


@dataclass(frozen=True, kw_only=True)
class Part:
    """The share of the shards that a run computes: part `number` of `count`, from 1."""

    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        """The part as a user writes it."""
        return f"{self.number}/{self.count}"

    def choose(self, tasks: list[ShardTask]) -> list[ShardTask]:
        """Return this part's tasks: every `count`-th."""
        return tasks[self.number - 1 :: self.count]


def missing_parts(record: "PrepareRecord", missing: Collection[str]) -> list[str]:
    """Return the parts that shards which are missing belong to, as a user writes them."""
    numbers = {record.shards.index(shard) % record.parts + 1 for shard in missing}
    return [Part(number=number, count=record.parts).name for number in sorted(numbers)]


def parse_part(text: str) -> Part:
    """Parse `2/3` as part 2 of 3; `ConfigError` for any other text."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--part {text}: expected I/N with I from 1 to N, such as 1/4")
    return Part(number=int(number), count=int(count))


@dataclass(frozen=True, kw_only=True)
class PrepareRecord:
    """The data besides the shards that completes a dataset: its plan, and facts on its corpus.

    `attachments` are the copies in the output that this run made of the corpus's own files
    (name in the dataset -> path); `software` has the versions that decide the bytes.
    """

    plan_fingerprint: str
    software: Mapping[str, str]
    parts: int
    corpus: str
    licence: str
    features: tuple[StoredSettings, ...]
    shards: tuple[str, ...]
    skipped: tuple[Skip, ...]
    attachments: Mapping[str, str]


def make_record(
    corpus: Corpus, config: PrepareConfig, tasks: list[ShardTask], plan: str, part: Part
) -> PrepareRecord:
    """Return the record of a run."""
    folder = f"{ATTACHMENT_FOLDER}/{part.number}-of-{part.count}"
    return PrepareRecord(
        plan_fingerprint=plan,
        software=software_versions(),
        parts=part.count,
        corpus=corpus.name,
        licence=corpus.licence,
        features=config.features,
        shards=tuple(task.name for task in tasks),
        skipped=corpus.skipped,
        attachments={name: f"{folder}/{name}" for name in sorted(corpus.attachments)},
    )


def software_versions() -> dict[str, str]:
    """Return the versions of the software that decides the bytes."""
    versions = {name: version(name) for name in SOFTWARE}
    return {**versions, "libsndfile": soundfile.__libsndfile_version__}


def claim(output: Output, corpus: Corpus, record: PrepareRecord, part: Part) -> None:
    """Write the record of a run into the work folder, after copies of the corpus's own files.

    Raises `OutputInUseError` when a run of another plan, other software or another number
    of parts is in progress there.
    """
    check_records(output, record, part)
    for name, path in record.attachments.items():
        publish_bytes(output, path, corpus.attachments[name].read())
    name = f"{RECORD_FOLDER}/{part.number}-of-{part.count}.json"
    if not output.has(name):
        with output.build(name) as local:
            write_json(local, asdict(record))
    try:
        # Of two runs that came at the same moment, at least one now sees the other.
        check_records(output, record, part)
    except OutputInUseError:
        output.remove(name)
        raise


def check_records(output: Output, record: PrepareRecord, part: Part) -> None:
    """Raise `OutputInUseError` when an incompatible run is in progress."""
    for other in find_records(output):
        if other.plan_fingerprint != record.plan_fingerprint:
            raise OutputInUseError(
                f"{output.name} holds an unfinished 'prepare' of other files or settings: "
                "choose another --out, or delete it first"
            )
        if other.software != record.software:
            raise OutputInUseError(
                f"{output.name} holds an unfinished 'prepare' by other versions "
                f"({differences(other.software, record.software)}), whose numbers may differ: "
                "use those, choose another --out, or delete it first"
            )
        if part.count > 1 and other.parts not in (1, part.count):
            raise OutputInUseError(
                f"{output.name} is being prepared in {other.parts} parts: use --part "
                f"I/{other.parts}, or leave out --part to do all the rest"
            )


def differences(others: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """Return the versions that differ, of both."""
    return ", ".join(
        f"{name} {others.get(name)}, here {ours.get(name)}"
        for name in sorted({*others, *ours})
        if others.get(name) != ours.get(name)
    )


def find_records(output: Output) -> list[PrepareRecord]:
    """Return the records of all runs that are in progress in an output."""
    names = sorted(name for name in output.sizes() if name.startswith(f"{RECORD_FOLDER}/"))
    return [read_record(output.fetch(name)) for name in names]


def publish_bytes(output: Output, name: str, content: bytes) -> None:
    """Write a small file into an output."""
    with output.build(name) as path, atomic_write(path) as stream:
        stream.write(content)


def read_record(path: Path) -> PrepareRecord:
    """Read the record of a run; `OutputInUseError` when another version wrote it."""
    way_out = (
        "it is not a record of a 'prepare' by this version: finish it with the version that "
        "started it, choose another --out, or delete it first"
    )
    return read_json_record(PrepareRecord, path, way_out, OutputInUseError)
