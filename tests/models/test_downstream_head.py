from dataclasses import asdict
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from aalbert.errors import ConfigError
from aalbert.models import EncoderConfig, FrontEndConfig, UpstreamConfig
from aalbert.models.downstream import DownstreamModel
from aalbert.models.downstream_head import DownstreamHead, LayerMix, normalised
from aalbert.models.head_config import HeadConfig, RecurrentConfig
from aalbert.models.pooling import AttentivePooling, mean_pool, statistics_pool
from aalbert.models.recurrent import RecurrentLayers
from aalbert.models.upstream import Upstream
from aalbert.shards.format.feature_settings import LogMelSettings

HEADS = {
    "mean": HeadConfig(),
    "projected": HeadConfig(projection=6),
    "statistics": HeadConfig(pooling="statistics"),
    "attentive": HeadConfig(pooling="attentive", projection=6),
    "hidden": HeadConfig(hidden=(8, 6)),
    "frames": HeadConfig(pooling="none", hidden=(8,)),
    "xvector": HeadConfig(
        trunk="xvector", pooling="statistics", hidden=(8, 6), classifier="cosine"
    ),
    "recurrent": HeadConfig(
        trunk="recurrent",
        recurrent=RecurrentConfig(width=5, layers=2, bidirectional=True),
        pooling="last",
    ),
    "recurrent frames": HeadConfig(
        trunk="recurrent", recurrent=RecurrentConfig(cell="lstm", width=5), pooling="none"
    ),
}


def states(count: int, frames: int = 9) -> list[Tensor]:
    return [torch.randn(2, frames, 4) for _ in range(count)]


def test_mean_pooling_sees_real_frames_only() -> None:
    hidden = torch.randn(2, 10, 4)
    hidden[1, 3:] = 1e6
    pooled = mean_pool(hidden, torch.tensor([10, 3]))
    torch.testing.assert_close(pooled[0], hidden[0].mean(dim=0))
    torch.testing.assert_close(pooled[1], hidden[1, :3].mean(dim=0))


def test_statistics_are_the_mean_and_the_deviation_of_real_frames() -> None:
    hidden = torch.randn(2, 10, 4)
    hidden[1, 3:] = 1e3
    pooled = statistics_pool(hidden, torch.tensor([10, 3]))
    for number, length in enumerate((10, 3)):
        real = hidden[number, :length]
        expected = torch.cat([real.mean(dim=0), real.std(dim=0, unbiased=False)])
        torch.testing.assert_close(pooled[number], expected)


def test_attention_that_does_not_choose_gives_plain_statistics() -> None:
    pooling = AttentivePooling(4)
    torch.nn.init.zeros_(pooling.attend.weight)
    hidden, lengths = torch.randn(2, 10, 4), torch.tensor([10, 3])
    torch.testing.assert_close(pooling(hidden, lengths), statistics_pool(hidden, lengths))


def test_attention_that_chooses_one_frame_gives_that_frame() -> None:
    pooling = AttentivePooling(4, attention_width=1)
    with torch.no_grad():
        pooling.project.weight.copy_(torch.tensor([[10.0, 0, 0, 0]]))
        pooling.project.bias.zero_()
        pooling.attend.weight.fill_(50.0)
    hidden = torch.randn(1, 5, 4)
    hidden[0, :, 0] = torch.tensor([-1.0, -1.0, 1.0, -1.0, -1.0])
    pooled = pooling(hidden, torch.tensor([5]))
    torch.testing.assert_close(pooled[0, :4], hidden[0, 2])


@pytest.mark.parametrize("config", HEADS.values(), ids=HEADS)
def test_values_past_the_end_of_an_utterance_change_no_head(config: HeadConfig) -> None:
    torch.manual_seed(0)
    head = DownstreamHead(3, 4, 5, "weighted", config).eval()
    lengths = torch.tensor([9, 4])
    clean = states(3)
    dirty = [state.clone() for state in clean]
    for state in dirty:
        state[1, 4:] = 1e3
    together, spoilt = head(clean, lengths), head(dirty, lengths)
    alone = head([state[1:, :4] for state in clean], torch.tensor([4]))
    torch.testing.assert_close(together[0], spoilt[0])
    real = slice(4 if config.frames else None)
    torch.testing.assert_close(together[1:, real], spoilt[1:, real])
    torch.testing.assert_close(together[1:, real], alone, atol=1e-5, rtol=1e-5)


def test_a_fresh_mix_is_the_average_and_its_weights_sum_to_one() -> None:
    mix = LayerMix(3)
    some = [torch.randn(2, 5) for _ in range(3)]
    torch.testing.assert_close(mix(some), torch.stack(some).mean(dim=0))
    with torch.no_grad():
        mix.logits.copy_(torch.tensor([1.0, -2.0, 0.5]))
    torch.testing.assert_close(mix.weights().sum(), torch.tensor(1.0))


