"""The module that a checkpoint describes, made only where its tensors agree."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from aalbert.common.redaction import redact_url
from aalbert.errors import IntegrityError
from aalbert.models.checkpoint import reading_config
from aalbert.models.tensor_difference import difference

Module = TypeVar("Module", bound=nn.Module)


def rebuild(make: Callable[[], Module], tensors: Mapping[str, Tensor], place: Path | str) -> Module:
    """Return the module that a `config.json` describes, with the tensors of its checkpoint, in
    evaluation mode.

    It is made without memory first: a few bytes may claim any size, so these have to agree with
    the tensors before anything is allocated. Raises `IntegrityError` when names, shapes or types
    do not match.
    """
    with reading_config(place):
        with torch.device("meta"):
            claimed = make().state_dict()
        if different := difference(claimed, tensors):
            raise IntegrityError(
                f"{redact_url(str(place))}: weights and configuration differ about {different}"
            )
        module = make()
    module.load_state_dict(dict(tensors))
    return module.eval()
