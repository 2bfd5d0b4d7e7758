"""The memory layouts of a batch, padded or packed, and attention within each utterance."""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

# The inputs and the first generation of GPUs that the variable-length kernel supports (8: Ampere).
KERNEL_DTYPES = (torch.float16, torch.bfloat16)
KERNEL_HEAD_MULTIPLE = 8
KERNEL_WIDEST_HEAD = 256
KERNEL_GENERATION = 8


@dataclass(frozen=True)
class Padded:
    """The layout of padded utterances `(batch, frames, width)`, each from the start of its row.

    `mask (batch, 1, 1, frames)` is true for the frames that are attended to. The positions of an
    utterance begin at its `first_positions (batch,)`, or at 0.
    """

    mask: Tensor
    first_positions: Tensor | None = None

    @classmethod
    def of(cls, lengths: Tensor, frames: int, first_positions: Tensor | None = None) -> "Padded":
        """Return the layout of a batch with these lengths `(batch,)`.

        In a row of length 0 the first frame is attended to: attention to no frame would be NaN.
        """
        mask = frame_mask(lengths.clamp(min=1), frames)[:, None, None, :]
        return cls(mask, first_positions)

    def select_positions(self, table: Tensor, frames: int) -> Tensor:
        """Return the position vector of each frame, `(frames, dims)` or `(batch, frames, dims)`."""
        if self.first_positions is None:
            return table[:frames]
        return table[self.first_positions.unsqueeze(1) + torch.arange(frames, device=table.device)]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
        """Map queries, keys and values `(batch, frames, heads, head width)` to the same shape."""
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        context = F.scaled_dot_product_attention(
            query, key, value, attn_mask=self.mask, dropout_p=dropout
        )
        return context.transpose(1, 2)


@dataclass(frozen=True)
class Packed:
    """The layout of packed utterances `(frames, width)`, one after another.

    Utterance `b` has the frames from `offsets[b]` up to `offsets[b + 1]`; `offsets
    (batch + 1,)` is int32. No utterance is longer than `longest`, a number on the host, so that
    nothing waits for the device. After the last offset there may be up to `spare` frames of no
    utterance, which have no influence on any utterance. The positions of an utterance begin at its
    `first_positions (batch,)`, or at 0.
    """

    offsets: Tensor
    longest: int
    spare: int = 0
    first_positions: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """Frames of each utterance, `(batch,)`."""
        return self.offsets.diff()

    def utterances(self, frames: int) -> Tensor:
        """Return the utterance of each frame, `(frames,)`; `batch` for spare frames."""
        time = torch.arange(frames, device=self.offsets.device, dtype=self.offsets.dtype)
        return torch.searchsorted(self.offsets, time, right=True) - 1

    def positions(self, frames: int) -> Tensor:
        """Return the index of each frame within its utterance, `(frames,)`."""
        time = torch.arange(frames, device=self.offsets.device)
        return time - self.offsets[self.utterances(frames)]

    def select_positions(self, table: Tensor, frames: int) -> Tensor:
        """Return the position vector of each frame, `(frames, dims)`."""
        positions = self.positions(frames)
        if self.first_positions is not None:
            # Spare frames belong to no utterance; they take the first position of the last.
            utterances = self.utterances(frames).clamp(max=len(self.first_positions) - 1)
            positions = positions + self.first_positions[utterances]
        return table[positions.clamp(max=len(table) - 1)]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
        """Map queries, keys and values `(frames, heads, head width)` to the same shape.

        `dropout` must be 0, because the kernel has none. Where the kernel does not run (see
        `runs_kernel`), utterances are computed one by one, with the same result.
        """
        assert dropout == 0, "packed attention has no dropout"
        # Spare frames form another utterance: the kernel would not write their outputs otherwise.
        bounds = self.offsets
        if self.spare:
            bounds = torch.cat([bounds, bounds.new_full((1,), len(query))])
        if runs_kernel(query):
            longest = max(self.longest, self.spare)
            context = varlen_attn(query, key, value, bounds, bounds, longest, longest)
            assert isinstance(context, Tensor)
            return context
        return attend_one_by_one(query, key, value, bounds.tolist())

    def cut(self, most_frames: int) -> "Packed":
        """Return the layout of the same frames with every utterance cut by `chunk_frames`."""
        if self.longest <= most_frames:
            return self
        lengths = self.lengths.unsqueeze(1)
        chunks = torch.arange(
            chunk_count(self.longest, most_frames),
            device=self.offsets.device,
            dtype=self.offsets.dtype,
        )
        starts = (chunks * chunk_frames(lengths, most_frames)).minimum(lengths)
        starts = starts + self.offsets[:-1].unsqueeze(1)
        return Packed(torch.cat([starts.flatten(), self.offsets[-1:]]), most_frames, self.spare)

    def pad(self, frames: Tensor) -> Tensor:
        """Return packed frames as a padded batch `(batch, longest, dims)`, zero in the padding."""
        time = torch.arange(self.longest, device=frames.device)
        indexes = (self.offsets[:-1].unsqueeze(1) + time).clamp(max=len(frames) - 1)
        real = frame_mask(self.lengths, self.longest).unsqueeze(-1)
        return torch.where(real, frames[indexes], 0.0)

    def pack(self, padded: Tensor, frames: int) -> Tensor:
        """Return a padded batch as `frames` packed frames; spare frames are zero."""
        utterances, positions = self.utterances(frames), self.positions(frames)
        real = (utterances < len(padded)).unsqueeze(-1)
        packed = padded[
            utterances.clamp(max=len(padded) - 1), positions.clamp(max=padded.shape[1] - 1)
        ]
        return torch.where(real, packed, 0.0)


