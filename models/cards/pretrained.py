"""The card of a pretrained model."""

from collections.abc import Mapping
from typing import Any

from aalbert.common.text import markdown
from aalbert.models.cards.encoder import (
    features_in_words,
    speech_in_words,
    system_of,
    tag_of,
    training_list,
)
from aalbert.models.cards.header import (
    CLASS,
    UNKNOWN,
    Entry,
    Header,
    Measurements,
    corpora_of,
    name_on_hub,
)
from aalbert.models.training_facts import TrainingFacts, read_facts

FEATURE_EXTRACTION = "feature-extraction"
THIS_MODEL = "this model"
CARD = """\
{header}
# {title}

An encoder of speech, pretrained {labels} by reconstructing masked frames.
{parameters:,} parameters, {encoder_parameters:,} of them in the encoder{sharing}.

## Use

Hidden states as features for other tasks (such as speaker identification or phone
classification), frozen or fine-tuned.

```python
import aalbert
model = aalbert.from_pretrained("MODEL")  # this folder, or its name on the hub
states = model.extract(wave, sample_rate=16_000)
```

Without this package, `transformers` opens the folder by the modules beside the weights:

```python
from transformers import AutoModel
model = AutoModel.from_pretrained("MODEL", trust_remote_code=True)
```

Reads {features};
`config.json` has all settings of the features.

## What it is not for

It generates neither speech nor text, and by itself it recognises nothing. It is not for other
features than those above, nor for recordings that are not speech. It may perform worse on
languages, channels and ages that it was not trained on: before decisions about people are based on
it, this has to be measured.

## Training

{speech}{training}

Reconstructs: {targets}.

## Results

{results}

## Files and licence

`model.safetensors` holds the weights, a shared layer once; `config.json` the settings to rebuild
the model, and the XXH3 hash of the weights; `*_aalbert.py` are the modules, which are software
under the MIT licence. That does not cover the weights: their licence is chosen by those who trained
them, in accordance with that of the corpus; `license` in the header of this card names it, once it
is there.
"""
RESULTS = """\
The loss on held-out utterances, beside those of trivial predictors of the same hidden frames; lower
is better. It depends on masks and features, and compares models of one recipe only.

| | held-out loss |
|---|---|
{rows}"""


def pretrained_card(
    document: Mapping[str, Any], *, parameters: int, encoder_parameters: int
) -> str:
    """Return the card of the model that a `config.json` describes, in Markdown."""
    upstream, encoder = document["upstream"], document["upstream"]["encoder"]
    training = upstream["training"]
    title = f"{system_of(encoder)}, {encoder['layers']} layers, width {encoder['width']}"
    facts = read_facts(training)
    origin = facts.continued_from
    labelled = read_facts(origin.head_training) if origin and origin.head_training else None
    losses = losses_of(facts)
    header = Header(
        name=title,
        tags=("audio", "speech", *([] if labelled else ["self-supervised"]), tag_of(encoder)),
        corpora=corpora_of(facts),
        pipeline_tag=FEATURE_EXTRACTION,
        base_model=name_on_hub(origin.model if origin else facts.converted_from),
        measured=measured_loss(losses, facts.corpus) if losses else None,
    )
    rows = "\n".join(f"| {markdown(name)} | {loss:.4f} |" for name, loss in losses.items())
    targets = ", ".join(f"`{target['feature']}`" for target in document["targets"])
    return CARD.format(
        header=header.to_yaml(),
        title=title,
        labels=labels_in_words(labelled),
        sharing=", which shares one layer" if encoder["share_layers"] else "",
        parameters=parameters,
        encoder_parameters=encoder_parameters,
        features=features_in_words(upstream),
        targets=targets or "nothing",
        speech=speech_in_words(facts),
        training=training_list(training),
        results=RESULTS.format(rows=rows) if losses else "Not recorded.",
    )


def labels_in_words(labelled: TrainingFacts | None) -> str:
    """Return whether an encoder has seen labels, by the facts of the head it was trained with."""
    if labelled is None:
        return "without labels"
    label = markdown(labelled.labels or CLASS)
    return f"after training with labels ({label} of {markdown(labelled.corpus or UNKNOWN)}),"


def losses_of(facts: TrainingFacts) -> dict[str, float]:
    """Return the held-out loss of a model and those of trivial predictors, by name in words."""
    if facts.held_out_loss is None:
        return {}
    others = facts.trivial_predictors
    return {
        THIS_MODEL: facts.held_out_loss,
        **{f"trivial predictor: {name.replace('_', ' ')}": loss for name, loss in others.items()},
    }


def measured_loss(losses: Mapping[str, float], corpus: str) -> Measurements:
    """Return the model's own loss for the header, where every figure counts as one of the model."""
    return Measurements(
        task=FEATURE_EXTRACTION,
        task_name="Reconstruction of masked frames",
        corpus=corpus,
        split="held out",
        entries=[Entry(metric="loss", name="held-out loss", value=losses[THIS_MODEL])],
    )
