"""`align`: from a corpus with transcripts to a folder of phone labels.

Utterances are aligned in pieces that are finished or absent, by several processes. An interrupted
alignment continues where it stopped, and the files are the same whatever the number of processes.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from ctypes import c_byte
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Lt

from aalbert.common.files import write_json
from aalbert.common.isolation import isolated_children
from aalbert.common.json_files import read_record
from aalbert.common.progress import Progress, progress_bar
from aalbert.common.pronunciations import Pronunciations, words_of
from aalbert.common.signals import (
    blocked_signals,
    leave_signals_to_the_parent,
    stop_if_asked,
)
from aalbert.common.work_folder import do_once, remove_work
from aalbert.errors import InputError, WorkersDiedError
from aalbert.pipeline.alignment.output import (
    RECORD_NAME,
    AlignmentRecord,
    Failure,
    Labelled,
    write_output,
)
from aalbert.pipeline.alignment.phone_aligner import (
    SAMPLE_RATE,
    NotAlignedError,
    align_phones,
    dictionary_path,
    software,
)
from aalbert.pipeline.alignment.phone_set import PHONES, read_unstressed
from aalbert.pipeline.audio.decode import read_audio
from aalbert.pipeline.audio.recording import UnusableAudioError
from aalbert.pipeline.corpora.corpus import Corpus, Utterance
from aalbert.pipeline.corpora.recordings import audio_of
from aalbert.pipeline.prepare.engine import CONTEXT, REFRESH_S, end_with_parent
from aalbert.shards.format.feature_settings import fingerprint

WORK_FOLDER = ".align"
# What the folder holds when the plan is another, in the words of an error.
UNFINISHED = "alignment of other utterances, texts or pronunciations"
# What is lost of a piece when the run is stopped takes seconds.
PIECE_UTTERANCES = 8
NUMBER_OF = {phone: number for number, phone in enumerate(PHONES)}
PhoneNumber = Annotated[int, Ge(0), Lt(len(PHONES))]


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """An utterance, its words, and the pronunciations of each of them that is known."""

    utterance: Utterance
    words: tuple[str, ...]
    pronunciations: Mapping[str, Pronunciations]

    @property
    def identity(self) -> list[Any]:
        """All that decides the labels; an audio file counts by its size."""
        one = self.utterance
        return [one.key, one.source, one.size, one.start, one.end, self.words, self.pronunciations]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A finished piece: the labels of its utterances, and key, source and reason of the others."""

    labels: Mapping[str, tuple[PhoneNumber, ...]]
    failed: tuple[tuple[str, str, str], ...]


def align_corpus(
    corpus: Corpus,
    out: Path,
    *,
    text_field: str = "text",
    pronunciations: Path | None = None,
    workers: int = 1,
) -> dict[str, Any]:
    """Write the phone labels of a corpus into `out` and return their record, `alignment.json`.

    The text of an utterance is its field `text_field`; those without one are left out. The entries
    of the dictionary `pronunciations` go over those of pocketsphinx. Work that was finished before
    an interruption is kept, and a finished alignment too. Raises `OutputInUseError` when `out`
    holds something else, and `InputError` when no utterance has a text, or none can be aligned.
    """
    own = {} if pronunciations is None else read_unstressed(pronunciations)
    transcripts = read_transcripts(corpus, text_field, own)
    skipped = [[skip.source, skip.reason] for skip in corpus.skipped]
    plan = fingerprint([software(), skipped, [each.identity for each in transcripts]])

    def align() -> dict[str, Any]:
        starts = range(0, len(transcripts), PIECE_UTTERANCES)
        pieces = [tuple(transcripts[start : start + PIECE_UTTERANCES]) for start in starts]
        with progress_bar("align", total=len(transcripts), unit="utterance") as bar:
            run_pieces(pieces, out, workers, bar)
        labelled, failed = collect(out, len(pieces))
        unread = [Failure("", skip.source, skip.reason) for skip in corpus.skipped]
        failures = [*unread, *failed]
        if not labelled:
            remove_work(out / WORK_FOLDER)
            raise InputError(
                f"none of the {len(failures)} utterances can be aligned; for example "
                f"{failures[0].source}: {failures[0].reason}"
            )
        described = {
            "corpus": corpus.name,
            "licence": corpus.licence,
            "software": software(),
            "own_pronunciations": len(own),
            "without_text": len(corpus.utterances) - len(transcripts),
            "plan": plan,
        }
        return write_output(out, labelled, failures, described)

    return do_once(out / WORK_FOLDER, plan, UNFINISHED, lambda: read_finished(out, plan), align)


