"""`evaluate`: the results of finished runs on their test part, with intervals and diagnostics."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from aalbert.common.files import write_json, write_text
from aalbert.models.any_upstream import parameters_of
from aalbert.models.device import best_device
from aalbert.models.downstream import DownstreamModel
from aalbert.models.finite import require_finite
from aalbert.models.upstream import count_parameters
from aalbert.models.wave_encoders.wave_upstream import WaveUpstream
from aalbert.shards.loading.order import Rows
from aalbert.shards.reading.dataset import Dataset
from aalbert.train.downstream.config import DownstreamConfig
from aalbert.train.downstream.decisions import Decisions
from aalbert.train.downstream.inputs import Inputs
from aalbert.train.downstream.label_grid import make_label_grid
from aalbert.train.downstream.labels import ColumnLabels, Labels
from aalbert.train.downstream.objectives import ClassLabels, outcome_of
from aalbert.train.downstream.outcomes import Outcome
from aalbert.train.downstream.recognition import Recognised
from aalbert.train.downstream.scoring import (
    KnownVoices,
    Trials,
    few_utterances,
    outputs_of_each,
    whole_utterances,
)
from aalbert.train.downstream.splits import SplitRows
from aalbert.train.downstream.trials import digest_of_list, draw_trials
from aalbert.train.downstream.waves import WaveCorpus, require_wave_runs
from aalbert.train.evaluation.baselines import baselines_of
from aalbert.train.evaluation.breakdown import (
    by_duration,
    by_gender,
    class_results,
    most_confused,
    most_unpaired,
)
from aalbert.train.evaluation.comparison import Comparison, compare
from aalbert.train.evaluation.costs import pretraining_hours, work_per_second
from aalbert.train.evaluation.frame_probes import probe_frames
from aalbert.train.evaluation.further_trials import (
    on_lists,
    rows_of_lists,
    score_list,
    single_lists,
    speakers_in_cohort,
)
from aalbert.train.evaluation.metrics import Clusters, clusters_for, metric_of
from aalbert.train.evaluation.open_run import OpenRun, Part, on_part, open_run
from aalbert.train.evaluation.probes import (
    Embeddings,
    Labelled,
    LayerProbe,
    pooled_states,
    probe_layers,
    probe_trials,
)
from aalbert.train.evaluation.result import Result, require_comparable
from aalbert.train.evaluation.tables import predictions_csv
from aalbert.train.places import lasting_place
from aalbert.train.randomness import seed_of
from aalbert.train.run_folder import EvaluationFolder, RunFolder

# More utterances hardly improve a probe, and these pass through an encoder in minutes.
PROBE_UTTERANCES = 10_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """The outputs of a run's model for a part, with the model and the data.

    `baselines` are the metrics of predictions without a model, by name. `class_of_row` is the class
    of every row of the dataset, below 0 where it has none, or None where utterances have no class;
    `frame_labels` are the labels of frames, or None. `rows` has the rows of `train`, `dev` and
    `test`. `folder` is for what comes of it. `head` describes the head in words.
    """

    outcome: Outcome
    model: DownstreamModel
    inputs: Inputs
    config: DownstreamConfig
    folder: EvaluationFolder
    task: str
    head: str
    baselines: Mapping[str, float]
    class_of_row: NDArray[np.int64] | None
    frame_labels: Labels | None
    rows: Mapping[str, Rows]

    @property
    def dataset(self) -> Dataset:
        """The data."""
        return self.inputs.dataset


def measure(opened: OpenRun, known: KnownVoices | None = None) -> Measured:
    """Measure a finished run on the part of its data that it is opened for.

    Utterances of trials that are `known` are not embedded again; the trials of the dev part are
    those that the run chose its threshold on.
    """
    setup, config = opened.setup, opened.config
    model, dataset, device = setup.model, setup.dataset, best_device()
    rows = setup.splits.dev if opened.part == "dev" else setup.splits.test
    outcome: Outcome
    class_of_row, frame_labels = None, None
    if isinstance(setup.labels, ClassLabels) and config.head.frames:
        frame_labels = setup.labels
    if setup.pairs is not None:
        pairs = setup.pairs
        if opened.part == "dev":
            pairs = draw_trials(dataset, rows, config.trials.dev_count, config.seed)
        outcome = score_list(setup, pairs, config, known or KnownVoices())
    else:
        loader = whole_utterances(setup.inputs, rows, config.batch_seconds, config.prefetch)
        grid = None
        if frame_labels is not None:
            shift_ms = config.labels.label_shift_ms
            grid = make_label_grid(frame_labels, setup.inputs, shift_ms).to(device)
        outputs = outputs_of_each(model, loader, model.head, shown_as=f"{opened.part} part")
        # A module itself is moved, and probes read the labels on the CPU.
        outcome, loss = outcome_of(outputs, deepcopy(setup.labels).to(device), grid)
        require_finite(torch.tensor(loss), f"the {opened.part} part of {dataset.place}")
        if isinstance(setup.labels, ColumnLabels) and frame_labels is None:
            class_of_row = setup.labels.row_classes()
    return Measured(
        outcome=outcome,
        model=model,
        inputs=setup.inputs,
        config=config,
        folder=opened.folder,
        task=config.task,
        head=config.head.describe(),
        baselines=baselines_of(outcome, setup.labels, setup.splits.train),
        class_of_row=class_of_row,
        frame_labels=frame_labels,
        rows={"train": setup.splits.train, "dev": setup.splits.dev, "test": setup.splits.test},
    )


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A result with what only its report shows; `embeddings` are of the rows `embedded_rows`."""

    run: RunFolder
    result: Result
    measured: Measured
    embeddings: Embeddings
    embedded_rows: Rows


