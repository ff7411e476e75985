"""Options scored as branches of one prompt equal options scored one by one, in any batch."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from artifacts import BadInput
from gpt import GPT, GPTConfig
from option_scores import encode_prompt, one_by_one, option_log_probabilities, score_batch

torch.set_num_threads(1)


class Letters:
    """One id per character code, <|endoftext|> as 0: token counts can be read off the text."""

    special_tokens = {"<|endoftext|>": 0}

    def encode(self, text, allowed_special=()):
        return [1 + ord(c) % 90 for c in text]


def tiny(seed=0, **changes):
    """A GPT with random weights that are large enough for its predictions to differ a lot."""
    torch.manual_seed(seed)
    model = GPT(GPTConfig(**{"vocab_size": 96, "sequence_length": 64, "layers": 2, "width": 32,
                             "heads": 2} | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    return model.eval()


PROMPTS = ["Q: what?\nAnswer:", "A longer prompt, with more of everything in it.\nAnswer:", "Answer:"]
OPTIONS = [("yes", "no", "a much longer option", "x"), ("one", "two", "three", "four"),
           ("a", "b", "c", "d")]


class OneLayer(torch.nn.Module):
    """GPT's interface in one layer of attention with a cache of its own: a mistake in chapter 4
    cannot show here. Sees the token before, the position, and what the mask allows (True)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.place = torch.nn.Embedding(24, 16), torch.nn.Embedding(32, 16)
        self.head, self.config = torch.nn.Linear(16, 24), SimpleNamespace(layers=1,
                                                                          sequence_length=32)

    def hidden(self, ids, *, cache=None, positions=None, mask=None):
        T = ids.shape[1]
        start = 0 if cache is None else cache.length
        positions = torch.arange(start, start + T) if positions is None else positions
        before = torch.cat([ids[:, :1] if not start else cache.last[:, -1:], ids[:, :-1]], dim=1)
        x = self.embedding(ids) + self.place(positions)
        x = x + 0.5 * self.embedding(before) * (positions > 0)[..., None]
        seen = x[:, None]                                               # (B, 1, T, C): one head
        if cache is not None:
            if start:
                seen = torch.cat([cache.keys[0][:, :, :start], seen], dim=2)
            cache.keys[0] = cache.values[0] = seen
            cache.length, cache.last = start + T, torch.cat([before[:, :1], ids], dim=1)[:, -2:]
        if mask is None:
            mask = torch.ones(T, start + T, dtype=torch.bool).tril(start)
        scores = (x[:, None] @ seen.mT).masked_fill(~mask, float("-inf")) / 16
        return x + (scores.softmax(-1) @ seen)[:, 0]

    def forward(self, ids):
        return self.head(self.hidden(ids)), None


@pytest.mark.exercise("6.7")
def test_branches_equal_whole_sequences_in_one_layer():
    branches_equal_whole_sequences(OneLayer())


def alone(model, prompt, option):
    """log P(option | prompt) by one plain pass."""
    with torch.no_grad():
        logp = model(torch.tensor([prompt + option]))[0][0].log_softmax(-1)
    return sum(float(logp[len(prompt) - 1 + t, option[t]]) for t in range(len(option)))


@pytest.mark.exercise("6.7")
@pytest.mark.parametrize("options", [
    [[[11], [13], [2]], [[1], [2], [5]]], [[[11, 12], [3]], [[1], [4, 5, 6]]],
    [[[7, 8, 9]], [[1, 2]]], [[[1], [2, 3], [4], [5, 6, 7], [8]]] * 2],
    ids=["three of one token", "two", "one", "five"])
def test_any_number_of_options_of_any_length(options):
    model, prompts = OneLayer(), [[0, 5, 6, 7], [0, 3]]
    with torch.no_grad():
        got = score_batch(model, prompts, options)
    assert got.shape == (2, len(options[0])), f"(B, M), not {tuple(got.shape)}"
    for i, prompt in enumerate(prompts):
        for j, option in enumerate(options[i]):
            want = alone(model, prompt, option)
            assert got[i, j].item() == pytest.approx(want, abs=2e-4), f"question {i}, option {j}"


@pytest.mark.exercise("6.7")
def test_one_question_alone_and_a_prompt_of_one_token():
    model = OneLayer()
    with torch.no_grad():
        got = score_batch(model, [[4]], [[[1, 2], [3]]])
    assert got[0].tolist() == pytest.approx([alone(model, [4], [1, 2]), alone(model, [4], [3])],
                                            abs=2e-4)


@pytest.mark.parametrize("changes", [{}, {"mix_previous": False},
                                     {"positions": "learned", "norm": "layer"}])
def test_branches_equal_whole_sequences(changes):
    branches_equal_whole_sequences(tiny(**changes))


def branches_equal_whole_sequences(model):
    """Against a plain pass over prompt + option, each on its own, log-probabilities added up."""
    prompts = [[0, 5, 6, 7, 8, 9, 10], [0, 3], [0, 20, 21, 22]]
    options = [[[11, 12], [13], [14, 15, 16], [17, 18]], [[1], [2, 3], [4, 5], [6]],
               [[9, 8, 7, 6, 5], [1, 2], [3, 4], [5, 6]]]
    got = score_batch(model, prompts, options)
    for i, prompt in enumerate(prompts):
        for j, option in enumerate(options[i]):
            with torch.no_grad():
                logits, _ = model(torch.tensor([prompt + option]))
            logp = logits[0].log_softmax(-1)
            want = sum(float(logp[len(prompt) - 1 + t, option[t]]) for t in range(len(option)))
            assert got[i, j].item() == pytest.approx(want, abs=2e-4), (
                f"question {i}, option {j} ({len(option)} tokens, prompt of {len(prompt)}): alone "
                f"{want:.4f}, as a branch {got[i, j]:.4f}. Does it see its neighbours' tokens or "
                "the pads, or start at the wrong position?")


