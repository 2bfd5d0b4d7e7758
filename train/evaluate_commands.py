"""The command `aalbert evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from aalbert.console import AsJson, show


def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Finished downstream runs.")],
    data: Annotated[str | None, typer.Option(help="Where their dataset lies now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure runs on the test split: metrics.json and report.html in each.

    Example: aalbert evaluate runs/speaker runs/speaker-untrained runs/speaker-logmel
    """
    from dataclasses import asdict

    from aalbert.train.evaluate import evaluate_runs, results_table
    from aalbert.train.report import write_reports

    evaluations = evaluate_runs(runs, data=data)
    write_reports(evaluations)
    results = [evaluation.result for evaluation in evaluations]
    reports = "\n".join(f"report: {evaluation.run.report}" for evaluation in evaluations)
    show([asdict(result) for result in results], as_json, f"{results_table(results)}\n{reports}")
