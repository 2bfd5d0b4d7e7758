"""The models: front end, encoder and heads, and their checkpoints."""

from aalbert.models.downstream import DownstreamModel
from aalbert.models.downstream_head import HeadConfig
from aalbert.models.encoder import Encoder, EncoderConfig
from aalbert.models.front_end import FrontEnd, FrontEndConfig, Statistics
from aalbert.models.layout import Packed
from aalbert.models.pretrained import PretrainedModel, TargetConfig
from aalbert.models.upstream import Upstream, UpstreamConfig

__all__ = [
    "DownstreamModel",
    "Encoder",
    "EncoderConfig",
    "FrontEnd",
    "FrontEndConfig",
    "HeadConfig",
    "Packed",
    "PretrainedModel",
    "Statistics",
    "TargetConfig",
    "Upstream",
    "UpstreamConfig",
]
