# Copyright (c) 2026 The aalbert developers
# SPDX-License-Identifier: MIT

"""The entry point by which torch.hub opens the folder of a model, for s3prl.

```python
upstream = torch.hub.load("FOLDER", "upstream", source="local")
states = upstream(waves)["hidden_states"]
```
"""

import sys as _sys
from importlib import import_module as _import_module
from pathlib import Path as _Path
from types import ModuleType as _ModuleType
from typing import Any as _Any
from zlib import crc32 as _crc32

dependencies = ["torch", "safetensors"]
_FOLDER = str(_Path(__file__).resolve().parent)


def upstream(ckpt: str = _FOLDER, **others: _Any) -> _Any:
    """Return the model of a folder, by default this one, as an upstream of s3prl."""
    # The modules import each other as those of a package, which a folder becomes here. Each has a
    # name of its own: another one may hold modules of another version.
    package = _ModuleType(f"aalbert_upstream_{_crc32(_FOLDER.encode()):08x}")
    package.__path__ = [_FOLDER]
    _sys.modules[package.__name__] = package
    return _import_module(f"{package.__name__}.expert").UpstreamExpert(ckpt, **others)
