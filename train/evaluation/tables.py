"""Results and predictions as tables: plain text, Markdown, CSV for a spreadsheet."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from aalbert.common.csv_text import csv_text
from aalbert.common.text import (
    figure,
    figure_interval,
    markdown,
    number,
    percent,
    text_table,
    visible,
)
from aalbert.models.downstream_head import layer_words
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.measures import FURTHER_SHARES
from aalbert.train.downstream.outcomes import Outcome
from aalbert.train.evaluation.comparison import Comparison
from aalbert.train.evaluation.result import Result

Cells = Sequence[str]


def best_first(results: Sequence[Result]) -> list[Result]:
    """Return results of one task, the best first."""
    sign = -1 if results[0].metric.higher_is_better else 1
    return sorted(results, key=lambda result: sign * result.metric.value)


def run_names(runs: Iterable[str]) -> dict[str, str]:
    """Return the shortest ends of the paths of runs that tell these apart, by path.

    They are the names of the runs in all tables of an evaluation.
    """
    parts = {run: Path(run).parts for run in runs}
    for length in range(1, max(map(len, parts.values())) + 1):
        names = {run: str(Path(*own[-length:])) for run, own in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {run: run for run in parts}


def result_rows(results: Sequence[Result]) -> list[list[str]]:
    """Return a header and one row a run, the best first, then the baselines."""
    metric = results[0].metric
    names = run_names(result.run for result in results)
    # Only calibrated scores have actual costs.
    further = list(dict.fromkeys(name for each in results for name in each.metric.further))
    header = ["run", "upstream", metric.name, "95 % interval", *further]
    rows = [
        [
            names[result.run],
            result.upstream_name,
            figure(result.metric.value, share=metric.share),
            figure_interval(result.metric.interval_95, share=metric.share),
            *(
                figure(result.metric.further[name], share=name in FURTHER_SHARES)
                if name in result.metric.further
                else ""
                for name in further
            ),
        ]
        for result in best_first(results)
    ]
    empty = ["" for _ in further]
    rows += [
        [name, "", figure(value, share=metric.share), "", *empty]
        for name, value in metric.baselines.items()
    ]
    return [header, *rows]


def comparison_rows(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Return a header and one row a comparison with the reference.

    McNemar's test is there for whole utterances, the accuracies of both runs by time where some
    are compared so.
    """
    names = compared_names(comparisons)
    columns = {
        "run": [names[each.run] for each in comparisons],
        "difference": [difference(each.difference, each.share) for each in comparisons],
        "95 % interval": [
            " to ".join(difference(bound, each.share) for bound in each.interval_95)
            for each in comparisons
        ],
        "p (bootstrap)": [p_value(each.bootstrap_p) for each in comparisons],
        "p (McNemar)": [
            "" if each.mcnemar_p is None else p_value(each.mcnemar_p) for each in comparisons
        ],
        "by time": [accuracies_by_time(each) for each in comparisons],
    }
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    return [list(filled), *map(list, zip(*filled.values(), strict=True))]


def setting_rows(results: Sequence[Result]) -> list[list[str]]:
    """Return one row a run, the best first: what its head reads, is, and was trained with."""
    names = run_names(result.run for result in results)
    return [
        [
            names[result.run],
            result.mode,
            layer_words(result.layers),
            result.head,
            # Where no head is trained, they are of no use.
            f"{result.learning_rate:g}" if result.head_parameters else "",
            str(result.epochs) if result.head_parameters else "",
            str(result.seed),
        ]
        for result in best_first(results)
    ]


def difference(value: float, share: bool) -> str:
    """Return a difference with its sign: in points of percent between shares."""
    return f"{100 * value:+.1f}" if share else number(value, "+")