def test_mixing_pooled_states_equals_pooling_the_mix() -> None:
    head = DownstreamHead(3, 4, 5, "weighted", HeadConfig(projection=6))
    assert head.mix is not None and head.classifier is not None
    with torch.no_grad():
        head.mix.logits.copy_(torch.tensor([1.0, -2.0, 0.5]))
    some, lengths = states(3), torch.tensor([9, 2])
    expected = head.classifier(mean_pool(head.project(head.mix(some)), lengths))
    torch.testing.assert_close(head(some, lengths), expected)


@pytest.mark.parametrize(
    ("layers", "chosen"), [("last", [2]), ("mean", [0, 1, 2]), ("weighted", [0, 1, 2]), (1, [1])]
)
def test_a_choice_of_layers_reads_these_states(layers: str | int, chosen: list[int]) -> None:
    head = DownstreamHead(3, 4, 5, layers, HeadConfig())  # type: ignore[arg-type]
    assert list(head.chosen) == chosen


def test_a_layer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="layers 3: the upstream has the states 0 to 2"):
        DownstreamHead(3, 4, 5, 3, HeadConfig())


def test_a_head_that_trains_nothing_gives_the_pooled_states_from_its_centre() -> None:
    head = DownstreamHead(3, 4, 0, "mean", HeadConfig(classifier="none"))
    head.centre.fill_(0.5)
    some, lengths = states(3), torch.tensor([9, 4])
    expected = mean_pool(torch.stack(some).mean(dim=0), lengths) - 0.5
    torch.testing.assert_close(head.embed(some, lengths), expected)
    assert list(head.parameters()) == []
    with pytest.raises(ConfigError, match=r"head\.classifier none trains nothing"):
        HeadConfig(classifier="none", hidden=(8,))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_recurrent_layers_are_those_of_torch_over_packed_sequences(
    cell: Literal["gru", "lstm"], bidirectional: bool
) -> None:
    torch.manual_seed(1)
    config = RecurrentConfig(cell=cell, width=5, layers=2, bidirectional=bidirectional)
    ours = RecurrentLayers(4, config)
    make = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
    torchs = make(4, 5, num_layers=2, batch_first=True, bidirectional=bidirectional)
    for name, parameter in torchs.named_parameters():
        side = ours.backwards if name.endswith("_reverse") else ours.forwards
        kind, layer = name.removesuffix("_reverse").rsplit("_l", 1)
        assert side is not None
        parameter.data.copy_(side[int(layer)].get_parameter(f"{kind}_l0"))
    frames, lengths = torch.randn(3, 9, 4), torch.tensor([9, 1, 4])
    packed = pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
    outputs, states = torchs(packed)
    expected, _ = pad_packed_sequence(outputs, batch_first=True)
    last = states[0] if cell == "lstm" else states
    result = ours(frames, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(result[row, :length], expected[row, :length])
    sides = last[-2:].transpose(0, 1).flatten(1) if bidirectional else last[-1]
    torch.testing.assert_close(ours.last(result, lengths), sides)


def test_the_last_state_needs_recurrent_layers() -> None:
    with pytest.raises(ConfigError, match=r"head\.pooling last is the last state of recurrent"):
        HeadConfig(pooling="last")
    with pytest.raises(ConfigError, match=r"head\.recurrent\.width 0 must be above 0"):
        RecurrentConfig(width=0)


def test_normalised_states_have_mean_0_and_deviation_1_in_every_frame() -> None:
    some = [100 * torch.randn(2, 5, 64) + 30, 0.01 * torch.randn(2, 5, 64)]
    for state, original in zip(normalised(some), some, strict=True):
        mean = original.mean(-1, keepdim=True)
        variance = original.var(-1, correction=0, keepdim=True)
        torch.testing.assert_close(
            state, (original - mean) / (variance + 1e-5).sqrt(), rtol=1e-4, atol=1e-4
        )


def test_a_model_normalises_the_states_that_its_head_reads_and_no_cached_ones() -> None:
    torch.manual_seed(2)
    features_of = asdict(LogMelSettings(mels=6))
    front_end = FrontEndConfig(feature_dims=6)
    encoder = EncoderConfig(layers=2, width=8, heads=2, feed_forward_width=16, initial_std=0.3)
    upstream = Upstream(UpstreamConfig(features=features_of, front_end=front_end, encoder=encoder))
    plain, ours = (
        DownstreamModel(upstream, ["a", "b"], "weighted", HeadConfig(normalise_states=each))
        for each in (False, True)
    )
    features, lengths = torch.randn(2, 7, 6), torch.tensor([7, 3])
    read, _ = ours.states(features, lengths)
    for state, raw in zip(read, plain.states(features, lengths)[0], strict=True):
        torch.testing.assert_close(state, nn.functional.layer_norm(raw, (8,)))
    averages = torch.stack([mean_pool(state, lengths) for state in read], dim=1).unsqueeze(1)
    torch.testing.assert_close(
        ours(averages, torch.ones(2, dtype=torch.int64)), ours(features, lengths)
    )
