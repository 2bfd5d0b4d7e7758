"""What a checkpoint holds: front end, encoder, heads, and how they are saved and loaded."""

from aalbert.models.classifier import SpeakerClassifier
from aalbert.models.encoder import Encoder, EncoderConfig
from aalbert.models.front_end import FrontEnd, FrontEndConfig
from aalbert.models.upstream import PretrainedModel, Upstream, UpstreamConfig

__all__ = [
    "Encoder",
    "EncoderConfig",
    "FrontEnd",
    "FrontEndConfig",
    "PretrainedModel",
    "SpeakerClassifier",
    "Upstream",
    "UpstreamConfig",
]
