"""Further lists of trials for a verification run that is already trained."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aalbert.common.configuration import load_config
from aalbert.common.json_files import read_record
from aalbert.errors import ConfigError, InputError
from aalbert.models.downstream import DownstreamModel
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
from aalbert.train.downstream.splits import speaker_names, speakers_of
from aalbert.train.downstream.trials import Pairs, digest_of_list, read_trials
from aalbert.train.evaluation.open_run import OpenRun
from aalbert.train.run_folder import EvaluationFolder, RunFolder

TRIALS = "trials.test="
MOST_SPEAKERS_NAMED = 3


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


def on_lists(opened: OpenRun, lists: Sequence[Sequence[str]]) -> list[OpenRun]:
    """Return a run to be tested on each of the lists that their assignments name.

    Raises `ConfigError` where two lists would have one folder for their results, and for lists
    beside another part than the test part; see `on_list`.
    """
    if opened.part != "test" and any(lists):
        raise ConfigError(
            f"--set {' '.join(lists[0])}: lists of trials are for the test part: leave out --split"
        )
    tests = [on_list(opened, assignments) for assignments in lists]
    list_in: dict[Path, str] = {}
    for test in tests:
        folder, place = test.folder.path, test.config.trials.test
        if folder in list_in:
            raise ConfigError(
                f"the results of {list_in[folder]} and of {place} would both lie in {folder}: "
                "name each list once, and rename one of two with the same name"
            )
        list_in[folder] = place
    return tests


def rows_of_lists(tests: Sequence[OpenRun]) -> Rows:
    """Return the rows of the utterances that a run is tested on, each once, rising."""
    rows = [test.setup.splits.test for test in tests]
    return np.unique(np.concatenate([np.empty(0, np.int64), *rows]))


def on_list(opened: OpenRun, assignments: Sequence[str]) -> OpenRun:
    """Return a run to be tested on the list that assignments name; its own without any.

    Raises `InputError` when the run was trained on a speaker of the list that is not allowed, or
    its scores were calibrated on one, or when the result of another list of that name is there.
    """
    run, own, setup = opened.run, opened.config, opened.setup
    trials = read_trial_settings(run, own, assignments, setup.dataset)
    config = replace(own, trials=trials)
    if trials.test == own.trials.test:
        return replace(opened, config=config)
    pairs = read_trials(trials.test, setup.dataset)
    if not trials.known_speakers:
        require_strangers(setup, config, pairs, run)
    folder = EvaluationFolder(run.path / "trials" / Path(trials.test).stem)
    require_same_list(folder, trials.test, setup.dataset)
    setup = replace(setup, pairs=pairs, splits=replace(setup.splits, test=pairs.rows))
    return OpenRun(run=run, config=config, setup=setup, folder=folder)


def require_strangers(
    setup: DownstreamSetup, config: DownstreamConfig, pairs: Pairs, run: RunFolder
) -> None:
    """Raise `InputError` for trials of speakers that anything was learned from."""
    splits, speakers = setup.splits, speakers_of(setup.dataset)
    # Cosines of which no mean is subtracted depend on no other speakers.
    learned = config.head.classifier != "none" or config.trials.read_training_part
    fitted = splits.train if learned else splits.train[:0]
    if config.trials.calibration != "none":
        fitted = np.union1d(fitted, splits.dev)
    known = np.intersect1d(speakers[pairs.rows], speakers[fitted])
    if len(known):
        every = speaker_names(setup.dataset)
        names = [every[number] for number in known]
        others = len(names) - MOST_SPEAKERS_NAMED
        more = f" and {others} more" if others > 0 else ""
        raise InputError(
            f"{config.trials.test} has {len(names)} of the speakers that {run.path} was trained or "
            f"calibrated on ({', '.join(names[:MOST_SPEAKERS_NAMED])}{more}): an error rate over "
            "speakers that a model knows is too low; allow it with --set trials.known_speakers=true"
        )


def speakers_in_cohort(model: DownstreamModel, dataset: Dataset, rows: Rows) -> int:
    """Return how many of the speakers of some rows are in the model's cohort, if it has one."""
    if model.cohort is None:
        return 0
    speakers = dataset.column("speaker")
    return len({speakers[row] for row in rows} & set(model.cohort.settings.speakers))


def require_same_list(folder: EvaluationFolder, place: str, dataset: Dataset) -> None:
    """Raise `InputError` where a folder has the result of another list than the one in a place."""
    if not folder.metrics.is_file():
        return
    way_out = f"move or remove {folder.path}"
    tested = read_record(dict[str, Any], folder.metrics, way_out)
    if tested.get("trials_xxh3") != digest_of_list(place, dataset):
        raise InputError(
            f"{folder.path} has the result of another list of this name than {place}: {way_out}, "
            "or rename the list"
        )


def score_list(
    setup: DownstreamSetup, pairs: Pairs, config: DownstreamConfig, known: KnownVoices
) -> Trials:
    """Return trials with their scores; utterances that are not `known` are embedded, and then are.

    They are as `predict` computes them.
    """
    model, inputs = setup.model, setup.inputs

    def read(rows: Rows) -> tuple[Rows, Voices]:
        loader = whole_utterances(inputs, rows, config.batch_seconds, config.prefetch)
        outputs = outputs_of_each(model, loader, model.head.embed, shown_as="voices")
        return voices_of(model.scorer, outputs, inputs)

    return score_trials(model.scorer, *known.add(pairs.rows, read), pairs)
