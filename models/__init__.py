"""What a checkpoint holds: front end, encoder, heads, and how they are saved and loaded."""

from aalbert.models.classifier import SpeakerClassifier
from aalbert.models.encoder import Encoder, EncoderConfig
from aalbert.models.front_end import FrontEnd, FrontEndConfig, Statistics
from aalbert.models.layout import Packed
from aalbert.models.pretrained import PretrainedModel
from aalbert.models.targets import TargetConfig
from aalbert.models.upstream import Upstream, UpstreamConfig

__all__ = [
    "Encoder",
    "EncoderConfig",
    "FrontEnd",
    "FrontEndConfig",
    "Packed",
    "PretrainedModel",
    "SpeakerClassifier",
    "Statistics",
    "TargetConfig",
    "Upstream",
    "UpstreamConfig",
]