def evaluate_runs(
    runs: Sequence[Path],
    *,
    data: Path | str | None = None,
    assignments: Sequence[str] = (),
    corpus: WaveCorpus | None = None,
    part: Part = "test",
) -> list[Evaluation]:
    """Evaluate runs on a part; each gets `metrics.json` and `predictions.csv`.

    `data` is the current location of their dataset, if it was moved, that of `corpus` the one whose
    waves some of them read; `assignments` may name further trials to test
    on, whose results have a folder of their own in each run. Raises `InputError` when a run is
    unfinished, `IntegrityError` when the data is not what it was trained on, and `ConfigError` when
    the runs cannot be compared with each other.
    """
    [evaluations] = evaluate_lists(
        runs, data=data, assignments=assignments, corpus=corpus, part=part
    )
    return evaluations


def evaluate_lists(
    runs: Sequence[Path],
    *,
    data: Path | str | None = None,
    assignments: Sequence[str] = (),
    corpus: WaveCorpus | None = None,
    part: Part = "test",
) -> Iterator[list[Evaluation]]:
    """Evaluate runs as `evaluate_runs` does, on each of the lists that `trials.test=A,B` names.

    Those of a list are given before the next one is tested, and not kept.
    """
    lists = single_lists(assignments)
    folders = [RunFolder(path) for path in runs]
    require_wave_runs(corpus, folders)
    # All that may be refused is, before the first utterance is embedded.
    opened = [on_lists(on_part(open_run(run, data, corpus), part), lists) for run in folders]
    known = [KnownVoices() for _ in opened]
    for number in range(len(lists)):
        yield evaluate_list([tests[number:] for tests in opened], known)


def evaluate_list(
    opened: Sequence[Sequence[OpenRun]], known: Sequence[KnownVoices]
) -> list[Evaluation]:
    """Evaluate each run on the first of its lists; utterances of the others stay `known`."""
    evaluations = []
    for (test, *later), voices in zip(opened, known, strict=True):
        evaluations.append(evaluate_run(test, voices))
        voices.keep(rows_of_lists(later))
    require_comparable([evaluation.result for evaluation in evaluations])
    return evaluations


def compare_evaluations(evaluations: Sequence[Evaluation]) -> list[Comparison]:
    """Compare all runs but the first with the first, which is the reference."""
    first = evaluations[0]
    clusters = clusters_for(first.measured.outcome, first.measured.dataset)
    return compare(
        [evaluation.result.run for evaluation in evaluations],
        [evaluation.measured.outcome for evaluation in evaluations],
        clusters.of_row,
    )


def evaluate_run(opened: OpenRun, known: KnownVoices) -> Evaluation:
    """Evaluate one run and write its `metrics.json` and `predictions.csv`."""
    measured, run = measure(opened, known), opened.run
    if not isinstance(measured.outcome, Trials):
        measured = replace(measured, outcome=measured.outcome.in_row_order())
    # The states of all that a long list has would fill memory.
    outcome = measured.outcome
    probed = few_utterances(outcome, PROBE_UTTERANCES) if isinstance(outcome, Trials) else outcome
    clusters = clusters_for(outcome, measured.dataset)
    embeddings = embed(measured, probed.rows)
    result = summarise(opened, measured, clusters)
    if opened.part == "test":  # they choose their strength on dev
        result = replace(result, layer_probes=probe(measured, probed, embeddings, clusters))
    predictions = predictions_csv(outcome, measured.dataset)
    with measured.folder.writing():
        write_json(measured.folder.metrics, result.to_dict())
        write_text(measured.folder.predictions, predictions)
    return Evaluation(run, result, measured, embeddings, probed.rows)


