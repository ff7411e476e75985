"""copying.py and late keys: rows said twice, the measure, and a head that copies from its start."""

import math

import numpy as np
import pytest
import torch

from batches import IGNORE, PackedBatches
from copying import SayTwice, copying_loss, said_twice
from gpt import GPT, GPTConfig
from ngram_embedding import late_keys

torch.set_num_threads(1)


def numbered(H: int = 3, T: int = 4) -> torch.Tensor:
    """(1, H, T, 1) keys: head h at time t holds 10 h + t + 1."""
    return (10 * torch.arange(H)[:, None] + torch.arange(T) + 1.0)[None, :, :, None]


@pytest.mark.exercise("4.19")
def test_every_second_head_is_one_token_late():
    late = late_keys(numbered(), None, torch.ones(4, 1, dtype=torch.bool))[0, :, :, 0]
    assert late[0].tolist() == [1, 2, 3, 4] and late[2].tolist() == [21, 22, 23, 24], \
        f"heads 0 and 2 stay as they are: {late.tolist()}"
    assert late[1].tolist() == [0, 11, 12, 13], f"head 1 is one late, zero first: {late[1]}"


@pytest.mark.exercise("4.19")
def test_a_late_key_goes_on_from_the_pass_before_and_not_over_the_beginning_of_a_text():
    before = torch.full((1, 3, 1, 1), 99.0)
    goes_on = torch.tensor([True, True, False, True])[:, None]
    late = late_keys(numbered(), before, goes_on)[0, :, :, 0]
    assert late[1].tolist() == [99, 11, 0, 13], f"a text starts at 2: {late[1].tolist()}"
    assert late[0].tolist() == [1, 2, 3, 4], "a head that is not late needs nothing from before"


class Rows:
    """What SayTwice needs of PackedBatches: four rows of 32 tokens, counted on."""
    T, rows, seed, rank, ranks = 32, 4, 0, 0, 1

    class shard:
        vocab_size, eot = 1000, 999

    def __init__(self, rank: int = 0, ranks: int = 1) -> None:
        self.rank, self.ranks = rank, ranks

    def __call__(self, step: int):
        first = 100 * (step * 4 + torch.arange(4)[self.rank::self.ranks])
        ids = first[:, None] % 900 + torch.arange(33)
        return ids[:, :-1].clone(), ids[:, 1:].clone()


def test_a_row_that_says_it_twice():
    rng, row = np.random.default_rng(0), np.arange(500, 532)
    kinds = set()
    for _ in range(40):
        said, L = said_twice(row, 1000, rng)
        assert len(said) == 33 and 8 <= L <= 16
        assert (said[L:] == said[:-L]).all(), f"period {L}: {said}"
        assert len(set(said[:L].tolist())) > 4, "a piece says something"
        kinds.add(set(said.tolist()) <= set(row.tolist()))
    assert kinds == {True, False}, "pieces come from the row itself and from the whole vocabulary"


def test_a_share_of_rows_is_replaced_and_the_first_time_is_no_target():
    plain, twice = Rows(), SayTwice(Rows(), 0.25)
    changed = 0
    for step in range(100):
        (ids, targets), (was, _) = twice(step), plain(step)
        for line, before, target in zip(ids, was, targets):
            if not torch.equal(line, before):
                changed += 1
                L = int((target == IGNORE).sum())
                assert 8 <= L <= 16 and (target[:L] == IGNORE).all()
                assert torch.equal(target[L:], target.roll(0)[L:]) and \
                    torch.equal(line[L:], line[:-L]), "the row repeats its first L tokens"
                assert torch.equal(target[L:-1], line[L + 1:]), "a target is the next token"
    assert 60 <= changed <= 140, f"{changed} of 400 rows for a share of 0.25"


def test_two_ranks_together_read_what_one_reads():
    one, two = SayTwice(Rows(), 0.5), [SayTwice(Rows(r, 2), 0.5) for r in (0, 1)]
    for step in range(5):
        whole, parts = one(step)[0], [rank(step)[0] for rank in two]
        assert torch.equal(whole[0::2], parts[0]) and torch.equal(whole[1::2], parts[1])


class Lookup(torch.nn.Module):
    """Says what came after the latest earlier place of the same token: it can copy, and no more."""
    config = GPTConfig(vocab_size=5000, sequence_length=128)

    def __init__(self) -> None:
        super().__init__()
        self.sure = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, ids):
        B, T = ids.shape
        logits = torch.zeros(B, T, 5000)
        for b in range(B):
            last = {}
            for t, token in enumerate(ids[b].tolist()):
                if t:
                    last[ids[b, t - 1].item()] = token
                if token in last:
                    logits[b, t, last[token]] = self.sure
        return logits, None


def test_the_measure_tells_a_copier_from_a_guesser():
    found = copying_loss(Lookup(), sequences=4)
    assert found["copy_second"] < 0.2, f"a model that copies has nothing left to guess: {found}"
    assert abs(found["copy_first"] - math.log(5000)) < 0.5, f"noise costs ln V: {found}"
    torch.manual_seed(0)
    guess = copying_loss(GPT(GPTConfig(vocab_size=5000, layers=1, width=32, heads=2)), 4)
    assert abs(guess["copy_second"] - math.log(5000)) < 0.5, f"an untrained model guesses: {guess}"


def test_copying_is_learned_in_a_few_updates_with_late_keys():
    """Rows of nothing but repetitions, 120 updates: 3.0 of 4.6 nats are left at most."""
    from training_loop import Recipe, train

    def batches(step: int):
        rng = np.random.default_rng(step)
        rows = np.stack([np.resize(rng.integers(0, 100, 16), 33) for _ in range(8)])
        targets = torch.from_numpy(rows[:, 1:]).clone()
        targets[:, :16] = IGNORE
        return torch.from_numpy(rows[:, :-1]), targets
    losses = {}
    for late in (True, False):
        torch.manual_seed(0)
        model = GPT(GPTConfig(vocab_size=100, sequence_length=32, layers=1, width=32, heads=2,
                              tied=True, late_keys=late))
        train(model, batches, 120, Recipe())
        losses[late] = copying_loss(model, length=16)["copy_second"]
    assert losses[True] < 3.0 < losses[False], losses


def test_the_committed_ladder_says_what_the_lesson_says(capsys):
    """Each rung needs fewer bits or copies better, and the last one does both."""
    import copying_experiment
    from artifacts import read_json
    result = read_json(copying_experiment.RECORDED, "copying_experiment.py")
    copying_experiment.show(result)
    assert "said twice" in capsys.readouterr().out
    ladder = {name: (np.mean([r["bits_per_byte"] for r in rows]),
                     np.mean([r["curve"][-1]["copy_second"] for r in rows]))
              for name, rows in result["ladder"].items()}
    assert ladder["said twice"][0] < 0.95 * ladder["before"][0], ladder
    assert ladder["said twice"][1] < ladder["before"][1] - 2, ladder
