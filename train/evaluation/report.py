"""The report of an evaluation: one HTML file that says what came out, how sure it is, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from aalbert.common.files import write_text
from aalbert.train.downstream.tasks import TASKS
from aalbert.train.evaluation.comparison import Comparison
from aalbert.train.evaluation.evaluate import Evaluation
from aalbert.train.evaluation.report_sections import (
    data_section,
    det_section,
    examples_section,
    layers_section,
    plane_section,
    pretraining_section,
    training_section,
    weakness_section,
)
from aalbert.train.evaluation.result import Result, layer_words
from aalbert.train.evaluation.tables import (
    best_first,
    comparison_rows,
    comparison_title,
    interval,
    percent,
    result_rows,
)
from aalbert.train.report.page import facts, note, page, section, table


@dataclass(frozen=True, eq=False)
class Report:
    """Runs that were evaluated together, and how each differs from the first."""

    evaluations: Sequence[Evaluation]
    comparisons: Sequence[Comparison]

    @property
    def results(self) -> list[Result]:
        """The results of all runs."""
        return [evaluation.result for evaluation in self.evaluations]


def write_reports(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison]) -> None:
    """Write the report of every run; each compares all runs that were evaluated together."""
    report = Report(evaluations, comparisons)
    for evaluation in evaluations:
        write_text(evaluation.run.report, report_page(evaluation, report))


def report_page(evaluation: Evaluation, report: Report) -> str:
    """Return the whole page for one run."""
    result = evaluation.result
    title = f"{TASKS[result.task].title}: {result.upstream_name}"
    return page(
        title,
        [
            headline(title, result),
            result_section(result, report),
            published_section(result),
            det_section(report.evaluations),
            weakness_section(evaluation),
            layers_section(evaluation),
            plane_section(evaluation),
            examples_section(evaluation),
            training_section(evaluation),
            pretraining_section(evaluation),
            data_section(evaluation),
            section("Made with", settings_table(result)),
        ],
    )


def headline(title: str, result: Result) -> str:
    """Return the first thing to read: the metric and how sure it is."""
    metric = result.metric
    tested = ", ".join(
        f"{number:,} {name.replace('_', ' ')}" for name, number in result.counts.items()
    )
    return (
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="figure">{percent(metric.value)}</p>\n'
        f"<p>{escape(metric.name)} on the {escape(result.split)} split ({escape(tested)}). "
        f"95&nbsp;% interval {interval(metric.interval_95)}&nbsp;%, by resampling "
        f"{escape(metric.resampled)}.</p>"
    )


def result_section(result: Result, report: Report) -> str:
    """Return the table of all runs, how they differ, and how to read it."""
    header, *rows = result_rows(report.results)
    this = [each.run == result.run for each in best_first(report.results)]
    marked = [*this, *(False for _ in rows[len(this) :])]
    parts = [table(header, list(zip(rows, marked, strict=True)))]
    if report.comparisons:
        header, *rows = comparison_rows(report.comparisons)
        parts += [
            note(f"{comparison_title(report.comparisons)}."),
            table(header, [(row, row[0] == Path(result.run).name) for row in rows]),
        ]
    else:
        parts.append(
            note(
                "Evaluate this run together with the same encoder untrained and with plain "
                "features to see what pretraining is worth."
            )
        )
    return section("Result", *parts, note(how_chosen(result)))


def how_chosen(result: Result) -> str:
    """Say what was trained, what was chosen on which split, and what an interval covers."""
    upstream = {
        "frozen": "The upstream is frozen.",
        "fine-tuned": "The upstream was trained on with the head.",
        "from-scratch": "The upstream was trained with the head from random weights.",
    }[result.mode]
    kind = result.metric.resampled.partition(" ")[2]
    return (
        f"{upstream} Head: {result.head}. What was chosen was chosen on the dev split; only this "
        f"evaluation reads the test split. An interval says how the figure would vary with other "
        f"{kind}, not with another seed of training."
    )


def published_section(result: Result) -> str:
    """Return what others reported for this task, where something is known."""
    benchmark = TASKS[result.task].benchmark
    if benchmark is None:
        return ""
    rows = [
        (
            [
                each.system,
                percent(each.value),
                "" if each.parameters is None else f"{each.parameters:,}",
            ],
            False,
        )
        for each in benchmark.figures
    ]
    sources = "; ".join(sorted({each.source for each in benchmark.figures}))
    return section(
        "Published figures",
        table(["system", result.metric.name, "parameters"], rows),
        note(f"{benchmark.comparability(result.counts)} Source: {sources}."),
    )


def settings_table(result: Result) -> str:
    """Return what is needed to make the result again."""
    training = ", ".join(f"{name} {value}" for name, value in result.upstream_training.items())
    return facts(
        {
            "task": result.task,
            "run": result.run,
            "upstream": result.upstream + (" (weights drawn anew)" if result.untrained else ""),
            "upstream's parameters": f"{result.upstream_parameters:,}",
            "upstream's training": training or "none",
            "mode": result.mode,
            "layers": layer_words(result.layers),
            "head": f"{result.head}, {result.head_parameters:,} parameters",
            **training_settings(result),
            "seed": str(result.seed),
        }
    )


def training_settings(result: Result) -> dict[str, str]:
    """Return how the head was trained, if it has anything to train."""
    if result.head_parameters == 0:
        return {"training": "none: nothing was fitted"}
    return {"learning rate": f"{result.learning_rate:g}", "epochs": str(result.epochs)}