def embed(measured: Measured, rows: Rows) -> Embeddings:
    """Return the pooled hidden states of some rows."""
    return pooled_states(
        measured.model.upstream,
        measured.inputs,
        rows,
        measured.config.batch_seconds,
        normalise=measured.config.head.normalise_states,
    )


def summarise(opened: OpenRun, measured: Measured, clusters: Clusters) -> Result:
    """Return one result with all figures and what they depend on."""
    run, outcome, dataset = opened.run, measured.outcome, measured.dataset
    model, config = measured.model, measured.config
    record, upstream = run.read_record(), model.upstream
    front_end = None if isinstance(upstream, WaveUpstream) else upstream.config.front_end
    mix = model.head.mix
    listed = config.trials.test if opened.part == "test" else ""  # those of dev are drawn
    confused = outcome if isinstance(outcome, Decisions | Recognised) else None
    return Result(
        run=str(run.path),
        task=record["task"],
        split=opened.part,
        trials=Path(listed).name,
        trials_xxh3=digest_of_list(listed, dataset) if listed else "",
        score_is=model.scorer.describe() if isinstance(outcome, Trials) else "",
        speakers_in_cohort=speakers_in_cohort(model, dataset, outcome.rows),
        predicts="" if isinstance(outcome, Trials) else model.training_facts["labels"],
        metric=metric_of(outcome, clusters, dict(measured.baselines), config.seed),
        counts=outcome.counts(),
        left_out=opened.setup.left_out if opened.part == "test" else None,
        data=lasting_place(dataset.place),
        data_fingerprint=record["data_fingerprint"],
        upstream=record["upstream"],
        untrained=config.untrained,
        mode=config.mode,
        upstream_parameters=parameters_of(upstream),
        macs_per_second=work_per_second(upstream),
        pretraining_hours=pretraining_hours(model, config.pretraining_hours),
        upstream_training=dict(upstream.config.training),
        upstream_weights=record["upstream_weights"],
        upstream_software=upstream.config.software if isinstance(upstream, WaveUpstream) else "",
        states=upstream.states,
        width=upstream.width,
        frame_shift_ms=round(measured.inputs.frame_times().shift_ms, 6),
        context=0 if front_end is None else front_end.context,
        frames_stacked=0 if front_end is None else front_end.frames_stacked,
        head=measured.head,
        head_parameters=count_parameters(model.head),
        layers=str(model.head.layers),
        layer_weights=tuple(round(w, 6) for w in mix.weights().tolist()) if mix else (),
        learning_rate=config.learning_rate,
        epochs=config.epochs,
        seed=config.seed,
        by_duration=by_duration(outcome, dataset, clusters),
        by_gender=by_gender(outcome, dataset, clusters),
        per_class=class_results(confused.names, confused.confusion) if confused else (),
        most_confused=most_confused(confused.names, confused.confusion) if confused else (),
        most_deleted=most_unpaired(confused.names, confused.confusion.deleted) if confused else (),
        most_inserted=most_unpaired(confused.names, confused.confusion.inserted)
        if confused
        else (),
        layer_probes=(),
    )


def probe(
    measured: Measured, probed: Outcome, embeddings: Embeddings, clusters: Clusters
) -> tuple[LayerProbe, ...]:
    """Probe every hidden state: by classifiers of utterances or frames, or the cosine of trials.

    `embeddings` are of the rows of the `probed` outcome, which has few of the trials of a long
    list.
    """
    rows = probed.rows
    if measured.frame_labels is not None:
        parts = SplitRows(**measured.rows)
        upstream, inputs = measured.model.upstream, measured.inputs
        return probe_frames(upstream, inputs, measured.frame_labels, parts).layers()
    if isinstance(probed, Trials):
        left, right = np.searchsorted(rows, probed.left), np.searchsorted(rows, probed.right)
        return probe_trials(embeddings, left, right, probed.same)
    if measured.class_of_row is None or not isinstance(probed, Decisions):
        return ()
    classes = measured.class_of_row
    train, dev = (
        Labelled(states=embed(measured, chosen), classes=classes[chosen])
        for chosen in (
            sample(measured.rows[split], split, measured.dataset) for split in ("train", "dev")
        )
    )
    test = Labelled(states=embeddings, classes=classes[rows])
    return probe_layers(train, dev, test, clusters.among(rows), len(probed.names))


def sample(rows: Rows, split: str, dataset: Dataset) -> Rows:
    """Return at most `PROBE_UTTERANCES` of the rows, drawn once for a dataset, rising."""
    if len(rows) <= PROBE_UTTERANCES:
        return rows
    generator = np.random.default_rng(seed_of(dataset.manifest.fingerprint, "probe", split))
    chosen: Rows = np.sort(generator.choice(rows, PROBE_UTTERANCES, replace=False))
    return chosen
