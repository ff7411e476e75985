"""reward_model.py: the loss, where the score is read, centring, calibration."""

import math

import numpy as np
import pytest
import torch

import reward_model
from artifacts import BadInput
from responses import sequence_logprobs
from reward_model import (bradley_terry_loss, from_sft, last_real_token, load_reward_model,
                          pair_rows, read_off, train_reward_model)
from reward_quality import calibration, longer_preferred

D = torch.float64


@pytest.mark.exercise("5.6")
def test_bradley_terry_by_hand():
    got = bradley_terry_loss(torch.tensor([2.0, 1, 0], dtype=D), torch.tensor([0.0, 1, 1], dtype=D))
    want = [math.log(1 + math.exp(-2)), math.log(2), math.log(1 + math.e)]
    assert got.shape == (3,), "one loss per pair"
    for g, w, why in zip(got.tolist(), want, ("2 over 0", "a draw is ln 2", "0 over 1")):
        assert abs(g - w) < 1e-9, f"{why}: expected {w:.6f}, got {g:.6f}"


@pytest.mark.exercise("5.6")
def test_bradley_terry_knows_differences_only_and_is_antisymmetric():
    a, b = torch.tensor([0.3, -1.2], dtype=D), torch.tensor([1.0, 0.4], dtype=D)
    assert (bradley_terry_loss(a + 9, b + 9) - bradley_terry_loss(a, b)).abs().max() < 1e-9
    gap = bradley_terry_loss(b, a) - bradley_terry_loss(a, b) - (a - b)
    assert gap.abs().max() < 1e-9, "loss(b, a) - loss(a, b) = a - b: are the sides swapped?"


@pytest.mark.exercise("5.6")
def test_a_margin_asks_for_more():
    got = bradley_terry_loss(torch.tensor([2.0], dtype=D), torch.tensor([0.0], dtype=D), margin=2.0)
    assert got.item() == pytest.approx(math.log(2), abs=1e-9), \
        f"2 - 0 - 2 is a draw, ln 2; got {got.item():.4f}: the margin is subtracted"


@pytest.mark.exercise("5.6")
def test_bradley_terry_far_off_is_finite_with_a_right_gradient():
    x = torch.tensor([-1000.0], dtype=D)
    assert bradley_terry_loss(x, 0 * x).item() == pytest.approx(1000), "log of a rounded 0"
    y = torch.tensor([0.5, -0.5], dtype=D).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: bradley_terry_loss(z, 2 * z), y)


@pytest.mark.exercise("5.7")
@pytest.mark.parametrize("mask, want, why", [
    ([[0, 1, 1, 0]], [2], "the pad behind the answer is not the last token"),
    ([[0, 0, 1, 1]], [3], "no pad: the last column"),
    ([[0, 1, 0, 0], [0, 1, 1, 1]], [1, 3], "each row has its own end"),
    ([[1, 1, 0, 0, 0]], [1], "an answer from the first column on"),
    ([[0, 1, 1, 0, 1, 1, 0]], [5], "two turns: the last answer counts"),
    ([[0, 0, 0], [0, 1, 0]], [0, 1], "a row without an answer gives 0")])
def test_last_real_token(mask, want, why):
    given = torch.tensor(mask, dtype=torch.float)
    got = last_real_token(given)
    assert got.tolist() == want, f"{why}: expected {want}, got {got.tolist()}"
    assert got.dtype == torch.long, f"a column to index with is an int64, not {got.dtype}"
    assert given.tolist() == mask, f"the caller's mask was changed to {given.tolist()}"


@pytest.mark.exercise("5.22")
def test_what_is_read_off_an_answer_by_hand():
    hidden = torch.tensor([[[9.0, 9], [1, 10], [3, 30], [8, 8]],
                           [[7.0, 7], [2, 20], [math.nan, math.inf], [0, 0]]], dtype=D)
    mask = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]])
    logprobs = torch.tensor([[-1.0, -3, 0], [-0.5, 0, 0]], dtype=D)
    got = read_off(hidden, logprobs, mask)
    assert got.shape == (2, 7), "the last state (2), the mean of the states (2), three numbers"
    for place, want, why in ((slice(0, 2), [3, 30], "the state of the last answer token"),
                             (slice(2, 4), [2, 20], "the mean over the answer, no prompt, no pad"),
                             (4, -2, "the mean log-probability of the answer's two tokens"),
                             (5, -3, "the worst token"), (6, 0.2, "the length, in tens")):
        assert got[0, place].tolist() == pytest.approx(want), f"{why}: {got[0, place].tolist()}"
    assert got[1].tolist() == [2, 20, 2, 20, -0.5, -0.5, 0.1], "a pad's nan is in no mean"


@pytest.mark.exercise("5.22")
def test_what_is_read_off_nothing_and_off_more_pads():
    hidden, logprobs = torch.ones(1, 3, 2, dtype=D), torch.zeros(1, 2, dtype=D)
    got = read_off(hidden, logprobs, torch.zeros(1, 3))
    assert got.tolist() == [[1, 1, 0, 0, 0, 0, 0]], "no answer: its first state, and zeros"
    mask, far = torch.tensor([[0.0, 1, 1]]), torch.full((1, 5, 2), 50.0, dtype=D)
    logprobs = torch.tensor([[-1.0, -2]], dtype=D)
    wide = read_off(torch.cat([hidden, far], 1), torch.cat([logprobs, torch.zeros(1, 5)], 1),
                    torch.cat([mask, torch.zeros(1, 5)], 1))
    assert torch.equal(read_off(hidden, logprobs, mask), wide), "it moved with padding"


