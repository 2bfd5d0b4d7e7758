"""The hash of a module's tensors, of which its weights may be in no file."""

import torch
import xxhash
from torch import nn


def digest_of_tensors(name: str, module: nn.Module) -> str:
    """Return the hash of all tensors of a module and of a name, as some modules have no tensors."""
    digest = xxhash.xxh3_128(name.encode())
    for part, tensor in sorted(module.state_dict().items()):
        digest.update(f"{part} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
