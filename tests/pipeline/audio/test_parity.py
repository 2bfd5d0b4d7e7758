"""Imported checkpoints compute what the systems they come from computed (../shared/golden)."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aalbert.conversion.import_model import load_foreign
from benchmarks.parity import compare

# Hidden states and predictions that the golden files have of every wave.
OUTPUTS = {
    "lightning_aalbert": 4 + 1,
    "lightning_mockingjay": 2 + 2,
    "s3prl_audio_albert": 4 + 1,
    "s3prl_mockingjay": 3 + 1,
    "s3prl_tera_preln": 3 + 1,
}
KALDI = "s3prl_mockingjay"


@pytest.fixture(scope="module")
def lines(shared: Path) -> list[dict[str, Any]]:
    waves = dict(np.load(shared / "golden" / "waves.npz"))
    checkpoints = [shared / "golden" / f"{name}.ckpt" for name in OUTPUTS]
    return [line for checkpoint in checkpoints for line in compare(checkpoint, waves)]


def test_every_state_and_prediction_is_compared(lines: list[dict[str, Any]]) -> None:
    assert Counter(line["checkpoint"] for line in lines) == {
        name: 2 * count for name, count in OUTPUTS.items()
    }


def test_every_state_and_prediction_agrees_within_1e_5(lines: list[dict[str, Any]]) -> None:
    """In float64; in float32 the products of one processor are not those of another."""
    assert max(line["from_features_float64"] for line in lines) <= 1e-5
    assert max(line["from_features"] for line in lines) <= 2e-5


@pytest.mark.parametrize("way", ["from_wave", "from_wave_torch"])
def test_from_the_wave_they_agree_as_far_as_float32_goes(
    lines: list[dict[str, Any]], way: str
) -> None:
    """Features in float32 differ by rounding; so do those of the reference from float64.

    Those of torch and torchaudio differ themselves from build to build, and by processor.
    """
    for name in OUTPUTS:
        own = [line for line in lines if line["checkpoint"] == name]
        rounding = max(line["reference_rounding"] for line in own)
        assert max(line[way] for line in own) <= 4 * rounding
        assert rounding <= (1e-3 if name == KALDI else 1e-4)


@pytest.mark.parametrize(
    ("checkpoint", "features"),
    [
        ("lightning_aalbert", "logmel80_nfft2046"),
        ("lightning_mockingjay", "logmel80_nfft2046"),
        ("s3prl_mockingjay", "kaldi_fbank80_float"),
    ],
)
def test_from_raw_features_on_every_state_agrees_within_1e_5(
    shared: Path, checkpoint: str, features: str
) -> None:
    """Deltas, normalisation and stacking are those of the checkpoint."""
    model = load_foreign(shared / "golden" / f"{checkpoint}.ckpt")
    raw = np.load(shared / "golden" / "features.npz")
    golden = np.load(shared / "golden" / f"{checkpoint}_io.npz")
    for wave in ("wav0", "wav1"):
        frames = torch.from_numpy(raw[f"{features}_{wave}"])
        with torch.no_grad():
            states, _ = model.upstream(frames.unsqueeze(0), torch.tensor([len(frames)]))
        wanted = torch.from_numpy(golden[f"hidden_{wave}"])
        assert (torch.cat(states[-len(wanted) :]) - wanted).abs().max() <= 1e-5
