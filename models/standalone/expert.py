# Copyright (c) 2026 The aalbert developers
# SPDX-License-Identifier: MIT

"""An AALBERT model as an upstream of s3prl, which needs no `aalbert`."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .encoder_aalbert import Upstream
from .features_aalbert import WaveFeatures

PREFIX = "upstream."


class UpstreamExpert(nn.Module):
    """Waves at 16 kHz to all hidden states, of the model in the folder `ckpt`.

    s3prl passes further arguments, which are ignored.
    """

    def __init__(self, ckpt: str, model_config: str | None = None, **_: Any) -> None:
        super().__init__()
        folder = Path(ckpt)
        config = json.loads((folder / "config.json").read_text("utf-8"))["upstream"]
        self.features = WaveFeatures(config["features"])
        self.upstream = Upstream(config)
        tensors = load_file(folder / "model.safetensors")
        own = {
            name[len(PREFIX) :]: each for name, each in tensors.items() if name.startswith(PREFIX)
        }
        self.upstream.load_state_dict(own)

    def get_downsample_rates(self, key: str) -> int:
        """Return the samples from one frame of a hidden state to the next."""
        stacked: int = self.upstream.front_end.config["frames_stacked"]
        return stacked * self.features.shift_samples

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        """Return `hidden_states`, `layers + 1` padded tensors `(batch, frames, width)`.

        `wavs` are waves `(samples,)`, of one analysis window at least.
        """
        shortest = min(len(wave) for wave in wavs)
        if shortest < self.features.window_samples:
            raise ValueError(
                f"a wave has {shortest} samples: it needs at least {self.features.window_samples}"
            )
        lengths = torch.tensor([len(wave) for wave in wavs], device=wavs[0].device)
        padded = nn.utils.rnn.pad_sequence(wavs, batch_first=True)
        frames = self.features.count_frames(lengths)
        states, _ = self.upstream(self.features(padded, lengths), frames)
        return {"hidden_states": states, "last_hidden_state": states[-1]}
