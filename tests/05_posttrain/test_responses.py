"""responses.py: log-probabilities of answers, against hand-worked numbers and plain Python."""

import math

import pytest
import torch

from responses import (by_question, collate, distinct_rows, in_order_of_length, masked_mean,
                       response_logprobs, score_rows, sequence_logprobs, steps_for, token_entropy,
                       token_logprobs)


def plain_logprobs(logits, ids, temperature=1.0):
    """The same, token by token, with math.exp: slow and sure."""
    table = []
    for row_logits, row_ids in zip(logits.tolist(), ids.tolist()):
        line = []
        for t in range(len(row_ids) - 1):
            exps = [math.exp(z / temperature) for z in row_logits[t]]
            line.append(math.log(exps[row_ids[t + 1]] / sum(exps)))
        table.append(line)
    return torch.tensor(table, dtype=torch.float64)


@pytest.mark.exercise("5.2")
def test_by_hand():
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]], dtype=torch.float64)
    got = token_logprobs(logits, torch.tensor([[0, 1]]))
    assert got.shape == (1, 1), f"T tokens have T - 1 predictions, got shape {tuple(got.shape)}"
    assert abs(got.item() - math.log(3 / 4)) < 1e-9, \
        f"the logits at 0 predict the token at 1: ln(3/4) = -0.2877, got {got.item():.4f}"


@pytest.mark.exercise("5.2")
@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_against_plain_python(temperature):
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 6, 11, generator=g, dtype=torch.float64)
    ids = torch.randint(0, 11, (3, 6), generator=g)
    gap = (token_logprobs(logits, ids, temperature) - plain_logprobs(logits, ids, temperature))
    assert gap.abs().max() < 1e-9, \
        f"temperature {temperature}: off by {gap.abs().max():.3f}; are targets shifted, " \
        "and logits divided by the temperature?"


@pytest.mark.exercise("5.2")
def test_large_logits_do_not_overflow():
    logits = torch.tensor([[[1000.0, 0.0], [0.0, 0.0]]])
    got = token_logprobs(logits, torch.tensor([[0, 1]]))
    assert got.item() == pytest.approx(-1000), f"log p is -1000 here, got {got.item()}"


def test_padding_more_changes_nothing(tiny_model):
    rows = [([65, 66, 67, 68], [0, 0, 1, 1]), ([70, 71], [0, 1])]
    ids, mask = collate(rows, 132)
    wide = torch.cat([ids, torch.full((2, 5), 132)], 1), torch.cat([mask, torch.zeros(2, 5)], 1)
    short, _ = response_logprobs(tiny_model, ids, mask)
    long, _ = response_logprobs(tiny_model, *wide)
    assert (long[:, :3] - short).abs().max() < 1e-5 and long[:, 3:].abs().max() == 0
    gap = sequence_logprobs(tiny_model, *wide) - sequence_logprobs(tiny_model, ids, mask)
    assert gap.abs().max() < 1e-5


def test_a_sequence_is_the_sum_over_its_answer(tiny_model):
    ids, mask = collate([([65, 66, 67, 68], [0, 0, 1, 1])], 132)
    every = plain_logprobs(tiny_model(ids)[0].double(), ids)[0]
    got = sequence_logprobs(tiny_model, ids, mask).item()
    assert got == pytest.approx(float(every[1] + every[2]), abs=1e-5), "sum of the last two"


def test_entropy_of_uniform_and_of_certain():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [5000.0, 0.0, 0.0, 0.0]])
    assert token_entropy(logits).tolist() == pytest.approx([math.log(4), 0.0], abs=1e-6)


def test_masked_mean_ignores_pads_and_survives_nothing():
    assert masked_mean(torch.tensor([1.0, 2, 100]), torch.tensor([1.0, 1, 0])) == 1.5
    assert masked_mean(torch.ones(2), torch.zeros(2)) == 0


def test_scoring_in_batches_of_length_keeps_the_order():
    rows = [([i] * n, [0] * (n - 1) + [1]) for i, n in enumerate((3, 7, 1, 5, 2))]
    got = score_rows(lambda ids, mask: (ids * mask).sum(1), rows, pad=99, batch=2)
    assert got.tolist() == [0, 1, 2, 3, 4], "each row's own score, in the order given"
    assert in_order_of_length(rows, 2)[0] == [1, 3], "the longest rows share a batch"


def test_every_answer_is_computed_once_and_pairs_stay_with_their_question():
    row = lambda q, a: ([q, 130, a, 131], [0, 0, 1, 1])  # noqa: E731
    a, b, c, other = row(1, 7), row(1, 8), row(1, 9), (row(2, 7), row(2, 8))
    pairs = [(a, b), other, (c, a), (b, c)]
    rows, places = distinct_rows(pairs)
    assert len(rows) == 5, f"eight places, five different answers, got {len(rows)} rows"
    assert [(rows[i], rows[j]) for i, j in places.T.tolist()] == pairs, "a pair has lost its rows"
    groups = by_question(pairs)
    assert groups == [[(a, b), (c, a), (b, c)], [other]], \
        f"the same answer to another question is another question's: {groups}"
    assert steps_for(pairs, 1, 3) == 6, "two questions, three passes, one a step"
    assert steps_for(pairs, 8, 0.1) == 1, "never no step at all"
