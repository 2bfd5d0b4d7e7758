"""The models: front end, encoder and heads, their settings, and their checkpoints.

The names below are imported when they are first used: settings are read without PyTorch, whose
import takes seconds.
"""

from typing import TYPE_CHECKING

from aalbert.common.lazy_names import import_on_use

if TYPE_CHECKING:
    from aalbert.models.downstream import DownstreamModel
    from aalbert.models.encoder import Encoder
    from aalbert.models.encoder_config import EncoderConfig
    from aalbert.models.front_end import FrontEnd, Statistics
    from aalbert.models.front_end_config import FrontEndConfig
    from aalbert.models.head_config import HeadConfig
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

MODULES = {
    "DownstreamModel": "downstream",
    "Encoder": "encoder",
    "EncoderConfig": "encoder_config",
    "FrontEnd": "front_end",
    "FrontEndConfig": "front_end_config",
    "HeadConfig": "head_config",
    "Packed": "layout",
    "PretrainedModel": "pretrained",
    "Statistics": "front_end",
    "TargetConfig": "pretrained",
    "Upstream": "upstream",
    "UpstreamConfig": "upstream",
}

__getattr__ = import_on_use(__name__, MODULES)
