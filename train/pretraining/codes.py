"""Codes of frames as a second target: which one of a fixed set of vectors a hidden frame is near.

A code tells what kind of sound a frame is, where its reconstruction has to get every band right.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aalbert.errors import ConfigError
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.pretrained import PretrainedModel, ReconstructionHead
from aalbert.shards.loading.loader import Loader
from aalbert.train.pretraining.config import CodesConfig
from aalbert.train.pretraining.masking import frames_of, layout_of
from aalbert.train.randomness import seed_of

# k-means of more frames moves its centres little.
FIT_FRAMES = 60_000
FIT_ROUNDS = 25
# As in BEST-RQ.
RANDOM_DIMS = 16
# The class of frames that are not scored.
NO_CODE = -100


class Codes(nn.Module):
    """The vectors of the codes, and a head that predicts the codes of frames from last states.

    `vectors` is `(count, dims)`; with a `projection`, `(input dims, dims)`, frames are projected
    and scaled to length 1 before they are compared.
    """

    vectors: Tensor
    projection: Tensor | None

    def __init__(
        self, encoder: EncoderConfig, vectors: Tensor, projection: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.register_buffer("projection", projection)
        self.head = ReconstructionHead(encoder, len(vectors))

    @torch.no_grad()
    def find(self, frames: Tensor) -> Tensor:
        """Return the codes `(frames,)` of unmasked encoder inputs `(frames, input dims)`."""
        # Under autocast the products would be rounded, and codes would depend on the precision.
        with torch.autocast(frames.device.type, enabled=False):
            if self.projection is not None:
                frames = F.normalize(frames @ self.projection, dim=1)
            return nearest(frames, self.vectors)

    def loss(self, last: Tensor, frames: Tensor, hidden: Tensor) -> Tensor:
        """Return the mean cross-entropy of the codes of the hidden frames, in float32.

        `last` holds the last states `(frames, width)`, `hidden` is `(frames,)`.
        """
        # All frames are scored, for the number of hidden ones is known only to the device; but
        # padding, which may hold NaN, must reach neither the head nor its gradient.
        codes = self.find(frames.float()).where(hidden, NO_CODE)
        scores = self.head(last.where(hidden.unsqueeze(1), 0.0)).float()
        summed = F.cross_entropy(scores, codes, ignore_index=NO_CODE, reduction="sum")
        return summed / hidden.sum()


def nearest(frames: Tensor, vectors: Tensor) -> Tensor:
    """Return the number of the vector that is nearest to each frame, `(frames,)`."""
    return (frames @ vectors.T - vectors.square().sum(dim=1) / 2).argmax(dim=1)


def build_codes(
    config: CodesConfig, model: PretrainedModel, loader: Loader, seed: int
) -> Codes | None:
    """Return the codes of frames like those of a loader; None with a weight of 0.

    Raises `ConfigError` when there are fewer frames than clusters.
    """
    encoder = model.config.encoder
    if config.weight == 0 or encoder is None:
        return None
    generator = torch.Generator().manual_seed(seed_of(seed, "codes"))
    projection = None
    if config.kind == "clusters":
        vectors = cluster(read_inputs(model, loader), config.count, generator)
    else:
        dims = model.config.front_end.input_dims
        projection = torch.randn(dims, RANDOM_DIMS, generator=generator)
        vectors = F.normalize(torch.randn(config.count, RANDOM_DIMS, generator=generator), dim=1)
    torch.manual_seed(seed_of(seed, "code head"))
    return Codes(encoder, vectors, projection)


@torch.no_grad()
def read_inputs(model: PretrainedModel, loader: Loader) -> Tensor:
    """Return the first `FIT_FRAMES` unmasked encoder inputs of a loader, or all of an epoch."""
    found: list[Tensor] = []
    for batch in loader:
        prepared = model.upstream.front_end(batch.features, layout_of(batch))
        real = frames_of(prepared.inputs, prepared.lengths).real
        found.append(prepared.inputs.flatten(0, -2)[real])
        if sum(map(len, found)) >= FIT_FRAMES:
            break
    return torch.cat(found)[:FIT_FRAMES]


def cluster(frames: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return the centres of `count` clusters of frames, by Lloyd's algorithm (k-means).

    A cluster that loses all its frames keeps its centre. Raises `ConfigError` for too few frames.
    """
    if len(frames) < count:
        raise ConfigError(
            f"objective.codes.count {count}: there are {len(frames)} frames to train on, fewer "
            "than clusters: lower it"
        )
    centres = frames[torch.randperm(len(frames), generator=generator)[:count]].clone()
    for _ in range(FIT_ROUNDS):
        codes = nearest(frames, centres)
        sums = torch.zeros_like(centres).index_add_(0, codes, frames)
        counts = torch.bincount(codes, minlength=count).unsqueeze(1)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres
