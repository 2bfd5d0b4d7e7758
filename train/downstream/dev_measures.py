"""What a model is selected by: its measures on the dev part."""

from collections.abc import Callable

from aalbert.train.downstream.build import DownstreamSetup
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.loaders import make_loader
from aalbert.train.downstream.objectives import outcome_of
from aalbert.train.downstream.outcomes import Outcome
from aalbert.train.downstream.scoring import outputs_of_batches
from aalbert.train.downstream.state_cache import StateCache
from aalbert.train.downstream.trial_scores import DevTrials
from aalbert.train.downstream.trials import draw_trials
from aalbert.train.loop.validation import Measurement


def dev_measure(
    config: DownstreamConfig, setup: DownstreamSetup, cache: StateCache | None
) -> Callable[[], Measurement]:
    """Return the function that measures the model on the dev part."""
    if setup.pairs is not None:
        dev = dev_trials(config, setup, cache)
        return lambda: measured(dev.score())
    loader = make_loader(config, setup, setup.splits.dev, cache)

    def measure() -> Measurement:
        scores = outputs_of_batches(setup.model, loader, setup.model.head)
        outcome, loss = outcome_of(scores, setup.labels)
        return {**measured(outcome), "dev_loss": loss}

    return measure


def dev_trials(
    config: DownstreamConfig, setup: DownstreamSetup, cache: StateCache | None
) -> DevTrials:
    """Return trials of the dev part, always the same ones."""
    rows = setup.splits.dev
    pairs = draw_trials(setup.dataset, rows, config.trials.dev_count, config.seed)
    return DevTrials(setup.model, setup.inputs, make_loader(config, setup, rows, cache), pairs)


def measured(outcome: Outcome) -> Measurement:
    """Return the measure of an outcome on the dev part as it is recorded."""
    return {outcome.measure.column: round(outcome.value, 6)}
