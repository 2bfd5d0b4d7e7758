"""A saved model of any kind."""

from pathlib import Path

from aalbert.common.notes import detail
from aalbert.common.redaction import redact_url
from aalbert.models.downstream import KIND as DOWNSTREAM_KIND
from aalbert.models.downstream import DownstreamModel
from aalbert.models.pretrained import PretrainedModel


def load_model(place: Path | str, kind: str) -> DownstreamModel | PretrainedModel:
    """Load a saved model of the kind that its `config.json` says, in evaluation mode.

    Raises the errors of `PretrainedModel.from_pretrained`, also for a kind that is unknown.
    """
    detail(f"opening the model {redact_url(str(place))}")
    if kind == DOWNSTREAM_KIND:
        return DownstreamModel.from_pretrained(place)
    return PretrainedModel.from_pretrained(place)
