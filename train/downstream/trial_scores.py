"""What the scores of verification are made by, from the training part and from dev trials."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aalbert.common.notes import note
from aalbert.errors import InputError
from aalbert.models.calibration import Calibration, Measure
from aalbert.models.cohort import Cohort
from aalbert.models.cohort_settings import CohortSettings
from aalbert.models.downstream import DownstreamModel
from aalbert.models.trial_scorer import TrialScorer, Voices, measures_of
from aalbert.shards.loading.loader import Loader
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.build import DownstreamSetup
from aalbert.train.downstream.config import DownstreamConfig, TrialConfig
from aalbert.train.downstream.error_rates import equal_error_threshold
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.logistic_regression import fit_logistic
from aalbert.train.downstream.scoring import (
    Trials,
    outputs_of_batches,
    score_trials,
    sides_in_turn,
    voices_of,
)
from aalbert.train.downstream.trials import Pairs
from aalbert.train.randomness import seed_of

# A speaker of the dev part may be in the cohort, and is left out of what it is compared with.
LEAST_COHORT_SPEAKERS = 3


@dataclass(frozen=True, eq=False)
class DevTrials:
    """Trials of dev utterances, which a loader reads, to be scored by a model as it is then."""

    model: DownstreamModel
    inputs: Inputs
    loader: Loader
    pairs: Pairs

    def voices(self) -> tuple[Rows, Voices]:
        """Return the rows of the utterances, and these as they are compared."""
        embeddings = outputs_of_batches(self.model, self.loader, self.model.head.embed)
        return voices_of(self.model.scorer, embeddings, self.inputs)

    def score(self) -> Trials:
        """Return the trials with their scores."""
        return score_trials(self.model.scorer, *self.voices(), self.pairs)


def take_cohort(
    config: DownstreamConfig, setup: DownstreamSetup, rows: Rows, embeddings: Tensor
) -> None:
    """Give the model its cohort, if it has one, of the embeddings of the training part."""
    assert setup.pairs is not None
    setup.model.cohort = make_cohort(
        config.trials, setup.dataset, rows, embeddings, setup.pairs.rows, config.seed
    )


def choose_threshold(config: DownstreamConfig, setup: DownstreamSetup, dev: DevTrials) -> Trials:
    """Give the model its calibration, if it has one, and its threshold; return the dev trials."""
    model, (rows, voices) = setup.model, dev.voices()
    speakers = np.array(setup.dataset.column("speaker"), dtype=object)
    fitted = set(speakers[dev.pairs.rows])
    trained = set(speakers[setup.splits.train]) if config.head.classifier != "none" else set()
    model.calibration = make_calibration(
        config.trials,
        model.scorer,
        rows,
        voices,
        dev.pairs,
        speakers=len(fitted),
        trained_speakers=len(fitted & trained),
    )
    scored = score_trials(model.scorer, rows, voices, dev.pairs)
    model.threshold = equal_error_threshold(scored.scores, scored.same)
    return scored


def make_cohort(
    trials: TrialConfig,
    dataset: Dataset,
    rows: Rows,
    embeddings: Tensor,
    tested: Rows,
    seed: int,
) -> Cohort | None:
    """Return the cohort of the embeddings `(rows, dims)` of the training part; None without one.

    It has no speaker of the `tested` rows. Says on stderr where it has fewer members than
    `cohort_top`; raises `InputError` where it has too few speakers.
    """
    if trials.normalisation == "none":
        return None
    names, owner, members = cohort_candidates(trials, dataset, rows, embeddings, tested)
    chosen = choose_members(len(members), trials.cohort_size, seed)
    numbers, owner = torch.unique(owner[chosen], return_inverse=True)
    members = members[chosen]
    if len(numbers) < LEAST_COHORT_SPEAKERS:
        raise InputError(
            f"the cohort has {len(members)} members, of {len(numbers)} speakers, and needs "
            f"{LEAST_COHORT_SPEAKERS} speakers: use a trials.cohort_size above {trials.cohort_size}"
        )
    adaptive = trials.normalisation == "as-norm"
    if adaptive and len(members) < trials.cohort_top:
        note(
            f"the cohort has {len(members)} members, all of which {trials.normalisation} takes: "
            f"trials.cohort_top is {trials.cohort_top}",
        )
    settings = CohortSettings(
        normalisation=trials.normalisation,
        top=min(trials.cohort_top, len(members)) if adaptive else len(members),
        members=len(members),
        speakers=tuple(names[number] for number in numbers.tolist()),
    )
    cohort = Cohort(settings, members.shape[1])
    cohort.embeddings.copy_(members)
    cohort.speaker_of.copy_(owner)
    return cohort


def cohort_candidates(
    trials: TrialConfig, dataset: Dataset, rows: Rows, embeddings: Tensor, tested: Rows
) -> tuple[list[str], Tensor, Tensor]:
    """Return names of speakers, the number of each candidate's, and candidates `(n, dims)`.

    They are the embeddings of speakers without a `tested` row, or the mean of each speaker's.
    """
    speakers = dataset.column("speaker")
    unwanted = {speakers[row] for row in tested.tolist()}
    kept = [place for place, row in enumerate(rows.tolist()) if speakers[row] not in unwanted]
    # By row, since batches come in another order.
    kept.sort(key=lambda place: int(rows[place]))
    names = sorted({speakers[rows[place]] or "" for place in kept})
    if len(names) < LEAST_COHORT_SPEAKERS:
        raise InputError(
            f"{dataset.place}: the training part has {len(names)} speakers that are in no trial, "
            f"trials.normalisation {trials.normalisation} needs {LEAST_COHORT_SPEAKERS} for its "
            "cohort: name a larger splits.train, or use --set trials.normalisation=none"
        )
    number_of = {name: number for number, name in enumerate(names)}
    owner = torch.tensor([number_of[speakers[rows[place]] or ""] for place in kept])
    members = embeddings[kept].double()
    if trials.cohort == "speakers":
        # Each utterance counts the same (Desplanques et al. 2020, ECAPA-TDNN).
        members = F.normalize(members, dim=1)
        sums = torch.zeros(len(names), members.shape[1], dtype=torch.float64)
        members = sums.index_add_(0, owner, members) / torch.bincount(owner).unsqueeze(1)
        owner = torch.arange(len(names))
    return names, owner, members


def choose_members(members: int, most: int, seed: int) -> Tensor:
    """Return the places of at most so many members, drawn by the seed, rising."""
    if members <= most:
        return torch.arange(members)
    generator = np.random.default_rng(seed_of(seed, "cohort"))
    return torch.from_numpy(np.sort(generator.choice(members, most, replace=False)))


def make_calibration(
    trials: TrialConfig,
    scorer: TrialScorer,
    rows: Rows,
    voices: Voices,
    pairs: Pairs,
    *,
    speakers: int,
    trained_speakers: int,
) -> Calibration | None:
    """Return the calibration of a scorer, fitted on trials of dev voices; None without one.

    These are of so many `speakers`, `trained_speakers` of whom the head was trained on. Says on
    stderr where the trials are separated without error, so that nothing but the penalty of the fit
    decides how certain the scores are.
    """
    if trials.calibration == "none":
        return None
    parts = [
        measures_of(scorer.normalise(left, right), left, right)
        for left, right in sides_in_turn(rows, voices, pairs)
    ]
    names: list[Measure] = ["score"] if trials.calibration == "score" else list(parts[0])
    variables = np.column_stack([torch.cat([part[name] for part in parts]) for name in names])
    fitted = fit_logistic(variables, pairs.same, trials.target_prior)
    calibrated = variables @ fitted.weights
    if calibrated[pairs.same].min() > calibrated[~pairs.same].max():
        note(
            f"the calibration separates all {len(pairs.same)} dev trials without error: how "
            "certain its scores are is decided by the penalty of its fit, not by the trials",
        )
    return Calibration(
        offset=fitted.offset,
        weights=dict(zip(names, fitted.weights.tolist(), strict=True)),
        target_prior=trials.target_prior,
        trials=len(pairs.same),
        speakers=speakers,
        trained_speakers=trained_speakers,
    )
