"""Perplexity against hand tables, a model with known probabilities, and any batch size."""

import math

import numpy as np
import pytest
import torch

import perplexity
from perplexity import (bits_per_byte, by_position, evaluate_perplexity, summarise_losses,
                        token_losses, windows)

torch.set_num_threads(1)


class Config:
    sequence_length = 8


class Known:
    """A model whose probabilities depend on the last token and its place: all known."""

    config = Config()

    def __init__(self, vocabulary=11):
        self.table = torch.randn(vocabulary, vocabulary, generator=torch.manual_seed(0))

    def parameters(self):
        yield self.table

    def hidden(self, ids):
        # What is "hidden" here: the last token's row and how many tokens came before.
        place = torch.arange(ids.shape[1])[None, :, None].expand(*ids.shape, 1)
        return torch.cat([self.table[ids], place], dim=-1)

    def head(self, hidden):
        return hidden[..., :-1] * (1 + hidden[..., -1:])


@pytest.mark.exercise("6.1")
def test_bits_per_byte_by_hand():
    assert bits_per_byte(math.log(2) * 1000, 500) == pytest.approx(2.0, abs=1e-12), (
        "1000 bits over 500 bytes are 2 bits per byte; nats are divided by ln 2")
    assert bits_per_byte(math.log(256) * 7, 7) == pytest.approx(8.0, abs=1e-12), (
        "a uniform guess over 256 bytes costs 8 bits a byte")
    assert bits_per_byte(math.log(2), 1) == pytest.approx(1.0), "one byte is a text"
    with pytest.raises(ValueError):
        bits_per_byte(1.0, 0)


@pytest.mark.exercise("6.2")
def test_windows_by_hand():
    got = windows(10, 6, 3)
    assert got == [(0, 6, 1), (3, 9, 7), (4, 10, 10)], f"worked by hand; got {got}"
    assert windows(4, 6, 3) == [(0, 4, 1)], "a short text is one window"
    assert windows(12, 6, 6) == [(0, 6, 1), (6, 12, 7)], "stride = context: no overlap"
    with pytest.raises(ValueError):
        windows(10, 6, 7)
    with pytest.raises(ValueError):
        windows(10, 6, 0)


@pytest.mark.exercise("6.2")
@pytest.mark.parametrize("length", [1, 5, 6, 7, 23, 60])
@pytest.mark.parametrize("stride", [1, 2, 4, 6])
def test_windows_predict_every_token_once(length, stride):
    seen = []
    for start, end, fresh in windows(length, 6, stride):
        assert end - start <= 6 and start >= 0, f"window {start}..{end} exceeds the context of 6"
        seen += range(fresh, end + 1)
        if start > 0:
            assert fresh - start - 1 >= 6 - stride, (
                f"token {fresh} has {fresh - start - 1} tokens before it, at least context - stride"
                f" = {6 - stride} are promised")
    assert seen == list(range(1, length + 1)), f"each token once and in order; got {seen}"


def test_losses_equal_a_plain_walk():
    """Each token's nats, computed token by token from the known table."""
    model, document = Known(), [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9]
    nats, entropies = token_losses(model, [document], start=0, context=6, stride=3)
    sequence = [0, *document]
    for start, end, fresh in windows(len(document), 6, 3):
        for target in range(fresh, end + 1):
            place = target - 1 - start
            row = (model.table[sequence[target - 1]] * (1 + place)).log_softmax(-1)
            assert nats[0][target - 1] == pytest.approx(-row[sequence[target]].item(), abs=1e-5), (
                f"token {target} of the window {start}..{end}")
            assert entropies[0][target - 1] == pytest.approx(
                -(row.exp() * row).sum().item(), abs=1e-4)