@dataclass(frozen=True)
class PaddedChunks:
    """A padded batch whose utterances are cut by `chunk_frames`, each chunk in its own row.

    Every utterance gets the number of rows that `frames` frames need; some may be empty.
    """

    utterance_lengths: Tensor
    frames: int
    most_frames: int

    @property
    def lengths(self) -> Tensor:
        """Frames of each chunk, `(batch * chunks,)`."""
        starts, size = self._starts()
        rest = self.utterance_lengths.unsqueeze(1) - starts
        return rest.clamp(min=0).minimum(size).flatten()

    def cut(self, padded: Tensor) -> Tensor:
        """Map `(batch, frames, dims)` to `(batch * chunks, most_frames, dims)`."""
        starts, _ = self._starts()
        time = torch.arange(self.most_frames, device=padded.device)
        indexes = (starts.unsqueeze(-1) + time).clamp(max=self.frames - 1)
        rows = torch.arange(len(padded), device=padded.device)[:, None, None]
        return padded[rows, indexes].flatten(0, 1)

    def join(self, chunks: Tensor) -> Tensor:
        """Map `(batch * chunks, most_frames, dims)` back to `(batch, frames, dims)`."""
        _, size = self._starts()
        time = torch.arange(self.frames, device=chunks.device)
        by_utterance = chunks.view(len(self.utterance_lengths), -1, chunks.shape[-1])
        indexes = time // size * self.most_frames + time % size
        indexes = indexes.clamp(max=by_utterance.shape[1] - 1).unsqueeze(-1)
        return by_utterance.gather(1, indexes.expand(-1, -1, chunks.shape[-1]))

    def _starts(self) -> tuple[Tensor, Tensor]:
        """Return the first frame of each chunk `(batch, chunks)`, and their size `(batch, 1)`."""
        size = chunk_frames(self.utterance_lengths, self.most_frames).unsqueeze(1)
        count = chunk_count(self.frames, self.most_frames)
        return torch.arange(count, device=size.device) * size, size


def chunk_count(frames: int, most_frames: int) -> int:
    """Return the number of chunks of at most `most_frames` that the frames need."""
    return -(-frames // most_frames)


def chunk_frames(lengths: Tensor, most_frames: int) -> Tensor:
    """Return the size of the chunks that utterances of these lengths are cut into.

    There are as few chunks as possible, all of one size except the last. This is the rule of
    `torch.chunk`, by which s3prl cuts utterances longer than its `sequence_length`.
    """
    count = ((lengths + most_frames - 1) // most_frames).clamp(min=1)
    return ((lengths + count - 1) // count).clamp(min=1)


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """Return a mask `(batch, frames)` that is true for real frames."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def runs_kernel(query: Tensor) -> bool:
    """Return whether PyTorch's variable-length kernel supports these queries."""
    return (
        query.device.type == "cuda"
        and query.dtype in KERNEL_DTYPES
        and query.shape[-1] % KERNEL_HEAD_MULTIPLE == 0
        and query.shape[-1] <= KERNEL_WIDEST_HEAD
        and gpu_generation(query.device) >= KERNEL_GENERATION
    )


def gpu_generation(device: torch.device) -> int:
    """Return the major version of a GPU's compute capability."""
    return int(torch.cuda.get_device_properties(device).major)


def attend_one_by_one(query: Tensor, key: Tensor, value: Tensor, bounds: list[int]) -> Tensor:
    """Compute attention `(frames, heads, head width)` within one utterance after another."""
    contexts = [query[:0]]
    for begin, end in pairwise(bounds):
        one_query, one_key, one_value = (
            part[begin:end].transpose(0, 1) for part in (query, key, value)
        )
        context = F.scaled_dot_product_attention(one_query, one_key, one_value)
        contexts.append(context.transpose(0, 1))
    return torch.cat(contexts)
