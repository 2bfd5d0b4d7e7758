"""A simple way of pretraining: audio decoded and transformed at every step, eager, float32.

The log-mel features with a preset's FFT, deltas and stacking are also the targets: other targets
and other kinds of masks are left out, in favour of this side. The Transformer has separate
projections for queries, keys and values, an explicit softmax and an additive mask, and every batch
is padded to its longest utterance. Of the package, only the settings are used.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from aalbert.models.encoder_config import EncoderConfig
from aalbert.train.pretraining.config import PretrainConfig

SAMPLE_RATE, WINDOW, HOP, MELS = 16_000, 400, 160, 80
TIMED_STEPS = 3


class Attention(nn.Module):
    """Multi-head attention, step by step."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query, self.key, self.value, self.output = (
            nn.Linear(config.width, config.width) for _ in range(4)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map `(batch, frames, width)` to the same, with `mask (batch, 1, 1, frames)` added."""
        batch, frames, width = hidden.shape
        query, key, value = (
            projection(hidden).view(batch, frames, self.heads, -1).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5 + mask
        context = self.dropout(scores.softmax(dim=-1)) @ value
        attended: Tensor = self.output(context.transpose(1, 2).reshape(batch, frames, width))
        return attended


class Block(nn.Module):
    """One layer, normalised after each half."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.expand = nn.Linear(config.width, config.feed_forward_width)
        self.contract = nn.Linear(config.feed_forward_width, config.width)
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(2))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map `(batch, frames, width)` to the same."""
        hidden = self.norms[0](hidden + self.dropout(self.attention(hidden, mask)))
        inner = self.contract(F.gelu(self.expand(hidden)))
        normed: Tensor = self.norms[1](hidden + self.dropout(inner))
        return normed


class Reference(nn.Module):
    """A model that maps waves to the reconstruction loss."""

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        self.config = config
        encoder, stacked = config.encoder, config.front_end.frames_stacked
        named = (config.data.features or {}).get("logmel", {})
        dims = MELS * (1 + config.front_end.deltas) * stacked
        self.stacked = stacked
        self.mel = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE,
            n_fft=named.get("fft_size", WINDOW),
            win_length=WINDOW,
            hop_length=HOP,
            n_mels=MELS,
        )
        self.projection = nn.Linear(dims, encoder.width)
        self.norm = nn.LayerNorm(encoder.width)
        distinct = 1 if encoder.share_layers else encoder.layers
        self.layers = nn.ModuleList(Block(encoder) for _ in range(distinct))
        self.head = nn.Sequential(
            nn.Linear(encoder.width, encoder.width),
            nn.GELU(),
            nn.LayerNorm(encoder.width),
            nn.Linear(encoder.width, dims),
        )

    def forward(self, waves: Tensor, samples: Tensor) -> Tensor:
        """Return the loss of padded `waves (batch, samples)`."""
        with torch.no_grad():
            inputs, lengths = self.features(waves, samples)
            time = torch.arange(inputs.shape[1], device=inputs.device)
            real = time < lengths.unsqueeze(1)
            chosen = (torch.rand(real.shape, device=real.device) < 0.15) & real
            masked = inputs.masked_fill(chosen.unsqueeze(-1), 0.0)
        hidden = self.norm(self.projection(masked))
        mask = torch.zeros(real.shape, device=real.device).masked_fill(~real, -10_000.0)
        for index in range(self.config.encoder.layers):
            hidden = self.layers[index % len(self.layers)](hidden, mask[:, None, None, :])
        error = (self.head(hidden) - inputs).abs().mean(dim=-1)
        loss: Tensor = (error * chosen).sum() / chosen.sum()
        return loss

    def features(self, waves: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised, stacked log-mel frames, padded, and their lengths."""
        parts = [(self.mel(waves) + 1e-10).log()]
        for _ in range(self.config.front_end.deltas):
            parts.append(torchaudio.functional.compute_deltas(parts[-1]))
        mels = torch.cat(parts, dim=1).transpose(1, 2)
        lengths = samples // HOP + 1
        for row, length in zip(mels, lengths.tolist(), strict=True):
            real = row[:length]
            row[:length] = (real - real.mean(dim=0)) / (real.std(dim=0) + 1e-10)
            row[length:] = 0
        batch, frames, dims = mels.shape
        kept = frames - frames % self.stacked
        return mels[:, :kept].reshape(batch, -1, dims * self.stacked), lengths // self.stacked


def read_waves(paths: Sequence[Path], crop_samples: int) -> tuple[Tensor, Tensor]:
    """Decode and crop files into padded waves `(batch, samples)` and their lengths."""
    waves = [soundfile.read(path, dtype="float32")[0][:crop_samples] for path in paths]
    lengths = torch.tensor([len(wave) for wave in waves])
    padded = np.zeros((len(waves), int(lengths.max())), np.float32)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = wave
    return torch.from_numpy(padded), lengths


def time_reference(
    config: PretrainConfig, corpus: Path, device: torch.device, steps: int = TIMED_STEPS
) -> float:
    """Return the seconds that the reference takes for a second of audio."""
    files = sorted(corpus.rglob("*.flac"))
    crop = round(config.data.crop_seconds * SAMPLE_RATE)
    count = max(1, round(config.data.batch_seconds / min(config.data.crop_seconds, 12.0)))
    batches = [
        [files[(step * count + place) % len(files)] for place in range(count)]
        for step in range(steps + 1)
    ]
    model = Reference(config).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    train_reference(model, optimiser, batches[:1], crop, device, config.batches_per_step)
    started = time.perf_counter()
    heard = train_reference(model, optimiser, batches[1:], crop, device, config.batches_per_step)
    return (time.perf_counter() - started) / heard


def train_reference(
    model: Reference,
    optimiser: torch.optim.Optimizer,
    batches: Sequence[Sequence[Path]],
    crop: int,
    device: torch.device,
    batches_per_step: int,
) -> float:
    """Train a step on each batch, wait for the device, and return the seconds of audio."""
    heard = 0
    for paths in batches:
        optimiser.zero_grad()
        for _ in range(batches_per_step):
            waves, samples = read_waves(paths, crop)
            heard += int(samples.sum())
            loss = model(waves.to(device), samples.to(device))
            (loss / batches_per_step).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        # The reference shows the loss at every step.
        float(loss.detach())
    return heard / SAMPLE_RATE