def read_finished(out: Path, plan: str) -> dict[str, Any] | None:
    """Return the record of a finished alignment of this plan."""
    path = out / RECORD_NAME
    if not path.is_file():
        return None
    record = read_record(AlignmentRecord, path, f"delete {out} and align again")
    return asdict(record) if record.plan == plan else None


def read_transcripts(
    corpus: Corpus, text_field: str, own: Mapping[str, Pronunciations]
) -> list[Transcript]:
    """Return the utterances that have a text, with the pronunciations of their words."""
    known = {**read_unstressed(Path(dictionary_path())), **own}
    transcripts = []
    for utterance in corpus.utterances:
        if text := utterance.fields.get(text_field):
            words = tuple(words_of(text, known))
            spoken = {word: known[word] for word in sorted(set(words)) if word in known}
            transcripts.append(Transcript(utterance=utterance, words=words, pronunciations=spoken))
    if not transcripts:
        raise InputError(
            f"none of the {len(corpus.utterances)} utterances of {corpus.root} has a text: "
            f"expected the field '{text_field}', the fields are {', '.join(corpus.fields)}"
        )
    return transcripts


def run_pieces(
    pieces: Sequence[tuple[Transcript, ...]], out: Path, workers: int, bar: Progress
) -> None:
    """Align all pieces in up to `workers` processes; a single one is this process."""
    count = min(workers, len(pieces))
    if count <= 1:
        for number, piece in enumerate(pieces):
            bar.update(align_piece(piece, number, out))
        return
    asked = CONTEXT.RawValue("b", 0)
    # Blocked for the process too that tracks what pools share: it has to outlive the work.
    with blocked_signals(), isolated_children():
        executor = ProcessPoolExecutor(count, CONTEXT, initializer=start_worker, initargs=(asked,))
    try:
        with blocked_signals(), isolated_children():
            running = {
                executor.submit(align_piece, piece, number, out)
                for number, piece in enumerate(pieces)
            }
        while running:
            stop_if_asked()
            done, running = wait(running, timeout=REFRESH_S, return_when=FIRST_COMPLETED)
            for future in done:
                bar.update(future.result())
    except BrokenProcessPool as error:
        raise WorkersDiedError(
            "a process that aligned was killed: is there enough memory? Fewer --workers need less; "
            "run the same command again, finished work is kept"
        ) from error
    finally:
        asked.value = 1
        executor.shutdown(cancel_futures=True)


def start_worker(asked: c_byte) -> None:
    """Initialise a worker: stop when the parent says so in `asked`, or ends."""
    leave_signals_to_the_parent(asked)
    threading.Thread(target=end_with_parent, daemon=True).start()


def piece_path(out: Path, number: int) -> Path:
    """Return the path of the labels of a finished piece."""
    return out / WORK_FOLDER / f"{number:06d}.json"


def align_piece(piece: Sequence[Transcript], number: int, out: Path) -> int:
    """Write the labels of a piece, unless they are there; return the number of its utterances."""
    path = piece_path(out, number)
    if not path.is_file():
        labels: dict[str, tuple[int, ...]] = {}
        failed: list[tuple[str, str, str]] = []
        for transcript in piece:
            stop_if_asked()
            utterance = transcript.utterance
            try:
                labels[utterance.key] = tuple(label(transcript))
            except (UnusableAudioError, NotAlignedError) as error:
                failed.append((utterance.key, utterance.source, str(error)))
        write_json(path, asdict(Piece(labels=labels, failed=tuple(failed))))
    return len(piece)


def label(transcript: Transcript) -> list[int]:
    """Return the number of the phone of every 10 ms of an utterance.

    Raises `NotAlignedError` when it has words without a pronunciation, or they do not fit into the
    recording, and `UnusableAudioError` when that cannot be used.
    """
    unknown = sorted(set(transcript.words) - transcript.pronunciations.keys())
    if unknown:
        raise NotAlignedError(f"words that no dictionary has: {' '.join(unknown)}")
    if not transcript.words:
        raise NotAlignedError("the text has no words")
    one = transcript.utterance
    audio = read_audio(audio_of(one), SAMPLE_RATE, span=(one.start, one.end))
    phones = align_phones(audio.wave, transcript.words, transcript.pronunciations)
    return [NUMBER_OF[phone] for phone in phones]


def collect(out: Path, pieces: int) -> tuple[list[Labelled], list[Failure]]:
    """Return the labels and failures of all pieces, in the order of the corpus."""
    labelled: list[Labelled] = []
    failures: list[Failure] = []
    for number in range(pieces):
        path = piece_path(out, number)
        piece = read_record(Piece, path, "delete it and run the same command again")
        labelled += [Labelled(key, labels) for key, labels in piece.labels.items()]
        failures += [Failure(*each) for each in piece.failed]
    return labelled, failures
