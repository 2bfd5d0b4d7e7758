"""Compare imported checkpoints with the outputs of the systems that they come from.

The golden files hold small checkpoints of s3prl and of the AALBERT repository, inputs, waves,
and every hidden state and prediction that those systems computed in float32. Each line has the
largest differences from them:

- `from_features`: of the imported model on the stored inputs, in float32;
- `from_features_float64`: the same in float64, whose rounding is negligible compared with that of
  the golden files: equal on every machine, while products in float32 differ by processor;
- `from_wave`: from the wave on, with features of this package's kernel in float32, not float16;
- `from_wave_torch`: the same, with features of torch and torchaudio from the imported settings,
  in float32, as the original systems compute them;
- `reference_rounding`: of states from features in float64, which is the rounding of the golden
  states. The difference of `from_wave` is such rounding, between two float32 computations.

    python -m benchmarks.parity --golden ../shared/golden
"""

import argparse
import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchaudio.compliance import kaldi
from torchaudio.functional import melscale_fbanks

from aalbert.conversion.import_model import load_foreign
from aalbert.models.front_end import stack_frames
from aalbert.models.pretrained import PretrainedModel
from aalbert.pipeline.audio.conditioning import condition
from aalbert.pipeline.audio.features import extract
from aalbert.shards.format.feature_settings import (
    FbankSettings,
    FeatureSettings,
    LogMelSettings,
    settings_from_dict,
)

# The name of the prediction of each feature in the golden files.
PREDICTIONS = {"logmel": "mel", "linear": "linear", "fbank": "mel"}
INT16_SCALE = 32_768


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model for one utterance, `(frames, ...)` each."""

    states: list[Tensor]
    predictions: dict[str, Tensor]

    def named(self, golden_states: int) -> dict[str, Tensor]:
        """Return all outputs by name, but only the last states: some systems omit the first one."""
        first = len(self.states) - golden_states
        states = {f"state {i}": state for i, state in enumerate(self.states) if i >= first}
        return states | {f"prediction {name}": each for name, each in self.predictions.items()}


def compare(checkpoint: Path, waves: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the differences of one checkpoint, state by state."""
    model = load_foreign(checkpoint)
    double = copy.deepcopy(model).double()
    settings = settings_from_dict(dict(model.config.features))
    golden = np.load(checkpoint.with_name(f"{checkpoint.stem}_io.npz"))
    for key, samples in waves.items():
        wave = samples.astype(np.float32) / INT16_SCALE
        expected = golden_outputs(golden, key, model)
        stacked = stack_frames(
            torch.from_numpy(golden[f"input_{key}"]).unsqueeze(0),
            model.config.front_end.frames_stacked,
        )
        conditioned = condition(wave, settings.sample_rate, settings.wave)
        ways = {
            "from_features": run_encoder(model, stacked),
            "from_features_float64": run_encoder(double, stacked.double()),
            "from_wave": run(model, torch.from_numpy(extract(conditioned, settings))),
            "from_wave_torch": run(model, torch_features(wave, settings, torch.float32)),
            "reference_rounding": run(model, torch_features(wave, settings, torch.float64)),
        }
        named = {way: outputs.named(len(golden[f"hidden_{key}"])) for way, outputs in ways.items()}
        for name, wanted in expected.items():
            differences = {
                way: float((outputs[name] - wanted).abs().max()) for way, outputs in named.items()
            }
            yield {"checkpoint": checkpoint.stem, "wave": key, "output": name, **differences}


def golden_outputs(golden: Any, wave: str, model: PretrainedModel) -> dict[str, Tensor]:
    """Return the outputs in the golden file, by the names of `Outputs.named`."""
    states = torch.from_numpy(golden[f"hidden_{wave}"])
    encoder = model.config.encoder
    assert encoder is not None
    first = encoder.layers + 1 - len(states)
    expected = {f"state {first + i}": state for i, state in enumerate(states)}
    for target in model.targets:
        names = (f"prediction_{wave}", f"prediction_{PREDICTIONS[target.feature]}_{wave}")
        [name] = [name for name in names if name in golden]
        expected[f"prediction {target.feature}"] = torch.from_numpy(golden[name])
    return expected


@torch.no_grad()
def run(model: PretrainedModel, features: Tensor) -> Outputs:
    """Run a model on features `(frames, dims)`."""
    lengths = torch.tensor([len(features)])
    return run_encoder(
        model, model.upstream.front_end(features.float().unsqueeze(0), lengths).inputs
    )


@torch.no_grad()
def run_encoder(model: PretrainedModel, inputs: Tensor) -> Outputs:
    """Run a model on encoder inputs `(1, frames, dims)`."""
    assert model.upstream.encoder is not None
    lengths = torch.tensor([inputs.shape[1]])
    states = [state[0] for state in model.upstream.encoder(inputs, lengths)]
    return Outputs(states, {name: part[0] for name, part in model(inputs, lengths).items()})


def torch_features(wave: Any, settings: FeatureSettings, dtype: torch.dtype) -> Tensor:
    """Compute features of a wave with torch and torchaudio."""
    samples = torch.from_numpy(wave).to(dtype)
    if settings.wave.loudness_db is not None:
        rms = samples.square().mean().sqrt()
        samples = samples * 10 ** (settings.wave.loudness_db / 20) / (rms + 1e-10)
    if isinstance(settings, FbankSettings):
        fbank: Tensor = kaldi.fbank(samples.unsqueeze(0), num_mel_bins=settings.mels)
        return fbank
    assert isinstance(settings, LogMelSettings)
    window = torch.hann_window(settings.window_samples, dtype=dtype)
    spectrum = torch.stft(
        samples,
        settings.fft_size,
        settings.shift_samples,
        len(window),
        window,
        return_complex=True,
    )
    bins, highest = settings.fft_size // 2 + 1, settings.sample_rate / 2
    filters = melscale_fbanks(bins, 0.0, highest, settings.mels, settings.sample_rate)
    logmel: Tensor = (spectrum.abs().square().T @ filters.to(dtype) + settings.log_offset).log()
    return logmel


def main() -> None:
    """Print one JSON line per checkpoint, wave and output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--golden", type=Path, default=Path("../shared/golden"))
    golden = parser.parse_args().golden
    torch.set_num_threads(1)
    waves = dict(np.load(golden / "waves.npz"))
    for checkpoint in sorted(golden.glob("*.ckpt")):
        for line in compare(checkpoint, waves):
            print(json.dumps(line))


if __name__ == "__main__":
    main()