def compared_names(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Return the names of the runs that are compared and of their reference, by path."""
    return run_names([comparisons[0].reference, *(each.run for each in comparisons)])


def accuracies_by_time(comparison: Comparison) -> str:
    """Return the accuracies of a run and of the reference by time, if they are compared so."""
    run, reference = comparison.accuracy_by_time, comparison.reference_by_time
    if run is None or reference is None:
        return ""
    return f"{percent(run)} against {percent(reference)}"


def comparison_title(comparisons: Sequence[Comparison]) -> str:
    """Return the title of a table of comparisons."""
    unit = "Points of difference" if comparisons[0].share else "Difference"
    return f"{unit} to {reference_name(comparisons)}, {how_compared(comparisons)}"


def reference_name(comparisons: Sequence[Comparison]) -> str:
    """Return the name of the run that others are compared with."""
    return compared_names(comparisons)[comparisons[0].reference]


def how_compared(comparisons: Sequence[Comparison]) -> str:
    """Return in words how runs were compared."""
    paired = "paired over the same items; p-values adjusted for the number of runs (Holm)"
    if all(each.accuracy_by_time is None for each in comparisons):
        return paired
    return (
        f"{paired}; runs whose frames have another length than the reference's are compared by "
        "time, over label frames, each with the prediction of the nearest frame"
    )


def text_tables(results: Sequence[Result], comparisons: Sequence[Comparison]) -> str:
    """Return the tables of results and comparisons as plain text."""
    parts = [text_table(result_rows(results))]
    if lacking := what_is_left_out(results):
        parts += ["", visible(lacking)]
    if comparisons:
        title = visible(comparison_title(comparisons))
        parts += ["", title, text_table(comparison_rows(comparisons))]
    return "\n".join(parts)


def markdown_tables(results: Sequence[Result], comparisons: Sequence[Comparison]) -> str:
    """Return the same tables in Markdown."""
    parts = [markdown_table(result_rows(results))]
    if lacking := what_is_left_out(results):
        parts += ["", markdown(lacking)]
    if comparisons:
        title = markdown(comparison_title(comparisons))
        parts += ["", f"{title}:", "", markdown_table(comparison_rows(comparisons))]
    return "\n".join(parts)


def what_is_left_out(results: Sequence[Result]) -> str:
    """Return in words what of their split results are not measured on; "" for nothing."""
    left_out, metric = results[0].left_out, results[0].metric.name
    return left_out.describe(metric) if left_out is not None else ""


def markdown_table(rows: Sequence[Cells]) -> str:
    """Return rows as a Markdown table, the first one as its header."""
    lines = ["| " + " | ".join(markdown(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def result_csv(results: Sequence[Result], comparisons: Sequence[Comparison]) -> str:
    """Return CSV with one row a run: its figures unrounded, and what they depend on."""
    against = {each.run: each for each in comparisons}
    further = dict.fromkeys(name for each in results for name in each.metric.further)
    records = [
        csv_record(result, against.get(result.run))
        | {name: result.metric.further.get(name) for name in further}
        for result in results
    ]
    return csv_text([list(records[0]), *(list(record.values()) for record in records)])


def csv_record(result: Result, comparison: Comparison | None) -> dict[str, object]:
    """Return the cells of one run by column; the reference has no comparison."""
    metric = result.metric
    low, high = metric.interval_95
    return {
        "run": result.run,
        "task": result.task,
        "split": result.split,
        "trials": result.trials,
        "left_out": result.left_out and result.left_out.total,
        "metric": metric.name,
        "value": metric.value,
        "interval_low": low,
        "interval_high": high,
        "guessing": metric.baselines.get("guessing"),
        "difference": comparison and comparison.difference,
        "bootstrap_p": comparison and comparison.bootstrap_p,
        "mcnemar_p": comparison and comparison.mcnemar_p,
        "accuracy_by_time": comparison and comparison.accuracy_by_time,
        "reference_by_time": comparison and comparison.reference_by_time,
        "upstream": result.upstream,
        "untrained": result.untrained,
        "mode": result.mode,
        "layers": result.layers,
        "head": result.head,
        "upstream_parameters": result.upstream_parameters,
        "head_parameters": result.head_parameters,
        "macs_per_second": result.macs_per_second,
        "pretraining_hours": result.pretraining_hours,
        # Where no head is trained, they are of no use.
        "learning_rate": result.learning_rate if result.head_parameters else None,
        "epochs": result.epochs if result.head_parameters else None,
        "seed": result.seed,
        "data_fingerprint": result.data_fingerprint,
    }


def p_value(value: float) -> str:
    """Return a p-value with three decimals, or that it is smaller."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def predictions_csv(outcome: Outcome, dataset: Dataset) -> str:
    """Return one line per utterance or trial, in the order of the outcome, with keys."""
    return csv_text(outcome.table(dataset.table.column("key").to_pylist()))
