"""One shard of a `prepare`: audio files in, a tar and its index fragment out. Idempotent."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from aalbert.pipeline.archive import read_member
from aalbert.pipeline.audio import Audio, UnusableAudioError, read_audio
from aalbert.pipeline.corpus import Skip, Utterance
from aalbert.pipeline.features import extract, minimum_samples
from aalbert.pipeline.plan import PrepareConfig, ShardTask
from aalbert.shards.index import read_index, write_index
from aalbert.shards.writer import Sample, write_shard

# Index fragments wait here until all shards are done; the folder is gone when they are.
WORK_FOLDER = ".prepare"
SKIPPED_KEY = b"aalbert_skipped"


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """What became of a task: audio taken, in seconds, and files taken and skipped."""

    seconds: float
    taken: int
    skipped: int


def fragment_path(out: Path, task: ShardTask) -> Path:
    """Return where the index rows of a finished shard wait for the end."""
    return out / WORK_FOLDER / f"{task.name}.arrow"


def run_task(task: ShardTask, out: Path) -> TaskReport:
    """Write the shard and then its fragment, whose presence means that both are complete."""
    if fragment_path(out, task).is_file():
        return report(*read_fragment(out, task), task.config)
    skipped: list[Skip] = []
    features = task.config.features
    table = write_shard(
        out / f"{task.name}.tar",
        read_samples(task, skipped),
        shard=task.shard,
        feature_dims={settings.kind: settings.dims for settings in features},
        fields=task.fields,
    )
    write_fragment(out, task, table, skipped)
    return report(table, skipped, task.config)


def report(table: pa.Table, skipped: list[Skip], config: PrepareConfig) -> TaskReport:
    """Sum up a finished shard."""
    samples = sum(table.column("samples").to_pylist())
    seconds = samples / config.features[0].sample_rate
    return TaskReport(seconds=seconds, taken=table.num_rows, skipped=len(skipped))


def write_fragment(out: Path, task: ShardTask, table: pa.Table, skipped: list[Skip]) -> None:
    """Write the index rows of a shard with the list of what it skipped."""
    notes = json.dumps([asdict(skip) for skip in skipped]).encode()
    metadata = {**(table.schema.metadata or {}), SKIPPED_KEY: notes}
    write_index(fragment_path(out, task), table.replace_schema_metadata(metadata))


def read_fragment(out: Path, task: ShardTask) -> tuple[pa.Table, list[Skip]]:
    """Read the index rows of a finished shard and the list of what it skipped."""
    table = read_index(fragment_path(out, task))
    metadata = dict(table.schema.metadata)
    skipped = [Skip(**skip) for skip in json.loads(metadata.pop(SKIPPED_KEY))]
    return table.replace_schema_metadata(metadata), skipped


def read_samples(task: ShardTask, skipped: list[Skip]) -> Iterator[Sample]:
    """Yield the samples of a task; what cannot be used goes to `skipped`."""
    for utterance in task.utterances:
        try:
            yield make_sample(utterance, task.config)
        except UnusableAudioError as error:
            skipped.append(Skip(source=utterance.source, reason=str(error)))


def make_sample(utterance: Utterance, config: PrepareConfig) -> Sample:
    """Decode one utterance and compute its features."""
    sample_rate = config.features[0].sample_rate
    audio = read_audio(open_recording(utterance), sample_rate, strict=config.strict_audio)
    check_long_enough(audio, config)
    return Sample(
        key=utterance.key,
        split=utterance.split,
        speaker=utterance.speaker,
        samples=len(audio.wave),
        source=utterance.source,
        source_sample_rate=audio.source_sample_rate,
        source_channels=audio.source_channels,
        features={settings.kind: extract(audio.wave, settings) for settings in config.features},
        fields=utterance.fields,
        flags=audio.flags,
    )


def open_recording(utterance: Utterance) -> Path | bytes:
    """Return the file of a recording, or its bytes when it lies in an archive."""
    if utterance.offset is None or utterance.index is None:
        return utterance.path
    return read_member(utterance.path, utterance.index, utterance.offset, utterance.size)


def check_long_enough(audio: Audio, config: PrepareConfig) -> None:
    """Refuse audio that is shorter than one analysis window."""
    needed = max(minimum_samples(settings) for settings in config.features)
    if len(audio.wave) < needed:
        sample_rate = config.features[0].sample_rate
        raise UnusableAudioError(
            f"too short: {1000 * len(audio.wave) / sample_rate:.1f} ms, one analysis window "
            f"is {1000 * needed / sample_rate:.1f} ms"
        )
