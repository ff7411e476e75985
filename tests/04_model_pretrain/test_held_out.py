"""held_out.py: every token once, with the context that was promised; sliding equals one pass."""

import numpy as np
import pytest
import torch

from gpt import GPT, GPTConfig
from held_out import held_out_bits, sliding_loss, windows

torch.set_num_threads(1)


def test_windows_by_hand():
    got = list(windows(np.array([7, 3]), 4))
    assert got == [(0, 0, 0, 4), (0, 2, 4, 6), (0, 3, 6, 7), (1, 0, 0, 3)], got


@pytest.mark.parametrize("T", [4, 16, 50])
def test_every_token_is_scored_once_with_half_a_row_before_it(T):
    lengths = np.random.default_rng(0).integers(1, 120, 50)
    scored = [np.zeros(n, int) for n in lengths]
    for document, begin, counted, end in windows(lengths, T):
        assert end - begin <= T and begin <= counted < end
        assert begin == 0 or counted - begin >= T // 2, "too little context"
        scored[document][counted:end] += 1
    assert all((s == 1).all() for s in scored), "each token exactly once"


class FakeShard:
    """Three documents with their end tokens."""
    eot = 30
    length = np.array([9, 1, 5])
    start = np.array([0, 9, 10])
    tokens = np.concatenate([np.arange(8), [30], [30], [9, 3, 9, 3, 30]])


def test_sliding_loss_equals_whole_documents_when_they_fit():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=31, sequence_length=16, layers=1, width=16, heads=2))
    torch.nn.init.normal_(model.blocks[0].attention.out.weight)
    shard, nats = FakeShard(), 0.0
    for start, length in zip(shard.start, shard.length):
        if length > 1:          # without its end token, which is no text
            text = torch.tensor(np.append(shard.eot, shard.tokens[start:start + length - 1]))[None]
            nats += model(text[:, :-1], text[:, 1:])[1].item() * (length - 1)
    got = sliding_loss(model, shard, 16, rows=2)
    assert got == pytest.approx(nats / 12, abs=1e-5), \
        f"12 tokens of text, each document from an end token: {nats / 12:.5f}, got {got:.5f}"


class SameIn6(FakeShard):
    bytes = np.array([20, 3, 11])


def test_bits_per_byte_are_those_of_chapter_6():
    from perplexity import evaluate_perplexity
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=31, sequence_length=4, layers=1, width=16, heads=2)).eval()
    torch.nn.init.normal_(model.blocks[0].attention.out.weight)
    shard = SameIn6()
    documents = [shard.tokens[s:s + n - 1].tolist() for s, n in zip(shard.start, shard.length)]
    theirs = evaluate_perplexity(model, documents, start=shard.eot, byte_counts=[20, 3, 11])
    assert held_out_bits(model, shard, 4) == pytest.approx(theirs["bits_per_byte"], rel=2e-3)