@pytest.mark.exercise("5.22")
def test_the_score_sees_more_than_the_last_state(tiny_model):
    model, (ids, mask) = from_sft(tiny_model, seed=0), rows_of(1)[0][0]
    row = torch.tensor([ids]), torch.tensor([mask], dtype=torch.float)
    assert model.raw_score(*row).item() == 0, "before the first pair nothing is believed"
    with torch.no_grad():
        model.reward_head.weight[-3] = 1.0
        said = sequence_logprobs(tiny_model, *row) / sum(mask)
        assert torch.allclose(model.raw_score(*row), said, atol=1e-5), "how likely the answer is"


def rows_of(n, seed=0):
    """Pairs in which the chosen answer starts with 'G' and the rejected with 'B'."""
    g = torch.Generator().manual_seed(seed)
    pairs = []
    for _ in range(n):
        words = torch.randint(97, 123, (6,), generator=g).tolist()
        make = lambda c: ([129, *words[:3], 130, c, *words[3:], 131], [0] * 5 + [1] * 5)  # noqa
        pairs.append((make(ord("G")), make(ord("B"))))
    return pairs


def test_it_learns_a_plain_preference_and_padding_is_nothing(tiny_model):
    model = from_sft(tiny_model, seed=0)
    log = train_reward_model(model, rows_of(64), 132, steps=30, batch=8, learning_rate=3e-3, seed=0)
    assert log[-1]["loss"] < 0.2
    ids, mask = (torch.tensor([x]) for x in rows_of(1, seed=9)[0][0])
    wide = torch.cat([ids, torch.full((1, 4), 132)], 1), torch.cat([mask, torch.zeros(1, 4)], 1)
    assert abs(model.score(ids, mask) - model.score(*wide)) < 1e-5, "the score moved with padding"
    prompts = torch.tensor([[129, 97, 98, 99, 130, 71, 100, 131], [129, 120, 98, 99, 130, 71, 100,
                                                                   131]])
    scores = model.raw_score(prompts, torch.tensor([[0.0] * 5 + [1] * 3] * 2))
    assert scores[0] != scores[1], "the score must depend on the question too"


def test_centred_scores_have_mean_0_and_spread_1(tiny_model, tmp_path):
    from checkpoint import load_model, save_checkpoint
    from responses import score_rows
    model, rows = from_sft(tiny_model, 0), [row for pair in rows_of(20) for row in pair]
    torch.nn.init.normal_(model.reward_head.weight)
    model.centre(rows, 132)
    scores = score_rows(model.score, rows, 132)
    assert abs(scores.mean()) < 1e-4 and abs(scores.std() - 1) < 1e-3
    save_checkpoint(tmp_path / "reward.pt", model=model, stage="reward")
    again = score_rows(load_reward_model(tmp_path / "reward.pt").score, rows, 132)
    assert torch.equal(scores, again), "the centring is part of the checkpoint"
    assert load_model(tmp_path / "reward.pt")[1]["stage"] == "reward", "opens as a GPT as well"
    save_checkpoint(tmp_path / "sft.pt", model=tiny_model, stage="sft")
    with pytest.raises(BadInput, match="not a reward model"):
        load_reward_model(tmp_path / "sft.pt")


def test_pairs_are_kept_or_left_out_whole(tokenizer):
    fits = {"prompt": "a", "chosen": "b", "rejected": "c", "rejected_ended": False}
    long = {"prompt": "a", "chosen": "b", "rejected": "c" * 50}
    rows, left_out = pair_rows(tokenizer, [fits, long], 20)
    assert left_out == 1 and len(rows) == 1
    chosen, rejected = rows[0]
    assert chosen[0][-1] == 131 and rejected[0][-1] == ord("c"), "no end token where none was said"
    assert sum(chosen[1]) == 2 and sum(rejected[1]) == 1


def test_calibration_of_honest_and_of_overconfident_scores():
    rng = np.random.default_rng(0)
    sure = rng.normal(size=40_000)
    honest = np.where(rng.random(40_000) < 1 / (1 + np.exp(-np.abs(sure))), 1, -1) * np.abs(sure)
    assert calibration(honest)[1] < 0.01 < 0.15 < calibration(20 * honest)[1]
    assert sum(row["pairs"] for row in calibration(honest)[0]) == 40_000


def test_the_module_never_learns_the_gold_rule():
    assert not hasattr(reward_model, "gold_scores")


def test_a_taste_for_length_is_told_from_labels_that_have_it():
    lengths = np.array([[3, 2], [4, 5], [7, 7], [9, 1]])
    assert longer_preferred(np.array([1.0, 1, -1, 1]), lengths) == {
        "labels": pytest.approx(2 / 3), "model": pytest.approx(2 / 3)}, "right everywhere: no bias"
    got = longer_preferred(np.array([1.0, -1, -1, 1]), lengths)
    assert got == {"labels": pytest.approx(2 / 3), "model": 1}, "it takes the longer one always"
    assert longer_preferred(np.ones(1), np.array([[4, 4]])) == {"labels": 0.5, "model": 0.5}


def test_equal_scores_are_half_right_and_the_order_of_pairs_does_not_matter():
    untrained = np.zeros(12)
    assert calibration(untrained)[1] == 0, "a guess that says 0.5 is calibrated"
    assert longer_preferred(untrained, np.array([[1, 2]] * 12))["model"] == 0.5
    pairs = np.array([1.0, -1] * 5)     # all of one confidence: one bin, whatever the order
    errors = {round(calibration(p)[1], 6) for p in (pairs, np.sort(pairs), -np.sort(-pairs))}
    assert len(errors) == 1, f"three orders of the same pairs have the errors {errors}"
