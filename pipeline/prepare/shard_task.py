"""One shard of a `prepare`: from audio files to a tar and its index fragment; idempotent."""

from collections.abc import Callable, Iterator

from aalbert.common.files import file_digest
from aalbert.common.signals import stop_if_asked
from aalbert.errors import InputError
from aalbert.kernel import native
from aalbert.pipeline.audio.conditioning import condition
from aalbert.pipeline.audio.decode import read_audio
from aalbert.pipeline.audio.features import check_long_enough, extract
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.pipeline.corpora.corpus import Skip, Utterance
from aalbert.pipeline.corpora.recordings import audio_of
from aalbert.pipeline.prepare.config import PrepareConfig
from aalbert.pipeline.prepare.output import Output
from aalbert.pipeline.prepare.plan import ShardTask
from aalbert.pipeline.prepare.work_folder import (
    Amount,
    Fragment,
    fragment_name,
    read_fragment,
    write_fragment,
)
from aalbert.shards.format.manifest import ShardRecord
from aalbert.shards.format.writer import Sample, write_shard

# Called after every file with the amount done since the last call.
ReportAmount = Callable[[Amount], None]


def run_task(task: ShardTask, output: Output, report: ReportAmount = lambda _: None) -> Amount:
    """Write the shard and then its fragment, whose presence means that both are complete."""
    sample_rate = task.config.features[0].sample_rate
    if output.has(fragment_name(task.name)):
        done = read_fragment(output, task.name).amount(sample_rate)
        report(done)
        return done
    native.keep_freed_memory()
    skipped: list[Skip] = []
    name = f"{task.name}.tar"
    with output.build(name) as path:
        table = write_shard(
            path,
            read_samples(task, skipped, report),
            shard=task.shard,
            feature_dims={settings.kind: settings.dims for settings in task.config.features},
            fields=task.fields,
        )
        record = ShardRecord(
            path=name,
            size=path.stat().st_size,
            xxh3=file_digest(path),
            utterances=table.num_rows,
        )
    fragment = Fragment(table=table, record=record, skipped=tuple(skipped))
    with output.build(fragment_name(task.name)) as path:
        write_fragment(path, fragment)
    return fragment.amount(sample_rate)


def read_samples(task: ShardTask, skipped: list[Skip], report: ReportAmount) -> Iterator[Sample]:
    """Yield the samples of a task; inputs that cannot be used are added to `skipped`."""
    for utterance in task.utterances:
        stop_if_asked()
        try:
            sample = make_sample(utterance, task.config)
        except UnusableAudioError as error:
            skipped.append(Skip(source=utterance.source, reason=str(error)))
            report(Amount(skipped=1))
        else:
            yield sample
            sample_rate = task.config.features[0].sample_rate
            report(Amount(taken=1, seconds=sample.samples / sample_rate))


def make_sample(utterance: Utterance, config: PrepareConfig) -> Sample:
    """Decode one utterance, condition its wave and compute its features.

    Raises `InputError` when its file is gone or has changed since the plan was made.
    """
    sample_rate, wave_settings = config.features[0].sample_rate, config.features[0].wave
    try:
        audio = read_audio(
            audio_of(utterance),
            sample_rate,
            strict=config.strict_audio,
            span=(utterance.start, utterance.end),
        )
    finally:
        # What is found wrong with a file that has changed is not why it cannot be used.
        require_unchanged(utterance)
    # With a recording of hours, each of these takes seconds.
    stop_if_asked()
    wave = condition(audio.wave, sample_rate, wave_settings)
    check_long_enough(wave, config.features)
    stop_if_asked()
    return Sample(
        key=utterance.key,
        split=utterance.split,
        speaker=utterance.speaker,
        samples=len(wave),
        source=utterance.source,
        source_sample_rate=audio.source_sample_rate,
        source_channels=audio.source_channels,
        features={settings.kind: extract(wave, settings) for settings in config.features},
        fields=utterance.fields,
        flags=audio.flags + (("trimmed",) if len(wave) < len(audio.wave) else ()),
    )


def require_unchanged(utterance: Utterance) -> None:
    """Raise `InputError` when the file of a recording has not the size that the plan counts."""
    if utterance.offset is not None:
        return
    try:
        size = utterance.path.stat().st_size
    except OSError as error:
        raise InputError(
            f"{utterance.path} cannot be read now ({error.strerror}): run the same command again "
            "when it can, finished work is kept"
        ) from error
    if size != utterance.size:
        raise InputError(
            f"{utterance.path} has changed during the run: {size} bytes, {utterance.size} before; "
            "delete the output and run the command again"
        )
