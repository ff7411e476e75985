"""The study of a published model, on a small model in its place: the arithmetic, not the findings."""

import math
from types import SimpleNamespace

import pytest
import torch

from real_model_study import UNSURE, judging, losses_behind, prefers_first, told


class Letters:
    """A tokenizer of single characters with ChatML's two special tokens."""
    special_tokens = {"<|im_start|>": 1, "<|im_end|>": 2}

    def encode(self, text, **_):
        return [3 + ord(c) % 90 for c in text]


class Likes:
    """A model whose logits favour "A" by `bias`, and the answer with more x behind its letter."""
    config = SimpleNamespace(sequence_length=4096)

    def __init__(self, bias, taste):
        self.bias, self.taste = bias, taste

    def hidden(self, ids):
        text = ids[0].tolist()
        x, mark = 3 + ord("x") % 90, 3 + ord("§") % 90
        parts = " ".join(map(str, text)).split(f" {mark} ")
        counts = [part.split().count(str(x)) for part in parts[1:3]]
        return torch.tensor([[[self.bias + self.taste * (counts[0] - counts[1])]]])

    def head(self, h):
        logits = torch.zeros(1, 200)
        logits[0, 3 + ord("A") % 90] = h[0, 0]
        return logits


def chatter(bias, taste):
    return SimpleNamespace(model=Likes(bias, taste), tokenizer=Letters(), settings={
        "name": "letters", "chat_template": "<|im_start|>", "begin_id": None, "end_ids": [2]})


def test_the_preference_is_the_chance_of_the_first_letter():
    assert prefers_first(chatter(0, 0), "?", "§a§", "b") == 0.5
    assert math.isclose(prefers_first(chatter(1.5, 0), "?", "§a", "§b"), 1 / (1 + math.exp(-1.5)),
                        rel_tol=1e-6), "the chance of A beside B"
    assert prefers_first(chatter(0, 1), "?", "§xx", "§x") > 0.5 > prefers_first(
        chatter(0, 1), "?", "§x", "§xx")


@pytest.mark.parametrize("bias, turns", [(0, 0.0), (50, 1.0)])
def test_a_judge_that_looks_at_places_alone_turns_with_the_order(tmp_path, bias, turns):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "What does a.b do?", "chosen": "§Return the xxxx of b.", '
                    '"rejected": "§no", "chosen_ended": true, "rejected_ended": true, '
                    '"split": "val"}\n' * 3)
    args = SimpleNamespace(pairs=file, asked=3, seed=0)
    table = judging(args, chatter(bias, 1))
    assert table["pairs"] == 3
    assert table["turns with the order"] == turns, "both orders, the second read the other way"
    if bias:
        assert table["chooses the first place"] > 0.9
    else:
        assert table["agrees with the gold rule"] == 1, "the rule prefers it, and so did the judge"


@pytest.mark.parametrize("said, unsure", [
    ("I'm not familiar with that name.", True), ("I don't know what it does.", True),
    ("Sorry, there is no such function.", True), ("It returns a sorted copy.", False),
    ("A note on knowledge bases.", False)])
def test_what_counts_as_not_knowing(said, unsure):
    assert bool(UNSURE.search(said)) == unsure


def test_losses_behind_a_beginning_are_of_the_answer_alone():
    from gpt import GPT, GPTConfig
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, width=32, layers=1, heads=2, sequence_length=64)).eval()
    before, answer = [1, 7, 9, 4], [5, 6, 2]
    logprobs = model(torch.tensor([before + answer]))[0][0, 3:6].log_softmax(-1)
    want = -float(sum(logprobs.detach()[i, t] for i, t in enumerate(answer)))
    nats, entropy = losses_behind(SimpleNamespace(model=model), before, answer)
    assert math.isclose(nats, want, rel_tol=1e-5), "of the answer, not of what stands before it"
    assert math.isclose(entropy, -float((logprobs.exp() * logprobs).sum()), rel_tol=1e-5)


def test_a_table_is_told_in_a_line():
    best = {"accuracy": 0.5, "style": "cloze", "scorer": "pmi", "k": 2}
    table = {"questions": 9, "rows": [], "spread": {"best": best, "worst": best | {"accuracy": 0.2},
                                                    "spread": 0.1, "low": -0.1, "high": 0.3}}
    assert told("sixty_ways", table).startswith("9 questions: 0.500 (cloze, pmi, 2 shots) to 0.200")
