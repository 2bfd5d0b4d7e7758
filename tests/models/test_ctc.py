import itertools

import pytest
import torch
from torch import Tensor

from aalbert.models.ctc import ctc_losses, decode_greedily, frames_needed


def collapsed(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """The sequence that a path of frames stands for."""
    return tuple(each for each, _ in itertools.groupby(path) if each != blank)


def sum_over_paths(probabilities: Tensor, target: tuple[int, ...]) -> float:
    """The probability of a sequence: the sum over all paths that give it."""
    frames, symbols = probabilities.shape
    total = 0.0
    for path in itertools.product(range(symbols), repeat=frames):
        if collapsed(path, symbols - 1) == target:
            total += float(torch.stack([probabilities[t, s] for t, s in enumerate(path)]).prod())
    return total


@pytest.mark.parametrize("target", [(0,), (0, 1), (0, 0), (1, 1, 0), (1, 0, 1)])
def test_the_loss_is_that_of_all_paths_one_by_one(target: tuple[int, ...]) -> None:
    torch.manual_seed(len(target))
    scores = torch.randn(1, 5, 3)
    expected = -torch.tensor(sum_over_paths(scores[0].softmax(-1), target)).log()
    found = ctc_losses(
        scores, torch.tensor([5]), torch.tensor([target]), torch.tensor([len(target)])
    )
    torch.testing.assert_close(found, expected.reshape(1), rtol=1e-4, atol=1e-4)


def test_padding_of_frames_and_of_phones_changes_no_loss() -> None:
    torch.manual_seed(0)
    scores, targets = torch.randn(2, 6, 4), torch.tensor([[0, 1, 2], [2, 0, 0]])
    lengths, counts = torch.tensor([6, 3]), torch.tensor([3, 1])
    together = ctc_losses(scores, lengths, targets, counts)
    scores[1, 3:], targets[1, 1:] = 1e3, 1
    torch.testing.assert_close(ctc_losses(scores, lengths, targets, counts), together)
    alone = ctc_losses(scores[1:, :3], lengths[1:], targets[1:, :1], counts[1:])
    torch.testing.assert_close(alone, together[1:])


def test_the_frames_that_a_sequence_needs_are_those_of_its_shortest_path() -> None:
    for target in itertools.chain.from_iterable(
        itertools.product(range(2), repeat=count) for count in (1, 2, 3)
    ):
        shortest = next(
            frames
            for frames in itertools.count(1)
            if any(
                collapsed(path, 2) == target for path in itertools.product(range(3), repeat=frames)
            )
        )
        padded = torch.tensor([[*target, target[-1]]])
        assert int(frames_needed(padded, torch.tensor([len(target)]))) == shortest


def test_too_few_frames_have_no_loss_and_no_gradient() -> None:
    scores = torch.randn(2, 2, 3, requires_grad=True)
    losses = ctc_losses(
        scores, torch.tensor([2, 2]), torch.tensor([[0, 0], [0, 1]]), torch.tensor([2, 2])
    )
    [gradient] = torch.autograd.grad(losses.sum(), scores)
    assert losses[0] == 0 and losses[1] > 0
    assert not gradient[0].any() and gradient[1].any()


def test_the_best_path_is_collapsed_and_has_no_blanks() -> None:
    for path in ([0, 0, 2, 0, 1, 1], [2, 2], [1, 2, 1, 1, 0, 2]):
        scores = torch.nn.functional.one_hot(torch.tensor(path), 3).float()
        assert decode_greedily(scores) == list(collapsed(tuple(path), 2))
