"""Entry points of `torch.hub`: pretrained models and plain features, from a checkout.

```python
model = torch.hub.load("path/to/checkout", "aalbert", "runs/pretrain", source="local")
states = model.extract(wave)  # (layers + 1, frames, width)
```

Each entry point returns an `aalbert.EmbeddingModel`. A checkout that is not built computes features
by PyTorch, and a warning says so.
"""

import sys as _sys
from importlib import util as _util
from pathlib import Path as _Path
from typing import TYPE_CHECKING
from typing import Any as _Any

if TYPE_CHECKING:
    from aalbert.pipeline.embeddings.model import EmbeddingModel as _EmbeddingModel

# What opening a model and reading audio import; torch.hub names those that are not installed.
dependencies = [
    *("torch", "numpy", "safetensors", "pydantic", "annotated_types", "yaml", "xxhash", "fsspec"),
    *("soundfile", "miniaudio", "soxr"),
]
_ROOT = _Path(__file__).resolve().parent


def aalbert(ckpt: str, device: str | None = "cpu") -> "_EmbeddingModel":
    """Open an Audio ALBERT model of this package or of s3prl, from a path, a URL or the hub."""
    return _open(ckpt, device, shared=True)


def mockingjay(ckpt: str, device: str | None = "cpu") -> "_EmbeddingModel":
    """Open a Mockingjay model of this package or of s3prl, from a path, a URL or the hub."""
    return _open(ckpt, device, shared=False)


def tera(ckpt: str, device: str | None = "cpu") -> "_EmbeddingModel":
    """Open a TERA model of this package or of s3prl, from a path, a URL or the hub."""
    return _open(ckpt, device, shared=False)


def logmel(deltas: int = 0, normalisation: str = "none", **settings: _Any) -> "_EmbeddingModel":
    """Return the log mel spectrogram as a model; `settings` are those of `LogMelSettings`."""
    return _features("logmel", deltas, normalisation, settings)


def fbank(deltas: int = 0, normalisation: str = "none", **settings: _Any) -> "_EmbeddingModel":
    """Return Kaldi's filter bank as a model; `settings` are those of `FbankSettings`."""
    return _features("fbank", deltas, normalisation, settings)


def mfcc(deltas: int = 0, normalisation: str = "none", **settings: _Any) -> "_EmbeddingModel":
    """Return Kaldi's cepstra as a model; `settings` are those of `MfccSettings`."""
    return _features("mfcc", deltas, normalisation, settings)


def linear(deltas: int = 0, normalisation: str = "none", **settings: _Any) -> "_EmbeddingModel":
    """Return the log power spectrogram as a model; `settings` are those of `LinearSettings`."""
    return _features("linear", deltas, normalisation, settings)


def _open(ckpt: str, device: str | None, shared: bool) -> "_EmbeddingModel":
    """Open a checkpoint; `InputError` unless its layers are shared, or separate, as expected."""
    _import_package()
    from aalbert.errors import InputError
    from aalbert.pipeline.embeddings.load import from_pretrained

    model = from_pretrained(ckpt, device)
    encoder = model.upstream.config.encoder
    if encoder is None or encoder.share_layers != shared:
        found = "no encoder" if encoder is None else f"share_layers {encoder.share_layers}"
        raise InputError(
            f"{ckpt} has {found}: Audio ALBERT (aalbert) shares its layers, mockingjay and tera "
            "do not; use the other entry point"
        )
    return model


def _features(
    kind: str, deltas: int, normalisation: str, settings: dict[str, _Any]
) -> "_EmbeddingModel":
    """Return a feature as a model without an encoder."""
    _import_package()
    from aalbert.pipeline.embeddings.load import feature_model

    return feature_model(kind, deltas=deltas, normalisation=normalisation, **settings)


def _import_package() -> None:
    """Make `aalbert` importable: the installed package, or else this checkout, which is one."""
    if _util.find_spec("aalbert") is None:
        spec = _util.spec_from_file_location(
            "aalbert", _ROOT / "__init__.py", submodule_search_locations=[str(_ROOT)]
        )
        assert spec is not None and spec.loader is not None
        module = _util.module_from_spec(spec)
        _sys.modules["aalbert"] = module
        spec.loader.exec_module(module)
