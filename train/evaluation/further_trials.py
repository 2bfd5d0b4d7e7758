"""Further lists of trials for a verification run that is already trained."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aalbert.common.configuration import load_config
from aalbert.errors import ConfigError, InputError
from aalbert.models.trial_scorer import Voices
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.build import DownstreamSetup
from aalbert.train.downstream.config import DownstreamConfig, TrialConfig
from aalbert.train.downstream.scoring import (
    KnownVoices,
    Trials,
    outputs_of_each,
    score_trials,
    voices_of,
    whole_utterances,
)
from aalbert.train.downstream.sources import with_lasting_paths
from aalbert.train.downstream.splits import speakers_of
from aalbert.train.downstream.trials import Pairs, read_trials
from aalbert.train.run_folder import EvaluationFolder, RunFolder

TRIALS = "trials.test="


def single_lists(assignments: Sequence[str]) -> list[list[str]]:
    """Return the assignments for each of the lists that `trials.test=LIST,LIST` names, in turn."""
    named = [each for each in assignments if each.startswith(TRIALS)]
    places = named[-1].removeprefix(TRIALS).split(",") if named else []
    if len(places) < 2 or Path(named[-1].removeprefix(TRIALS)).is_file():
        return [list(assignments)]
    others = [each for each in assignments if each not in named]
    return [[*others, f"{TRIALS}{place.strip()}"] for place in places]


def read_trial_settings(
    run: RunFolder, own: DownstreamConfig, assignments: Sequence[str], dataset: Dataset
) -> TrialConfig:
    """Return the trials to test on: those of the run, or the list that assignments name.

    Raises `ConfigError` for assignments to other settings, with which the run was made.
    """
    if not assignments:
        return own.trials
    given = load_config(DownstreamConfig, file=run.config, environment={}, assignments=assignments)
    others = replace(given.trials, test=own.trials.test, known_speakers=own.trials.known_speakers)
    if replace(given, trials=others) != own:
        raise ConfigError(
            f"--set {' '.join(assignments)}: a run is evaluated with the settings that it was made "
            "with; only trials.test, a further list of trials, and trials.known_speakers can be set"
        )
    return with_lasting_paths(given, dataset).trials


def with_trials(
    setup: DownstreamSetup, config: DownstreamConfig, run: RunFolder
) -> DownstreamSetup:
    """Return a setup that tests on the further list of a configuration.

    Raises `InputError` when the run was trained on a speaker of the list that is not allowed, or
    its scores were calibrated on one.
    """
    dataset, splits, trials = setup.dataset, setup.splits, config.trials
    pairs, speakers = read_trials(trials.test, dataset), speakers_of(dataset)
    # Cosines of which no mean is subtracted depend on no other speakers.
    learned = config.head.classifier != "none" or config.trials.read_training_part
    fitted = splits.train if learned else splits.train[:0]
    if config.trials.calibration != "none":
        fitted = np.union1d(fitted, splits.dev)
    known = np.intersect1d(speakers[pairs.rows], speakers[fitted])
    if len(known) and not trials.known_speakers:
        raise InputError(
            f"{trials.test} has {len(known)} of the speakers that {run.path} was trained on: an "
            "error rate over speakers that a model knows is too low; allow it with --set "
            "trials.known_speakers=true"
        )
    return replace(setup, pairs=pairs, splits=replace(setup.splits, test=pairs.rows))


def score_list(
    setup: DownstreamSetup, pairs: Pairs, config: DownstreamConfig, known: KnownVoices
) -> Trials:
    """Return trials with their scores; utterances that are not `known` are embedded, and then are.

    They are as `predict` computes them.
    """
    model, inputs = setup.model, setup.inputs

    def read(rows: Rows) -> tuple[Rows, Voices]:
        loader = whole_utterances(inputs, rows, config.batch_seconds, config.prefetch)
        return voices_of(model.scorer, outputs_of_each(model, loader, model.head.embed), inputs)

    return score_trials(model.scorer, *known.add(pairs.rows, read), pairs)


def evaluation_folder(
    run: RunFolder, own: DownstreamConfig, tested: DownstreamConfig
) -> EvaluationFolder:
    """Return the folder of an evaluation: the run's, or one inside it for a further list."""
    if tested.trials.test == own.trials.test:
        return EvaluationFolder(run.path)
    return EvaluationFolder(run.path / "trials" / Path(tested.trials.test).stem)
