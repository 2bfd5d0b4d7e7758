"""What heads are put on: an upstream of stored features, or one of waves."""

from pathlib import Path

from aalbert.common.redaction import redact_url
from aalbert.errors import InputError
from aalbert.models.upstream import Upstream, UpstreamConfig, count_parameters
from aalbert.models.wave_encoders.wave_upstream import WaveUpstream, WaveUpstreamConfig

AnyUpstream = Upstream | WaveUpstream
AnyUpstreamConfig = UpstreamConfig | WaveUpstreamConfig


def parameters_of(upstream: AnyUpstream) -> int:
    """Return the number of parameters of an upstream; a shared layer counts once."""
    if isinstance(upstream, WaveUpstream):
        return upstream.config.parameters
    return count_parameters(upstream)


def require_own(upstream: AnyUpstream, place: Path | str) -> Upstream:
    """Return the upstream of a model, which must be of this package.

    Raises `InputError` for an encoder of another library, whose weights the model does not hold.
    """
    if isinstance(upstream, WaveUpstream):
        raise InputError(
            f"{redact_url(str(place))} has its head on {upstream.config.name}, an encoder of "
            "another library whose weights it does not hold: 'aalbert evaluate' measures it, "
            "--resume continues it, and nothing else opens it"
        )
    return upstream
