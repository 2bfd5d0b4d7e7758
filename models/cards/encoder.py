"""An encoder in the words of a card."""

from collections.abc import Mapping
from typing import Any

from aalbert.common.text import flat, markdown
from aalbert.models.cards.facts import public_facts
from aalbert.models.training_facts import TrainingFacts

# Facts that a card states elsewhere, or only in its header, also those of earlier models.
TOLD_ELSEWHERE = frozenset(
    {"held_out_loss", "trivial_predictors", "hub_datasets", "upstream", "speech_hours"}
)


def system_of(encoder: Mapping[str, Any]) -> str:
    """Return the name of the system that an encoder is."""
    return "AALBERT" if encoder["share_layers"] else "Mockingjay"


def tag_of(encoder: Mapping[str, Any]) -> str:
    """Return the tag of the system that an encoder is."""
    return "audio-albert" if encoder["share_layers"] else "mockingjay"


def features_in_words(upstream: Mapping[str, Any]) -> str:
    """Return what an upstream reads."""
    front_end = upstream["front_end"]
    return (
        f"`{upstream['features']['kind']}` features of {front_end['feature_dims']} dims "
        f"({front_end['deltas']} orders of deltas, {front_end['normalisation']} normalisation, "
        f"{front_end['frames_stacked']} frames stacked)"
    )


def speech_in_words(facts: TrainingFacts) -> str:
    """Return on how much speech an encoder was trained, as a paragraph; empty if not recorded."""
    if facts.hours is None:
        return ""
    hours = f"{facts.hours:,.2f}" if facts.hours < 100 else f"{facts.hours:,.0f}"
    of = f" ({markdown(facts.corpus)})" if facts.corpus else ""
    return f"{hours} hours of different speech{of}.\n\n"


def training_list(training: Mapping[str, Any]) -> str:
    """Return facts of training as a list in Markdown."""
    lines = [
        f"- {markdown(name)}: {markdown(str(value))}"
        for name, value in flat(public_facts(dict(training)))
        if TOLD_ELSEWHERE.isdisjoint(name.split("."))
    ]
    return "\n".join(lines) or "Not recorded."
