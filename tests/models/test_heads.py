import torch

from aalbert.models.heads import LayerMix, SpeakerHead, mean_pool


def test_mean_pooling_sees_real_frames_only() -> None:
    hidden = torch.randn(2, 10, 4)
    hidden[1, 3:] = 1e6
    pooled = mean_pool(hidden, torch.tensor([10, 3]))
    torch.testing.assert_close(pooled[0], hidden[0].mean(dim=0))
    torch.testing.assert_close(pooled[1], hidden[1, :3].mean(dim=0))


def test_a_fresh_mix_is_the_average_and_its_weights_sum_to_one() -> None:
    mix = LayerMix(3)
    states = [torch.randn(2, 5) for _ in range(3)]
    torch.testing.assert_close(mix(states), torch.stack(states).mean(dim=0))
    with torch.no_grad():
        mix.logits.copy_(torch.tensor([1.0, -2.0, 0.5]))
    torch.testing.assert_close(mix.weights().sum(), torch.tensor(1.0))


def test_mixing_pooled_states_equals_pooling_the_mix() -> None:
    head = SpeakerHead(states=3, width=4, speakers=5, layers="weighted")
    assert head.mix is not None
    with torch.no_grad():
        head.mix.logits.copy_(torch.tensor([1.0, -2.0, 0.5]))
    states = [torch.randn(2, 7, 4) for _ in range(3)]
    lengths = torch.tensor([7, 2])
    expected = head.classify(mean_pool(head.mix(states), lengths))
    torch.testing.assert_close(head(states, lengths), expected)


def test_the_choice_of_the_last_layer_reads_no_other() -> None:
    head = SpeakerHead(states=2, width=4, speakers=5, layers="last")
    last, lengths = torch.randn(1, 7, 4), torch.tensor([7])
    one, other = (head([torch.randn(1, 7, 4), last], lengths) for _ in range(2))
    torch.testing.assert_close(one, other)
