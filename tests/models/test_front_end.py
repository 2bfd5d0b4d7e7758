from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from aalbert.errors import ConfigError
from aalbert.models.encoder_config import EncoderConfig
from aalbert.models.front_end import (
    FrontEnd,
    Statistics,
    append_deltas,
    join_neighbours,
    normalise_utterances,
    stack_frames,
)
from aalbert.models.front_end_config import FrontEndConfig, Normalisation
from aalbert.models.layout import Packed
from aalbert.models.upstream import UpstreamConfig


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


@pytest.mark.parametrize("context", [1, 3, 5, 11])
def test_context_joins_each_frame_with_its_neighbours_and_repeats_the_ends(context: int) -> None:
    lengths = [9, 4, 1]
    features = np.random.default_rng(0).normal(size=(3, 9, 2)).astype(np.float32)
    for row, length in enumerate(lengths):
        features[row, length:] = np.nan
    found = join_neighbours(torch.from_numpy(features), torch.tensor(lengths), context).numpy()
    reach = context // 2
    for row, length in enumerate(lengths):
        for frame in range(length):
            near = [min(max(frame + n, 0), length - 1) for n in range(-reach, reach + 1)]
            expected = np.concatenate([features[row, place] for place in near])
            np.testing.assert_array_equal(found[row, frame], expected)


def test_context_and_stacks_give_the_same_dims_at_their_own_frame_rates() -> None:
    features, lengths = torch.randn(2, 11, 4), torch.tensor([11, 5])
    plain = FrontEndConfig(feature_dims=4, deltas=1, normalisation="none")
    neighbours = replace(plain, context=3)
    stacked = replace(plain, frames_stacked=3)
    assert neighbours.input_dims == stacked.input_dims == 24
    wide, long = (FrontEnd(each)(features, lengths) for each in (neighbours, stacked))
    assert wide.inputs.shape == (2, 11, 24) and long.inputs.shape == (2, 3, 24)
    # A stack is the context of its middle frame.
    torch.testing.assert_close(wide.inputs[0, 1:9:3], long.inputs[0])
    torch.testing.assert_close(wide.inputs[1, 1:2], long.inputs[1, :1])
    assert not wide.inputs[1, 5:].any()


def test_context_is_the_same_packed_and_padded() -> None:
    front_end = FrontEnd(FrontEndConfig(feature_dims=4, deltas=1, context=5))
    utterances = [torch.randn(length, 4) for length in (8, 1, 5)]
    padded = prepare(front_end.config, *utterances)
    layout = Packed(torch.tensor([0, 8, 9, 14], dtype=torch.int32), longest=8)
    packed = front_end(torch.cat(utterances), layout)
    torch.testing.assert_close(packed.inputs, torch.cat(padded))


@pytest.mark.parametrize("context", [0, 2, -1])
def test_a_context_without_a_middle_is_an_error(context: int) -> None:
    with pytest.raises(ConfigError, match=rf"front_end\.context {context} must be odd: a frame"):
        FrontEndConfig(context=context)


def test_an_encoder_refuses_context_which_would_show_what_masks_hide() -> None:
    front_end = FrontEndConfig(context=3)
    UpstreamConfig(features={"kind": "logmel"}, front_end=front_end)
    with pytest.raises(ConfigError, match=r"front_end\.context 3 is for plain features: neighbou"):
        UpstreamConfig(features={"kind": "logmel"}, front_end=front_end, encoder=EncoderConfig())


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
