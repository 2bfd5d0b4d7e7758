"""Statistics of the utterances of a dataset: durations, speakers, flags."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aalbert.shards.reading.dataset import Dataset

PERCENTILES = (1, 5, 25, 75, 95, 99)


@dataclass(frozen=True)
class SpeakerTotals:
    """Utterances and hours of each speaker, those with the most utterances first."""

    names: tuple[str, ...]
    utterances: NDArray[np.int64]
    hours: NDArray[np.float64]


@dataclass(frozen=True)
class Survey:
    """Statistics of all utterances: `durations` in seconds, speakers, counts of flags."""

    durations: NDArray[np.float64]
    speakers: SpeakerTotals
    flags: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as a JSON document."""
        return {
            "utterances": len(self.durations),
            "hours": float(self.durations.sum() / 3600),
            "duration_s": summary(self.durations, PERCENTILES),
            "speakers": len(self.speakers.names),
            "utterances_per_speaker": summary(self.speakers.utterances),
            "hours_per_speaker": summary(self.speakers.hours),
            "flags": self.flags,
        }


def survey(dataset: Dataset) -> Survey:
    """Compute the statistics of all utterances from the index."""
    rate = next(iter(dataset.manifest.features.values())).sample_rate
    table = dataset.table.select(["speaker", "samples", "flags"])
    flags = pc.value_counts(pc.list_flatten(table.column("flags"))).to_pylist()
    return Survey(
        durations=table.column("samples").to_numpy() / rate,
        speakers=speaker_totals(table, rate),
        flags={entry["values"]: entry["counts"] for entry in flags},
    )


def speaker_totals(table: pa.Table, sample_rate: int) -> SpeakerTotals:
    """Count the utterances and hours of each known speaker."""
    known = table.select(["speaker", "samples"]).drop_null()
    totals = known.group_by("speaker").aggregate([("samples", "count"), ("samples", "sum")])
    totals = totals.sort_by([("samples_count", "descending"), ("speaker", "ascending")])
    return SpeakerTotals(
        names=tuple(totals.column("speaker").to_pylist()),
        utterances=totals.column("samples_count").to_numpy(),
        hours=totals.column("samples_sum").to_numpy() / sample_rate / 3600,
    )


def summary(
    values: NDArray[np.float64] | NDArray[np.int64], percentiles: tuple[int, ...] = ()
) -> dict[str, float]:
    """Return minimum, median, mean, maximum and percentiles of values; {} if there are none."""
    if not len(values):
        return {}
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "mean": float(values.mean()),
        "max": float(values.max()),
        **{f"p{number}": float(np.percentile(values, number)) for number in percentiles},
    }


def survey_text(document: dict[str, Any]) -> str:
    """Return the statistics as text."""
    flags = ", ".join(f"{name} {count:,}" for name, count in document["flags"].items())
    return "\n".join(
        [
            f"{document['utterances']:,} utterances, {document['hours']:,.2f} hours, "
            f"{document['speakers']:,} speakers",
            f"duration (s)            {summary_text(document['duration_s'], 2)}",
            f"utterances per speaker  {summary_text(document['utterances_per_speaker'], 1)}",
            f"hours per speaker       {summary_text(document['hours_per_speaker'], 3)}",
            f"flags                   {flags or 'none'}",
        ]
    )


def summary_text(numbers: dict[str, float], digits: int) -> str:
    """Return the numbers of a summary on one line."""
    return ", ".join(f"{name} {value:,.{digits}f}" for name, value in numbers.items()) or "none"
