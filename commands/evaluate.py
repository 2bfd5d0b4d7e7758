"""The command `aalbert evaluate`."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aalbert.commands.console import AsJson, show
from aalbert.commands.help import OUTPUT
from aalbert.commands.machine import DeviceOption, ThreadsOption, use_machine
from aalbert.commands.waves import CorpusOption, wave_corpus
from aalbert.common.notes import note
from aalbert.errors import ConfigError

if TYPE_CHECKING:
    from aalbert.train.downstream.waves import WaveCorpus
    from aalbert.train.evaluation.comparison import Comparison
    from aalbert.train.evaluation.evaluate import Evaluation
    from aalbert.train.evaluation.result import Result


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Finished downstream runs; the first is the reference."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder or URL of their dataset, if it has moved."),
    ] = None,
    corpus: CorpusOption = None,
    audio: Annotated[
        bool,
        typer.Option("--audio", help="Put recordings of examples, from --corpus, into the pages."),
    ] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="trials.test=LIST: a further list of trials, or several (LIST,LIST): files, or "
            "stored with the data (vox1-o-cleaned).",
        ),
    ] = None,
    split: Annotated[
        Literal["test", "dev"],
        typer.Option(
            help="The part to measure: dev while you choose among runs, whose results lie in "
            "RUN/splits/dev.",
        ),
    ] = "test",
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    as_json: AsJson = False,
    as_markdown: Annotated[
        bool,
        typer.Option("--markdown", help="Print the tables in Markdown.", rich_help_panel=OUTPUT),
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print one CSV row per run.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Evaluate runs on the test split and compare them with the first one.

    The test split is what results are stated of; nothing else reads it. Each run gets
    metrics.json, predictions.csv and report.html; of several, the first one gets comparison.html.
    For a further list of trials they lie in RUN/trials/LIST.

    Example: aalbert evaluate runs/speaker runs/speaker-untrained runs/speaker-logmel
    """
    from aalbert.train.evaluation.evaluate import evaluate_lists
    from aalbert.train.evaluation.recordings import require_recordings
    from aalbert.train.evaluation.tables import markdown_tables, result_csv, text_tables

    if as_json + as_markdown + as_csv > 1:
        raise ConfigError("--json, --markdown and --csv exclude each other: give one of them")
    use_machine(device, threads)
    waves = wave_corpus(corpus, to_listen=audio)
    if audio:
        require_recordings(runs, data, waves)
    by_list = evaluate_lists(
        runs, data=data, assignments=assignments or (), corpus=waves, part=split
    )
    if split != "test":
        note(f"note: these are figures of the {split} part, by which models were chosen")
    tables = result_csv if as_csv else markdown_tables if as_markdown else text_tables
    finish = partial(
        finish_list,
        tables=tables,
        named=not as_markdown and not as_csv,
        recordings=waves if audio else None,
    )
    # No list is kept here while the next one is evaluated: its embeddings would fill memory.
    finished = list(map(finish, by_list))
    if as_csv:
        # One table, with one header.
        texts = [text for _, text in finished]
        print("".join([texts[0], *(text.partition("\n")[2] for text in texts[1:])]), end="")
        return
    several = len(finished) > 1
    texts = [
        f"{document['results'][0]['trials']}:\n\n{text}" if several else text
        for document, text in finished
    ]
    documents = [document for document, _ in finished]
    show({"lists": documents} if several else documents[0], as_json, "\n\n".join(texts))


def finish_list(
    evaluations: Sequence["Evaluation"],
    *,
    tables: Callable[[Sequence["Result"], Sequence["Comparison"]], str],
    named: bool,
    recordings: "WaveCorpus | None",
) -> tuple[dict[str, Any], str]:
    """Write the reports on one list; return its results as a JSON document, and in `tables`.

    With `named` lines below the tables name the reports, which have `recordings` of a corpus.
    """
    from aalbert.train.evaluation.evaluate import compare_evaluations
    from aalbert.train.evaluation.report import write_reports

    comparisons = compare_evaluations(evaluations)
    write_reports(evaluations, comparisons, recordings)
    results = [evaluation.result for evaluation in evaluations]
    text = tables(results, comparisons)
    if named:
        text = "\n".join([text, *name_reports(evaluations, compared=bool(comparisons))])
    return describe(results, comparisons), text


def describe(results: Sequence["Result"], comparisons: Sequence["Comparison"]) -> dict[str, Any]:
    """Return the results on one list, and the comparisons, as a JSON document."""
    return {
        "results": [result.to_dict() for result in results],
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }


def name_reports(evaluations: Sequence["Evaluation"], *, compared: bool) -> list[str]:
    """Return lines that name the pages that were written."""
    folders = [evaluation.measured.folder for evaluation in evaluations]
    lines = [f"report: {folder.report}" for folder in folders]
    return [*lines, f"comparison: {folders[0].comparison}"] if compared else lines
