"""The card of a downstream model: what its head predicts, on what, and how well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aalbert.common.text import figure, figure_interval, markdown
from aalbert.models.cards.comparison import scores_in_words, threshold_in_words
from aalbert.models.cards.encoder import (
    features_in_words,
    speech_in_words,
    system_of,
    tag_of,
    training_list,
)
from aalbert.models.cards.header import (
    CLASS,
    Entry,
    Header,
    Measurements,
    corpora_of,
    identifier,
    name_on_hub,
)
from aalbert.models.checkpoint import is_head_alone
from aalbert.models.downstream_head import layer_words
from aalbert.models.training_facts import TrainingFacts, read_facts

# The task whose models compare two utterances.
VERIFICATION = "voxceleb1-verification"
AUDIO_CLASSIFICATION = "audio-classification"
MOST_CLASSES_LISTED, CLASSES_SHOWN = 20, 5
# The names of metrics on the hub.
METRICS = {
    "accuracy": "accuracy",
    "frame accuracy": "accuracy",
    "equal error rate": "eer",
    "mean absolute error": "mae",
    "phone error rate": "per",
}

CARD = """\
{header}
# {title}

{summary}

## Use and limits

{usage}

{intended} It may do worse on other languages, channels and ages. Before decisions about people are
based on it, its errors have to be measured on recordings like those it is used on.

## Results

{results}
{threshold}
## Training of the head

{training}

## Upstream

{upstream}

## Files and licence

`model.safetensors` holds the weights of {holds}; `config.json` the settings to rebuild
the model, the classes, and the XXH3 hash of the weights{modules}. The licence of the weights is
chosen by those who trained them, in accordance with that of the corpus; `license` in the header of
this card names it, once it is there.
"""
MODULES = """\
; `*_aalbert.py` are modules of software
under the MIT licence, which does not cover the weights"""
CLASSIFIER_USAGE = """\
```sh
aalbert predict MODEL speech.wav
```

```python
import aalbert
model = aalbert.load("MODEL")  # this folder, or its name on the hub
predicted = model.predict(wave, sample_rate=16_000)
vector = model.embed(wave, sample_rate=16_000)
```"""
VERIFICATION_USAGE = """\
```sh
aalbert compare MODEL one.wav other.wav
```

```python
import aalbert
model = aalbert.load("MODEL")  # this folder, or its name on the hub
compared = model.compare(left, right, sample_rate=16_000)
vector = model.embed(left, sample_rate=16_000)
```"""
HEAD_ALONE_USAGE = """\
`aalbert evaluate RUN` measures it, where the encoder that it was trained on is. Nothing else opens
it: it holds the head alone."""
CLASSIFIER_INTENDED = """\
For recordings like those of its training, and its own classes: it takes every recording for one of
them, whatever it holds."""
INTENDED = {
    "classes": CLASSIFIER_INTENDED,
    "number": """\
For recordings like those of its training: it gives every recording a number, whatever it holds.""",
    "sequence": """\
For recordings like those of its training, and its own phones: it hears these in every recording,
whatever it holds.""",
}
# What a model of each kind is a kind of, after its label.
KINDS = {"classes": "classification", "number": "regression", "sequence": "recognition"}
VERIFICATION_INTENDED = """\
For telling whether two recordings are of one speaker. Voices that are imitated, synthesised or
changed are not recognised as such."""
NOT_MEASURED = "Not measured yet: `aalbert evaluate RUN` measures the model and writes it here."
RESULTS = """\
On {tested} of the part {split} of {corpus}. The 95 % interval comes from resampling {resampled}.

| | {metric} | 95 % interval |
|---|---|---|
{rows}
"""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The metric of a model on a test part, a `share` or another number, with its 95 % interval.

    `tested` says on how much, `resampled` over what the interval is, `baselines` are the metrics of
    predictions without the model, by name; `probes` are those of a probe on every hidden state,
    with its interval if it has one.
    """

    metric: str
    value: float
    interval_95: tuple[float, float]
    share: bool
    split: str
    tested: str
    resampled: str
    baselines: Mapping[str, float]
    probes: Sequence[tuple[float, tuple[float, float] | None]] = ()


