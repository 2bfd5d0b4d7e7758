"""The command `aalbert evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from aalbert.commands.console import AsJson, show
from aalbert.commands.threads import ThreadsOption, use_threads
from aalbert.commands.waves import CorpusOption, wave_corpus
from aalbert.errors import ConfigError


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
            help="trials.test=LIST: a further list of trials, a file or one stored with the data.",
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
    from dataclasses import asdict

    from aalbert.train.evaluation.evaluate import compare_evaluations, evaluate_runs
    from aalbert.train.evaluation.report import write_reports
    from aalbert.train.evaluation.tables import markdown_tables, result_csv, text_tables

    if as_json + as_markdown + as_csv > 1:
        raise ConfigError("--json, --markdown and --csv exclude each other: give one of them")
    use_threads(threads)
    evaluations = evaluate_runs(
        runs, data=data, assignments=assignments or (), corpus=wave_corpus(corpus)
    )
    comparisons = compare_evaluations(evaluations)
    write_reports(evaluations, comparisons)
    results = [evaluation.result for evaluation in evaluations]
    document = {
        "results": [result.to_dict() for result in results],
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }
    folders = [evaluation.measured.folder for evaluation in evaluations]
    reports = "\n".join(f"report: {folder.report}" for folder in folders)
    if comparisons:
        reports = f"{reports}\ncomparison: {folders[0].comparison}"
    text = f"{text_tables(results, comparisons)}\n{reports}"
    if as_markdown:
        text = markdown_tables(results, comparisons)
    if as_csv:
        print(result_csv(results, comparisons), end="")
        return
    show(document, as_json, text)