def test_the_batch_does_not_matter():
    model, tokenizer = tiny(), Letters()
    alone, tokens = option_log_probabilities(model, tokenizer, PROMPTS, OPTIONS, batch_tokens=1)
    together, _ = option_log_probabilities(model, tokenizer, PROMPTS, OPTIONS, batch_tokens=10_000)
    assert np.abs(alone - together).max() < 2e-4, "batch size changed the result"
    assert tokens[0].tolist() == [4, 3, 21, 2], "tokens of each option with its leading space"
    for i, (prompt, four) in enumerate(zip(PROMPTS, OPTIONS)):
        for j, option in enumerate(four):
            assert one_by_one(model, tokenizer, prompt, option) == pytest.approx(
                together[i, j], abs=2e-4)


def test_a_prompt_too_long_keeps_its_end():
    ids = encode_prompt(Letters(), "x" * 500 + "the end", room=8)
    assert ids == [0] + Letters().encode("the end"), (
        "<|endoftext|> and the last room - 1 tokens: the question stands at the end")
    short = encode_prompt(Letters(), "ab", room=8)
    assert short == [0] + Letters().encode("ab"), "a short prompt is kept whole after the marker"
    assert encode_prompt(Letters(), "ab", room=1) == [0], "room for the marker alone: no text"


def test_a_prompt_too_long_is_scored():
    scores, _ = option_log_probabilities(tiny(), Letters(), ["word " * 100], [("a", "b", "c", "dd")])
    assert np.isfinite(scores).all()


def test_sharing_the_prompt_pays():
    """Four options, a prompt of 100 tokens: at least three times the questions per second."""
    model, tokenizer = tiny(sequence_length=160, width=128, layers=3, vocab_size=1024), Letters()
    prompts = ["p" * (90 + i) + "\nAnswer:" for i in range(24)]
    options = [("an option of this length", "another one as long", "a third", "and a fourth")] * 24

    def seconds(work):
        began = time.process_time()
        work()
        return time.process_time() - began

    slow = min(seconds(lambda: [one_by_one(model, tokenizer, p, o)
                                for p, four in zip(prompts, options) for o in four])
               for _ in range(2))
    fast = min(seconds(lambda: option_log_probabilities(model, tokenizer, prompts, options))
               for _ in range(3))
    assert slow > 2.0 * fast, f"one by one {slow:.2f} s, shared {fast:.2f} s of CPU"


def test_long_options_that_differ_at_their_end_are_told_apart_or_refused():
    model = tiny()
    options = [["x" * 40 + end for end in "bcd"]]           # of a context of 64
    sums, tokens = option_log_probabilities(model, Letters(), ["What?"], options)
    alone = [one_by_one(model, Letters(), "What?", o) for o in options[0]]
    assert sums[0] == pytest.approx(alone, abs=1e-3) and tokens.tolist() == [[42, 42, 42]]
    assert len(set(np.round(sums[0], 3))) == 3, "cut to half the context, all three were one"
    whole, _ = option_log_probabilities(model, Letters(), ["What?"], [["x" * 63, "y"]])
    assert np.isfinite(whole).all(), "an option may fill the context"
    with pytest.raises(BadInput, match="question 1 has an option of 65 tokens"):
        option_log_probabilities(model, Letters(), ["What?"], [["x" * 64, "y"]])


@pytest.mark.exercise("6.7")
def test_a_model_of_16_bits_gives_its_probabilities_in_32():
    every = [[token] for token in range(24)]
    got = score_batch(OneLayer().bfloat16(), [[1, 2, 3], [4]], [every, every])
    assert got.dtype == torch.float32
    assert torch.allclose(got.exp().sum(1), torch.ones(2), atol=1e-5), "all tokens together are 1"


@pytest.mark.exercise("6.7")
def test_the_token_of_id_0_counts_like_any_other():
    model, prompts = OneLayer(), [[0, 5], [3]]
    options = [[[4, 0], [0], [5, 6, 7]], [[0, 0, 0], [1, 0, 2], [0, 1]]]
    got = score_batch(model, prompts, options)
    for i, prompt in enumerate(prompts):
        want = [alone(model, prompt, option) for option in options[i]]
        assert got[i].tolist() == pytest.approx(want, abs=2e-4), f"question {i}: 0 is no padding"


@pytest.mark.exercise("6.7")
def test_each_prompt_is_read_once():
    model, read = OneLayer(), []
    plain = model.hidden
    model.hidden = lambda ids, **more: (read.append(ids.numel()), plain(ids, **more))[1]
    score_batch(model, [[1] * 12, [2] * 9], [[[3, 4], [5], [6, 7, 8], [9]]] * 2)
    assert sum(read) <= 2 * 12 + 2 * 4 * 3, (
        f"{sum(read)} tokens are read: two prompts of 12 at most and eight options of 3 at most")
