from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from aalbert.errors import ConfigError
from aalbert.models.front_end import (
    FrontEnd,
    FrontEndConfig,
    Normalisation,
    Statistics,
    append_deltas,
    normalise_utterances,
    stack_frames,
)


def prepare(config: FrontEndConfig, *utterances: Tensor) -> list[Tensor]:
    """Run utterances `(frames, dims)` through the front end as one padded batch."""
    lengths = torch.tensor([len(utterance) for utterance in utterances])
    padded = torch.nn.utils.rnn.pad_sequence(list(utterances), batch_first=True)
    output = FrontEnd(config)(padded, lengths)
    return [inputs[:length] for inputs, length in zip(output.inputs, output.lengths, strict=True)]


@pytest.mark.parametrize(
    ("raw", "expected", "deltas"),
    [
        ("logmel80_nfft2046", "logmel80_nfft2046_cmvn", 0),
        ("logmel80_nfft2046", "logmel80_delta1_nfft2046_cmvn", 1),
        ("kaldi_fbank80_float", "kaldi_fbank80_delta2_cmvn", 2),
    ],
)
def test_deltas_and_normalisation_are_those_of_the_reference_systems(
    shared: Path, raw: str, expected: str, deltas: int
) -> None:
    golden = np.load(shared / "golden" / "features.npz")
    config = FrontEndConfig(deltas=deltas)
    waves = [torch.from_numpy(golden[f"{raw}_wav{number}"]) for number in (0, 1)]
    for number, inputs in enumerate(prepare(config, *waves)):
        difference = np.abs(inputs.numpy() - golden[f"{expected}_wav{number}"]).max()
        assert difference < 1e-5


def test_deltas_equal_torchaudio_on_one_whole_utterance() -> None:
    features = torch.randn(1, 37, 5)
    ours = append_deltas(features, torch.tensor([37]), order=2, window=5)
    first = torchaudio.functional.compute_deltas(features.transpose(1, 2))
    second = torchaudio.functional.compute_deltas(first)
    theirs = torch.cat([features, first.transpose(1, 2), second.transpose(1, 2)], dim=-1)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("normalisation", ["utterance", "global", "none"])
def test_other_utterances_and_padding_never_change_an_utterance(
    normalisation: Normalisation,
) -> None:
    config = FrontEndConfig(
        feature_dims=4,
        deltas=2,
        normalisation=normalisation,
        frames_stacked=3,
    )
    short, long = torch.randn(20, 4), 5 * torch.randn(95, 4) + 3
    alone = prepare(config, short)[0]
    beside = prepare(config, short, long)[0]
    torch.testing.assert_close(alone, beside)


def test_the_values_in_padding_are_never_read() -> None:
    config = FrontEndConfig(feature_dims=4, deltas=1)
    features = torch.randn(2, 30, 4)
    lengths = torch.tensor([30, 11])
    dirty = features.clone()
    dirty[1, 11:] = 1e6
    clean_output, dirty_output = (FrontEnd(config)(f, lengths).inputs for f in (features, dirty))
    torch.testing.assert_close(clean_output, dirty_output)
    assert dirty_output[1, 11:].abs().max() == 0


def test_normalisation_gives_each_dimension_mean_zero_and_unbiased_variance_one() -> None:
    frames = torch.randn(1, 50, 3) * torch.tensor([1.0, 10.0, 0.1]) + 7
    normalised = normalise_utterances(frames, torch.tensor([50]), torch.ones(1, 50, 1))
    torch.testing.assert_close(normalised.mean(dim=1), torch.zeros(1, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.var(dim=1), torch.ones(1, 3))


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_constant_and_very_short_input_stays_finite(frames: int) -> None:
    config = FrontEndConfig(feature_dims=4, deltas=2, frames_stacked=3)
    inputs = prepare(config, torch.full((frames, 4), -23.0))[0]
    assert inputs.shape == (1, 36)
    assert inputs.isfinite().all()


def test_the_front_end_computes_in_float32_under_autocast_and_from_float16() -> None:
    features = torch.randn(1, 20, 80, dtype=torch.float16)
    lengths = torch.tensor([20])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = FrontEnd(FrontEndConfig(deltas=1))(features, lengths)
    assert output.inputs.dtype == torch.float32
    expected = FrontEnd(FrontEndConfig(deltas=1))(features.float(), lengths)
    torch.testing.assert_close(output.inputs, expected.inputs)


def test_stacking_joins_neighbours_and_drops_the_remainder() -> None:
    frames = torch.arange(14.0).view(1, 7, 2)
    stacked = stack_frames(frames, 3)
    assert stacked.tolist() == [[[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]]


def test_each_utterance_is_normalised_by_its_own_speaker_before_deltas() -> None:
    config = FrontEndConfig(feature_dims=2, deltas=1, normalisation="speaker")
    features, lengths = torch.randn(2, 9, 2), torch.tensor([9, 9])
    speakers = Statistics(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[2.0, 4.0]] * 2))
    found = FrontEnd(config)(features, lengths, speakers).inputs
    plain = FrontEnd(FrontEndConfig(feature_dims=2, deltas=1, normalisation="none"))(
        features, lengths
    ).inputs
    torch.testing.assert_close(
        found[1, :, :2], (features[1] - torch.tensor([3.0, 4.0])) / torch.tensor([2.0, 4.0])
    )
    torch.testing.assert_close(found[1, :, 2:], plain[1, :, 2:] / torch.tensor([2.0, 4.0]))


def test_missing_speaker_statistics_are_an_error() -> None:
    config = FrontEndConfig(feature_dims=2, normalisation="speaker")
    with pytest.raises(ConfigError, match=r"speaker needs the statistics .* choose utterance, gl"):
        FrontEnd(config)(torch.randn(1, 9, 2), torch.tensor([9]))


@pytest.mark.parametrize("normalisation", ["utterance", "global", "none"])
def test_rows_without_an_utterance_have_no_frames_and_stay_zero(
    normalisation: Normalisation,
) -> None:
    config = FrontEndConfig(feature_dims=2, deltas=1, normalisation=normalisation, frames_stacked=3)
    output = FrontEnd(config)(torch.randn(3, 10, 2), torch.tensor([10, 0, 2]))
    assert isinstance(output.lengths, Tensor)
    assert output.lengths.tolist() == [3, 0, 1]
    assert not output.inputs[1].any()
    assert output.inputs.isfinite().all()
