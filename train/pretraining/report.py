"""The page of a finished pretraining run: losses, rates, speed, pictures, settings, data."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aalbert.common.files import write_text
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.report.figures import curve_figure, to_data_uri
from aalbert.train.report.page import (
    facts,
    note,
    page,
    picture,
    preformatted,
    section,
)
from aalbert.train.run_folder import RunFolder

PICTURES_SHOWN = 4


def write_pretraining_report(run: RunFolder, datasets: Sequence[Dataset]) -> None:
    """Write `report.html` into the folder of a finished run."""
    measurements, record = run.read_metrics(), run.read_record()
    parts = [
        headline(measurements, record),
        curves(measurements),
        pictures_section(run.pictures),
        section("Settings", preformatted(run.config.read_text("utf-8"))),
        data_section(datasets),
        section("Run", facts(run_facts(record))),
    ]
    write_text(run.report, page("Pretraining", parts))


def headline(measurements: Sequence[dict[str, Any]], record: dict[str, Any]) -> str:
    """Return the title and the held-out loss of the exported model."""
    losses = {
        row["step"]: row["validation_loss"] for row in measurements if "validation_loss" in row
    }
    step = record["exported_step"]
    return f'<h1>Pretraining</h1>\n<p class="figure">{losses[step]:.4f}</p>\n' + note(
        f"held-out loss after {step:,} steps, the state that was exported; lower is better"
    )


def curves(measurements: Sequence[dict[str, Any]]) -> str:
    """Return loss, learning rate and speed over the steps."""
    losses = {"train_loss": "training", "validation_loss": "held out"}
    shown = [
        ("Loss", losses, "loss", "loss of training and of held-out speech over steps"),
        ("Learning rate", {"learning_rate": "of the step"}, "learning rate", "learning rate"),
        ("Speed", {"x_real_time": "all ranks"}, "x real time", "speed in times real time"),
    ]
    return "\n".join(
        section(title, picture(to_data_uri(curve_figure(measurements, series, unit)), description))
        for title, series, unit, description in shown
        if all(any(name in row for row in measurements) for name in series)
    )


def pictures_section(folder: Path) -> str:
    """Return the first, the last and some of the pictures between."""
    paths = sorted(folder.glob("step-*.png"))
    count = min(PICTURES_SHOWN, len(paths))
    chosen = [paths[round(place * (len(paths) - 1) / max(1, count - 1))] for place in range(count)]
    shown = [
        picture(png_uri(path), f"original, masked and reconstructed after {step_words(path)}")
        + note(f"after {step_words(path)}")
        for path in chosen
    ]
    return section("Reconstructions of one held-out utterance", *shown) if shown else ""


def step_words(path: Path) -> str:
    """Return the steps in the name of a picture, in words."""
    return f"{int(path.stem.removeprefix('step-')):,} steps"


def png_uri(path: Path) -> str:
    """Return a picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def data_section(datasets: Sequence[Dataset]) -> str:
    """Return what the model was trained on."""
    cards = []
    for dataset in datasets:
        manifest = dataset.manifest
        kind, settings = next(iter(manifest.features.items()))
        hours = dataset.frames(kind).sum() * settings.frame_shift_ms / 3_600_000
        features = ", ".join(f"{kind} of {some.dims}" for kind, some in manifest.features.items())
        card = {
            "corpus": manifest.corpus,
            "place": dataset.place,
            "fingerprint": manifest.fingerprint,
            "utterances": f"{len(dataset):,}, {hours:,.2f} hours",
            "splits": ", ".join(manifest.splits),
            "features": features,
        }
        cards.append(facts(card))
    return section("Data", *cards)


def run_facts(record: dict[str, Any]) -> dict[str, str]:
    """Return what else is needed to make the run again."""
    software = ", ".join(f"{name} {version}" for name, version in record["software"].items())
    return {
        "command": record["command"],
        "seed": str(record["seed"]),
        "software": software,
        "Python": record["python"],
        "host": f"{record['host']}, {record['system']}",
        "exported": f"{record['exported']}, step {record['exported_step']:,}",
    }
