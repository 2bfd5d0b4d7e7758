"""Which models the modules without this package can hold."""

from dataclasses import asdict

from aalbert.errors import require
from aalbert.models.standalone.features_aalbert import missing_features
from aalbert.models.standalone.front_end_aalbert import missing_inputs
from aalbert.models.upstream import UpstreamConfig


def require_standalone(config: UpstreamConfig) -> None:
    """Raise `ConfigError` for a model whose waves or features only this package can prepare."""
    missing = missing_features(config.features) or missing_inputs(asdict(config.front_end))
    require(
        not missing,
        f"this model reads {missing}, which no model has outside of aalbert: use "
        "aalbert.from_pretrained, or train one without them",
    )