def test_batch_size_and_order_do_not_matter():
    rng, model = np.random.default_rng(0), Known()
    documents = [rng.integers(1, 11, n).tolist() for n in (1, 3, 30, 8, 17, 2, 9)]
    sizes = [3 * len(d) for d in documents]
    one = evaluate_perplexity(model, documents, start=0, byte_counts=sizes, batch_tokens=1)
    for tokens in (7, 20, 10_000):
        other = evaluate_perplexity(model, documents, start=0, byte_counts=sizes,
                                    batch_tokens=tokens)
        assert other["nats"] == pytest.approx(one["nats"], rel=1e-6), f"batches of {tokens} tokens"
    backwards = evaluate_perplexity(model, documents[::-1], start=0, byte_counts=sizes[::-1])
    assert backwards["perplexity"] == pytest.approx(one["perplexity"], rel=1e-6)
    assert one["bits_per_byte"] == pytest.approx(
        one["nats"] / math.log(2) / (3 * one["tokens"]), rel=1e-9)
    with pytest.raises(ValueError):
        evaluate_perplexity(model, [[]], start=0, byte_counts=[0])


@pytest.mark.exercise("6.3")
def test_means_are_over_tokens(monkeypatch):
    monkeypatch.setattr(perplexity, "bits_per_byte", lambda nats, n: nats / math.log(2) / n)
    got = summarise_losses([np.array([1.0, 2, 3]), np.array([10.0])],
                           [np.array([0.0, 0, 0]), np.array([math.log(16.0)])], np.array([6, 2]))
    assert got["loss"] == pytest.approx(4.0), f"16 nats over 4 tokens are 4, not {got['loss']}"
    assert got["perplexity"] == pytest.approx(math.exp(4.0))
    assert got["effective_choices"] == pytest.approx(2.0), (
        "three certain guesses and one among 16: exp of the mean entropy is 2")
    assert got["bits_per_byte"] == pytest.approx(16 / math.log(2) / 8)
    assert (got["tokens"], got["bytes"]) == (4, 8)


def test_positions_double():
    rows = by_position([np.array([8.0, 4, 2, 1, 1]), np.array([6.0, 4])])
    assert [(r["first"], r["last"], r["tokens"]) for r in rows] == [(1, 1, 2), (2, 3, 3), (4, 5, 2)]
    assert [r["loss"] for r in rows] == pytest.approx([7.0, 10 / 3, 1.0]), rows


def test_domains_add_up():
    model = Known()
    documents = [[1, 2, 3], [4, 5], [6]]
    report = evaluate_perplexity(model, documents, start=0, byte_counts=[9, 8, 7],
                                 domains=["code", "prose", "code"])
    parts = report["by_domain"]
    assert sum(p["nats"] for p in parts.values()) == pytest.approx(report["nats"], rel=1e-9)
    assert parts["code"]["tokens"] == 4 and parts["code"]["bytes"] == 16
    assert report["interval"][0] <= report["bits_per_byte"] <= report["interval"][1]


def test_empty_documents_leave_the_interval_finite():
    report = evaluate_perplexity(Known(), [[5, 6, 7], [], [1, 2]], start=0, byte_counts=[9, 0, 4],
                                 domains=["a", "b", "a"])
    assert all(map(math.isfinite, report["interval"])) and set(report["by_domain"]) == {"a"}


def test_a_loss_beyond_what_exp_can_hold_is_infinite_perplexity():
    report = summarise_losses([np.array([2000.0])], [np.array([1.0])], np.array([3.0]))
    assert report["perplexity"] == math.inf and report["loss"] == 2000


@pytest.mark.parametrize("window, context", [(4, 1), (6, 2), (8, 5), (1, 1)])
def test_windows_are_those_of_lm_evals_rolling_loglikelihood(window, context):
    """lm-eval 0.4.13, get_rolling_token_windows: the first window predicts `window` tokens, each
    later one window - context + 1 more, with what is before them as context."""
    for length in range(1, 40):
        theirs, done = [(0, min(length, window))], min(length, window)
        while done < length:
            new = min(length - done, window - context + 1)
            theirs.append((done, done + new))
            done += new
        ours = [(fresh - 1, end) for _, end, fresh in windows(length, window, window - context + 1)]
        assert ours == theirs, f"length {length}"


def test_e_to_what_is_no_number_is_none():
    assert math.isnan(perplexity.exp(math.nan)) and perplexity.exp(710.0) == math.inf
