import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aalbert.models.layout import Packed, PaddedChunks, chunk_count, chunk_frames

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=6)


def packed_of(lengths: list[int], spare: int = 0) -> Packed:
    ends = torch.tensor([0, *lengths]).cumsum(0).int()
    return Packed(ends, longest=max(*lengths, 1), spare=spare)


def chunks_by_torch(utterance: Tensor, most_frames: int) -> list[Tensor]:
    """The rule of s3prl: as few chunks as possible, cut by `torch.chunk`."""
    return list(utterance.chunk(chunk_count(len(utterance), most_frames)))


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, spare=st.integers(0, 5))
def test_every_packed_frame_has_its_utterance_and_its_position(
    lengths: list[int], spare: int
) -> None:
    packed = packed_of(lengths, spare)
    owners = [row for row, length in enumerate(lengths) for _ in range(length)]
    places = [place for length in lengths for place in range(length)]
    frames = len(owners) + spare
    assert packed.utterances(frames).tolist() == owners + [len(lengths)] * spare
    assert packed.positions(frames).tolist() == places + list(range(spare))


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS.filter(any), spare=st.integers(0, 5))
def test_padding_a_packed_batch_and_packing_it_again_changes_nothing(
    lengths: list[int], spare: int
) -> None:
    packed = packed_of(lengths, spare)
    frames = torch.randn(sum(lengths) + spare, 3)
    padded = packed.pad(frames)
    assert padded.shape == (len(lengths), max(lengths), 3)
    again = packed.pack(padded, len(frames))
    assert torch.equal(again[: sum(lengths)], frames[: sum(lengths)])
    assert not again[sum(lengths) :].any()


@settings(max_examples=100, deadline=None)
@given(frames=st.integers(1, 200), most=st.integers(1, 50))
def test_chunks_have_the_sizes_of_torch_chunk(frames: int, most: int) -> None:
    expected = [len(chunk) for chunk in chunks_by_torch(torch.zeros(frames), most)]
    size = int(chunk_frames(torch.tensor(frames), most))
    assert [min(size, frames - start) for start in range(0, frames, size)] == expected
    assert size <= most


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS.filter(any), most=st.integers(1, 12))
def test_packed_and_padded_batches_are_cut_alike(lengths: list[int], most: int) -> None:
    utterances = [torch.randn(length, 2) for length in lengths]
    expected = [chunk for some in utterances if len(some) for chunk in chunks_by_torch(some, most)]

    packed, frames = packed_of(lengths).cut(most), torch.cat(utterances)
    bounds = packed.offsets.tolist()
    cut = [frames[a:b] for a, b in zip(bounds, bounds[1:], strict=False) if b > a]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(cut, expected, strict=True))
    assert all(length <= packed.longest for length in packed.lengths.tolist())

    padded = torch.nn.utils.rnn.pad_sequence(utterances, batch_first=True)
    chunks = PaddedChunks(torch.tensor(lengths), padded.shape[1], most)
    rows = chunks.cut(padded)
    cut = [row[:length] for row, length in zip(rows, chunks.lengths.tolist(), strict=True)]
    cut = [chunk for chunk in cut if len(chunk)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(cut, expected, strict=True))
    for joined, utterance in zip(chunks.join(rows), utterances, strict=True):
        assert torch.equal(joined[: len(utterance)], utterance)
