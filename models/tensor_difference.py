"""Whether the tensors of a file are those that a configuration claims."""

from collections.abc import Mapping

from torch import Tensor

from aalbert.common.text import shortened


def difference(claimed: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """Return the name of the first tensor that is not as claimed, and how; empty if there is none.

    Integers and real numbers are no substitute for each other.
    """
    for name in sorted(claimed.keys() ^ tensors.keys()):
        return (
            f"'{shortened(name)}', which only {'settings' if name in claimed else 'tensors'} have"
        )
    for name, expected in claimed.items():
        found = tensors[name]
        if found.shape != expected.shape:
            return f"'{name}': size mismatch, {tuple(found.shape)} and {tuple(expected.shape)}"
        if found.is_floating_point() != expected.is_floating_point():
            return f"'{name}': numbers of {found.dtype} and {expected.dtype}"
    return ""