def downstream_card(
    document: Mapping[str, Any], *, head: str, head_parameters: int, score: Score | None = None
) -> str:
    """Return the card of the model that a `config.json` describes, in Markdown.

    `head` describes its layers in words; without a `score` the card says that there is none.
    """
    training, upstream = document["training"], document["upstream"]
    facts = read_facts(training)
    title = title_of(document, facts)
    verifies = facts.task == VERIFICATION
    return CARD.format(
        header=header(document, facts, title, score).to_yaml(),
        title=markdown(title),
        summary=summary(document, facts, head, head_parameters),
        usage=usage_of(document, verifies),
        intended=VERIFICATION_INTENDED if verifies else INTENDED[predicts_of(document)],
        results=results(score, facts.corpus or "its corpus"),
        threshold=scores_in_words(document) + threshold_in_words(document["threshold"]),
        training=training_list(training),
        upstream=upstream_in_words(upstream, document, facts),
        modules="" if is_head_alone(document) else MODULES,
        holds="upstream and head" if "encoder" in upstream else "the head, without its upstream",
    )


def usage_of(document: Mapping[str, Any], verifies: bool) -> str:
    """Return how the model is used."""
    if is_head_alone(document):
        return HEAD_ALONE_USAGE
    return VERIFICATION_USAGE if verifies else CLASSIFIER_USAGE


def of_frames(document: Mapping[str, Any]) -> bool:
    """Return whether the head classifies every frame."""
    return bool(document["head"]["pooling"] == "none")


def predicts_of(document: Mapping[str, Any]) -> str:
    """Return what a model predicts."""
    return str(document.get("predicts", "classes"))


def title_of(document: Mapping[str, Any], facts: TrainingFacts) -> str:
    """Return what the model is for."""
    if facts.task == VERIFICATION:
        return "Speaker verification"
    label = facts.labels or CLASS
    if predicts_of(document) == "sequence":
        return f"{label[:1].upper()}{label[1:]} recognition"
    return (
        f"{label[:1].upper()}{label[1:]} of every {'frame' if of_frames(document) else 'utterance'}"
    )


def header(
    document: Mapping[str, Any], facts: TrainingFacts, title: str, score: Score | None
) -> Header:
    """Return the header: a head of utterances is an audio classifier for the hub."""
    upstream = document["upstream"]
    verifies = facts.task == VERIFICATION
    classifies = bool(document["classes"]) and not verifies and not of_frames(document)
    encoder = upstream.get("encoder")
    label = identifier(facts.labels or "audio")
    kind = "speaker-verification" if verifies else f"{label}-{KINDS[predicts_of(document)]}"
    pretrained = encoder and not (facts.untrained or facts.from_scratch)
    trainings = [facts, *([read_facts(upstream["training"])] if pretrained else [])]
    return Header(
        name=title,
        tags=("audio", "speech", kind, *([tag_of(encoder)] if encoder else [])),
        corpora=corpora_of(*trainings),
        pipeline_tag=AUDIO_CLASSIFICATION if classifies else "",
        base_model=name_on_hub(facts.upstream),
        measured=Measurements(
            task=AUDIO_CLASSIFICATION if classifies else kind,
            task_name=title,
            corpus=facts.corpus,
            split=score.split,
            entries=[entry(score)],
        )
        if score
        else None,
    )


def entry(score: Score) -> Entry:
    """Return a score for the header, which has no place for intervals but in the name."""
    bounds = figure_interval(score.interval_95, share=score.share)
    return Entry(
        metric=METRICS[score.metric],
        name=f"{score.metric}, 95 % interval {bounds}{' %' * score.share}, on {score.tested}",
        value=score.value,
    )


