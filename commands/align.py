"""The command `aalbert align`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aalbert.commands.console import AsJson, Out, show
from aalbert.commands.options import MaxSkippedOption, WorkersOption
from aalbert.common.notes import note
from aalbert.errors import ConfigError

if TYPE_CHECKING:
    from aalbert.pipeline.corpora.corpus import Corpus


def align(
    corpus: Annotated[
        Path,
        typer.Argument(
            metavar="CORPUS",
            help="LibriSpeech, unpacked or in archives, or a table as 'prepare manifest' reads "
            "with a column of texts.",
        ),
    ],
    out: Out,
    subset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this subset of LibriSpeech; again for more."),
    ] = None,
    text_column: Annotated[
        str, typer.Option(metavar="NAME", help="The column of a table that has the texts.")
    ] = "text",
    pronunciations: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A dictionary for more words, in the form of cmudict: WORD PHONES."
        ),
    ] = None,
    workers: WorkersOption = None,
    max_skipped: MaxSkippedOption = 0.5,
    as_json: AsJson = False,
) -> None:
    """Make phone labels of recordings from their transcripts, with pocketsphinx (English).

    The labels are made by a machine; what failed is listed in failed.jsonl. Needs
    pip install 'aalbert[align]'.

    Example: aalbert align /corpora/LibriSpeech --subset train-clean-100 --out alignments
    """
    from aalbert.common.cores import available_cores
    from aalbert.pipeline.alignment.align import align_corpus
    from aalbert.pipeline.alignment.output import FAILED_NAME, LABELS_NAME
    from aalbert.pipeline.corpora.corpus import check_skipped, read_skips

    record = align_corpus(
        read_corpus(corpus, subset or ()),
        out,
        text_field=text_column,
        pronunciations=pronunciations,
        workers=workers or available_cores(),
    )
    if record["without_text"]:
        note(f"note: left out {record['without_text']} utterances without text")
    text = (
        f"{out}: labels of {record['utterances']:,} utterances, {record['hours']:.2f} hours, made "
        f"by a machine ({record['software']}); {record['failed']} failed, {record['suspicious']} "
        "are suspicious"
    )
    labels = shlex.quote(str(out / LABELS_NAME))
    then = (
        "aalbert downstream librispeech-phone --data DATA --upstream MODEL "
        f"--set labels.alignments={labels} --out RUN"
    )
    show({"out": str(out), **record}, as_json, text, then=then)
    check_skipped(
        taken=record["utterances"],
        skipped=record["failed"],
        max_skipped=max_skipped,
        find_skips=lambda: read_skips(out / FAILED_NAME),
        advice=f"The labels of the others are complete; see {out / FAILED_NAME}",
    )


def read_corpus(place: Path, subsets: Sequence[str]) -> "Corpus":
    """Return a list of recordings, or LibriSpeech or some of its subsets."""
    from aalbert.pipeline.corpora.librispeech import read_librispeech
    from aalbert.pipeline.corpora.manifest_file import read_manifest_file
    from aalbert.pipeline.corpora.tables.listing import is_listing

    if not is_listing(place):
        return read_librispeech(place, subsets)
    if subsets:
        raise ConfigError(f"--subset is for LibriSpeech, {place} is a list: leave it out")
    return read_manifest_file(place)
