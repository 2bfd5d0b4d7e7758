"""The command `aalbert evaluate`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aalbert.commands.console import AsJson, show
from aalbert.commands.threads import ThreadsOption, use_threads
from aalbert.commands.waves import CorpusOption, wave_corpus
from aalbert.errors import ConfigError

if TYPE_CHECKING:
    from aalbert.train.evaluation.comparison import Comparison
    from aalbert.train.evaluation.evaluate import Evaluation
    from aalbert.train.evaluation.result import Result


def evaluate(
    runs: Annotated[
        list[Path], typer.Argument(help="Finished downstream runs; the first is the reference.")
    ],
    data: Annotated[
        str | None, typer.Option(help="Folder or URL of their dataset, if it has moved.")
    ] = None,
    corpus: CorpusOption = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="trials.test=LIST: a further list of trials, or several (LIST,LIST): files, or "
            "stored with the data (vox1-o-cleaned).",
        ),
    ] = None,
    as_json: AsJson = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables in Markdown.")
    ] = False,
    threads: ThreadsOption = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one CSV row per run.")] = False,
) -> None:
    """Evaluate runs on the test split and compare them with the first one.

    Each run gets metrics.json, predictions.csv and report.html; of several, the first one gets
    comparison.html. For a further list of trials they lie in RUN/trials/LIST.

    Example: aalbert evaluate runs/speaker runs/speaker-untrained runs/speaker-logmel
    """
    from aalbert.train.evaluation.evaluate import compare_evaluations, evaluate_lists
    from aalbert.train.evaluation.report import write_reports
    from aalbert.train.evaluation.tables import markdown_tables, result_csv, text_tables

    if as_json + as_markdown + as_csv > 1:
        raise ConfigError("--json, --markdown and --csv exclude each other: give one of them")
    use_threads(threads)
    by_list = evaluate_lists(
        runs, data=data, assignments=assignments or (), corpus=wave_corpus(corpus)
    )
    documents, texts = [], []
    for evaluations in by_list:
        comparisons = compare_evaluations(evaluations)
        write_reports(evaluations, comparisons)
        results = [evaluation.result for evaluation in evaluations]
        documents.append(describe(results, comparisons))
        if as_csv:
            # One table, with one header.
            text = result_csv(results, comparisons)
            print(text.partition("\n")[2] if len(documents) > 1 else text, end="")
            continue
        tables = markdown_tables if as_markdown else text_tables
        title = [f"{results[0].trials}:", ""] if len(by_list) > 1 else []
        reports = [] if as_markdown else name_reports(evaluations, compared=bool(comparisons))
        texts.append("\n".join([*title, tables(results, comparisons), *reports]))
    if not as_csv:
        document = documents[0] if len(documents) == 1 else {"lists": documents}
        show(document, as_json, "\n\n".join(texts))


def describe(results: Sequence["Result"], comparisons: Sequence["Comparison"]) -> dict[str, object]:
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
