"""The report of a finished pretraining run: losses, rates, speed, pictures, settings, data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aalbert.common.files import write_text
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.pretraining.trivial_predictors import (
    DESCRIPTIONS,
    compare_in_words,
    recorded_predictors,
)
from aalbert.train.report.charts import Chart
from aalbert.train.report.curves import curve_chart, loss_chart
from aalbert.train.report.figures import png_uri
from aalbert.train.report.page import render_page
from aalbert.train.run_folder import RunFolder

PICTURES_SHOWN = 4


def write_pretraining_report(run: RunFolder, datasets: Sequence[Dataset]) -> None:
    """Write `report.html` into the folder of a finished run."""
    measurements, record = run.read_metrics(), run.read_record()
    held_out_loss = run.held_out_loss(record.get("exported_step", 0))
    predictors = recorded_predictors(run)
    page = render_page(
        "pretraining.html",
        title="Pretraining",
        record=record,
        held_out_loss=held_out_loss,
        comparison=compare_in_words(held_out_loss, predictors),
        predictors={DESCRIPTIONS[name]: loss for name, loss in predictors.items()},
        loss=loss_chart(measurements, predictors),
        learning_rate=curves(measurements, {"learning_rate": "of the step"}, "learning rate"),
        speed=curves(measurements, {"x_real_time": "all ranks"}, "times real time"),
        reconstructions=reconstructions(run.pictures),
        settings=run.config.read_text("utf-8"),
        datasets=datasets,
    )
    write_text(run.report, page)


def curves(
    measurements: Sequence[dict[str, Any]], series: dict[str, str], unit: str
) -> Chart | None:
    """Return a chart of measured values over the steps; None if one was never measured."""
    if not all(any(name in row for row in measurements) for name in series):
        return None
    return curve_chart(measurements, series, unit)


def reconstructions(folder: Path) -> dict[int, str]:
    """Return the first and the last picture and some of those between, by step."""
    paths = sorted(folder.glob("step-*.png"))
    count = min(PICTURES_SHOWN, len(paths))
    chosen = [paths[round(place * (len(paths) - 1) / max(1, count - 1))] for place in range(count)]
    return {int(path.stem.removeprefix("step-")): png_uri(path.read_bytes()) for path in chosen}
