"""What upstreams cost beside what they achieve: parameters, work, hours of speech.

Sharing layers saves parameters, not work: a layer is computed at every application. So the metric
stands against each of the three.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aalbert.common.text import figure
from aalbert.models.any_upstream import AnyUpstream
from aalbert.models.costs import REFERENCE_SECONDS, macs_per_second
from aalbert.models.downstream import DownstreamModel
from aalbert.models.training_facts import read_facts
from aalbert.models.upstream import Upstream
from aalbert.models.wave_encoders.wave_upstream import WaveUpstream
from aalbert.models.wave_encoders.work import counted_macs_per_second
from aalbert.train.evaluation.result import Result
from aalbert.train.evaluation.tables import best_first, run_names

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cost:
    """A cost of a run: its name with its unit, and how a result has it; None is unknown."""

    name: str
    of: Callable[[Result], float | None]
    text: Callable[[float], str]


COSTS = (
    Cost(
        "work per second of audio, G multiply-accumulates",
        lambda result: result.macs_per_second / 1e9,
        lambda value: f"{value:.3f}",
    ),
    Cost(
        "parameters of the upstream, millions",
        lambda result: result.upstream_parameters / 1e6,
        lambda value: f"{value:.3f}",
    ),
    Cost(
        "speech pretrained on, hours",
        lambda result: result.pretraining_hours,
        lambda value: f"{value:,.2f}",
    ),
)


def pretraining_hours(model: DownstreamModel, stated: float | None) -> float | None:
    """Return the hours of speech that an upstream was pretrained on, None if nobody knows.

    Plain features, and encoders that begin with random weights, learned from none. What the
    settings of a run have `stated` is taken where nobody recorded them.
    """
    facts = read_facts(model.training_facts)
    upstream = model.upstream
    plain = isinstance(upstream, Upstream) and upstream.encoder is None
    if plain or facts.untrained or facts.from_scratch:
        return 0.0
    recorded = read_facts(upstream.config.training).hours
    return stated if recorded is None else recorded


def work_per_second(upstream: AnyUpstream) -> int:
    """Return the multiply-accumulates of an upstream for a second of audio.

    Those of an encoder of another library are counted from the wave on, those of ours from stored
    features.
    """
    if isinstance(upstream, WaveUpstream):
        return counted_macs_per_second(upstream, REFERENCE_SECONDS)
    return macs_per_second(upstream.config)


def cost_rows(results: Sequence[Result]) -> list[list[str]]:
    """Return a header and one row a run, the best first: the metric, and every cost."""
    names = run_names(result.run for result in results)
    header = ["run", results[0].metric.name, *(cost.name for cost in COSTS)]
    rows = []
    for result in best_first(results):
        found = [(cost, cost.of(result)) for cost in COSTS]
        cells = [UNKNOWN if value is None else cost.text(value) for cost, value in found]
        metric = figure(result.metric.value, share=result.metric.share)
        rows.append([names[result.run], metric, *cells])
    return [header, *rows]