def summary(
    document: Mapping[str, Any], facts: TrainingFacts, head: str, head_parameters: int
) -> str:
    """Return what the model predicts, and with which head."""
    classes, label = document["classes"], markdown(facts.labels or CLASS)
    if facts.task == VERIFICATION:
        does = "Compares two utterances: the higher the score, the more alike the voices."
    elif predicts_of(document) == "number":
        does = f"Predicts the {label} of an utterance, a number."
    elif predicts_of(document) == "sequence":
        does = f"Recognises every {label} of an utterance, by CTC: {classes_in_words(classes)}."
    elif of_frames(document):
        does = f"Predicts the {label} of every frame: {classes_in_words(classes)}."
    else:
        does = f"Predicts the {label} of an utterance: {classes_in_words(classes)}."
    return f"{does} The head has {head_parameters:,} parameters: {head or 'none is trained'}."


def classes_in_words(classes: Sequence[str]) -> str:
    """Return all classes, or how many there are and the first ones."""
    shown = classes if len(classes) <= MOST_CLASSES_LISTED else classes[:CLASSES_SHOWN]
    names = ", ".join(markdown(name) for name in shown)
    return names if shown is classes else f"one of {len(classes):,}, such as {names}"


def results(score: Score | None, corpus: str) -> str:
    """Return the score beside its baselines."""
    if score is None:
        return NOT_MEASURED
    value = figure(score.value, share=score.share)
    bounds = figure_interval(score.interval_95, share=score.share)
    rows = [f"| this model | {value} | {bounds} |"]
    rows += [
        f"| {markdown(name)} | {figure(baseline, share=score.share)} | |"
        for name, baseline in score.baselines.items()
    ]
    rows += probe_rows(score)
    return RESULTS.format(
        tested=markdown(score.tested),
        split=markdown(score.split),
        corpus=markdown(corpus),
        resampled=score.resampled,
        metric=score.metric,
        rows="\n".join(rows),
    ).rstrip()


def probe_rows(score: Score) -> list[str]:
    """Return a row for the probe of every hidden state, of an upstream that has several."""
    if len(score.probes) < 2:
        return []
    rows = []
    for state, (value, interval) in enumerate(score.probes):
        name = f"layer {state} alone" if state else "the encoder's input alone"
        bounds = figure_interval(interval, share=score.share) if interval else ""
        rows.append(f"| probe of {name} | {figure(value, share=score.share)} | {bounds} |")
    return rows


def upstream_in_words(
    upstream: Mapping[str, Any], document: Mapping[str, Any], facts: TrainingFacts
) -> str:
    """Return what the head reads, how that was trained, and on what."""
    if "encoder" not in upstream:
        return encoder_in_words(upstream, document)
    encoder = upstream["encoder"]
    reads = f"It reads {features_in_words(upstream)}."
    if encoder is None:
        return f"None: the head reads the features themselves. {reads}"
    sentences = [
        f"{system_of(encoder)}, {encoder['layers']} layers, width {encoder['width']}, "
        f"{part_of_encoder(document, facts)}.",
        f"It comes from {markdown(facts.upstream)}." if facts.upstream else "",
        f"The head reads its hidden states: {layer_words(str(document['layers']))}.",
        reads,
    ]
    text = "\n".join(sentence for sentence in sentences if sentence)
    if facts.untrained or facts.from_scratch:
        return text
    training = upstream["training"]
    speech = speech_in_words(read_facts(training))
    return f"{text}\nIts own training:\n\n{speech}{training_list(training)}"


def encoder_in_words(upstream: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Return what an encoder of another library is, and how the head reads it."""
    weights = "frozen" if upstream["untrained_seed"] is None else "with random weights, a control"
    return (
        f"{markdown(upstream['architecture'])} ({markdown(upstream['name'])}), {weights}, opened "
        f"by {upstream['software']}: {upstream['parameters']:,} parameters, {upstream['states']} "
        f"hidden states of width {upstream['width']}. It reads waves.\nThe head reads its hidden "
        f"states: {layer_words(str(document['layers']))}."
    )


def part_of_encoder(document: Mapping[str, Any], facts: TrainingFacts) -> str:
    """Return how an encoder took part in the training of its head."""
    if facts.untrained:
        return "with random weights, never trained: a control, which shows what pretraining adds"
    if facts.from_scratch:
        return "trained with the head from random weights, without pretraining"
    return "frozen" if document["frozen"] else "fine-tuned with the head"
