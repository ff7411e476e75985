"""dpo.py: golden values, ln 2 at the start, gradients, and a tiny model that learns a taste."""

import copy
import math

import pytest
import torch

from dpo import dpo_loss, implicit_rewards, pair_logprobs, train_dpo

D = torch.float64
GOLDEN = (torch.tensor([-10.0, -20], dtype=D), torch.tensor([-12.0, -18], dtype=D),
          torch.tensor([-11.0, -21], dtype=D), torch.tensor([-11.5, -19], dtype=D))


@pytest.mark.exercise("5.8")
@pytest.mark.parametrize("kind, smoothing, want", [
    ("sigmoid", 0.0, (0.620957, 0.693147)), ("sigmoid", 0.1, (0.635957, 0.693147)),
    ("robust", 0.1, (0.602207, 0.693147)), ("hinge", 0.0, (0.85, 1.0)),
    ("ipo", 0.0, (12.25, 25.0)), ("ipo", 0.1, (12.25, 25.0))])
def test_golden_values(kind, smoothing, want):
    got = dpo_loss(*GOLDEN, 0.1, kind, smoothing)
    assert got.shape == (2,), f"one loss per pair, got shape {tuple(got.shape)}"
    for i in range(2):
        assert abs(got[i].item() - want[i]) < 1e-6, \
            f"{kind}, smoothing {smoothing}: expected {want}, got {got.tolist()}"


@pytest.mark.exercise("5.8")
def test_ln_2_where_policy_and_reference_agree():
    x, y = torch.tensor([-30.0, -7.0], dtype=D), torch.tensor([-2.0, -90.0], dtype=D)
    got = dpo_loss(x, y, x, y, 0.3)
    assert (got - math.log(2)).abs().max() < 1e-12, f"exactly ln 2 at the start, got {got.tolist()}"


@pytest.mark.exercise("5.8")
def test_only_the_difference_of_log_ratios_counts():
    shifted = [z + c for z, c in zip(GOLDEN, (5.0, 5.0, 5.0, 5.0))]
    assert torch.allclose(dpo_loss(*shifted, 0.1), dpo_loss(*GOLDEN, 0.1), atol=1e-12)
    w, l, rw, rl = GOLDEN
    assert (dpo_loss(w, l, rw, rl, 0.1) + 0.2 < dpo_loss(l, w, rl, rw, 0.1) + 0.3)[0], \
        "chosen and rejected are swapped: the preferred side must cost less"
    h = (w - rw) - (l - rl)     # -log s(-x) + log s(x) = x
    assert torch.allclose(dpo_loss(l, w, rl, rw, 0.1) - dpo_loss(w, l, rw, rl, 0.1), 0.1 * h), \
        "swapping the pair turns the sign of h"


@pytest.mark.exercise("5.8")
def test_hinge_is_flat_beyond_its_corner_and_ipo_is_not():
    far, zero = torch.tensor([50.0], dtype=D), torch.zeros(1, dtype=D)
    got = dpo_loss(far, zero, zero, zero, 0.1, "hinge")
    assert got.item() == 0, f"h = 50: max(0, 1 - 5) is 0, got {got.item()}"
    got = dpo_loss(far, zero, zero, zero, 0.1, "ipo")
    assert got.item() == 45 ** 2, f"h = 50, aim 5: (50 - 5)^2 = 2025, got {got.item()}"


@pytest.mark.exercise("5.8")
def test_huge_margins_stay_finite():
    far = torch.tensor([-1e5], dtype=D)
    zero = torch.zeros(1, dtype=D)
    got = dpo_loss(far, zero, zero, zero, 0.5)
    assert torch.isfinite(got).all() and abs(got.item() - 5e4) < 1, f"-log s(-50000) is 50000: {got}"


@pytest.mark.exercise("5.8")
def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError):
        dpo_loss(*GOLDEN, 0.1, "orpo")


@pytest.mark.exercise("5.8")
@pytest.mark.parametrize("kind", ["sigmoid", "ipo", "robust"])
def test_gradients_are_right(kind):
    chosen, rejected = (z.clone().requires_grad_() for z in GOLDEN[:2])
    assert torch.autograd.gradcheck(
        lambda a, b: dpo_loss(a, b, *GOLDEN[2:], 0.1, kind, 0.1), (chosen, rejected))


def test_implicit_rewards_by_hand():
    assert implicit_rewards(GOLDEN[0], GOLDEN[2], 0.1).tolist() == pytest.approx([0.1, 0.1])
    assert implicit_rewards(GOLDEN[1], GOLDEN[3], 0.1).tolist() == pytest.approx([-0.05, 0.1])


def pair(prompt, chosen, rejected):
    return tuple((prompt + answer, [0] * len(prompt) + [1] * len(answer))
                 for answer in (chosen, rejected))


PAIRS = [pair([65, q], [70, 71, 131], [80, 131]) for q in range(66, 74)]


def test_first_step_is_ln_2_and_the_margin_grows(tiny_model):
    before = copy.deepcopy(tiny_model)
    log = train_dpo(tiny_model, PAIRS, 132, steps=12, batch=4, beta=0.5, learning_rate=3e-3, seed=0)
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6) and log[0]["margin"] == 0
    assert log[0]["accuracy"] == 0.5, "policy and reference agree: a draw is half right"
    assert log[-1]["loss"] < 0.3 and log[-1]["accuracy"] == 1
    old = pair_logprobs(before, PAIRS, 132, False)
    new = pair_logprobs(tiny_model, PAIRS, 132, False)
    assert ((new[0] - old[0]) > (new[1] - old[1])).all(), "chosen must gain on rejected"


@pytest.mark.parametrize("length_normalised, tokens", [(False, 24), (True, 8)])
def test_with_their_likelihood_in_the_loss_the_chosen_answers_gain(tiny_model, length_normalised,
                                                                   tokens):
    how = dict(steps=6, batch=8, beta=0.1, learning_rate=3e-3, seed=0,
               length_normalised=length_normalised)
    old = pair_logprobs(tiny_model, PAIRS, 132, length_normalised)[0].detach()
    alone, both = copy.deepcopy(tiny_model), copy.deepcopy(tiny_model)
    train_dpo(alone, PAIRS, 132, **how)
    log = train_dpo(both, PAIRS, 132, nll_weight=2.0, **how)
    assert log[0]["nll"] == pytest.approx(-float(old.sum()) / tokens, rel=1e-5), "8 of 3 tokens"
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6), "DPO's own part"
    gains = [(pair_logprobs(m, PAIRS, 132, length_normalised)[0] - old).mean().item()
             for m in (alone, both)]
    assert gains[1] > gains[0] + 0.05, f"{gains[1]:.3f} against {gains[0]:.3f} without it"


def test_length_normalised_log_probabilities_are_means(tiny_model):
    sums = pair_logprobs(tiny_model, PAIRS, 132, False)
    means = pair_logprobs(tiny_model, PAIRS, 132, True)
    assert torch.allclose(means, sums / torch.tensor([[3.0], [2.0]]))


def test_ipo_per_token_is_what_trl_calls_ipo(tiny_model):
    """TRL (1.16.0, dpo_trainer) divides each log-ratio by its answer's number of tokens before it
    squares: our ipo on SUMS, Azar et al.'s own, is another loss; length_normalised gives TRL's."""
    from responses import response_logprobs
    pairs = [(([129, 97, 130, 98, 99, 100, 131], [0, 0, 0, 1, 1, 1, 1]),
              ([129, 97, 130, 98, 131], [0, 0, 0, 1, 1]))]
    reference = copy.deepcopy(tiny_model)
    with torch.no_grad():
        reference.lm_head.weight.add_(0.3 * torch.randn_like(reference.lm_head.weight))
    ours = {n: dpo_loss(*pair_logprobs(tiny_model, pairs, 132, n),
                        *pair_logprobs(reference, pairs, 132, n), 0.1, "ipo").item()
            for n in (False, True)}

    def mean_ratio(row):
        ids, mask = torch.tensor([row[0]]), torch.tensor([row[1]])
        ratio = (response_logprobs(tiny_model, ids, mask)[0]
                 - response_logprobs(reference, ids, mask)[0])
        return ratio.sum().item(), ratio.sum().item() / sum(row[1])
    won, lost = (mean_ratio(row) for row in pairs[0])
    assert ours[True] == pytest.approx((won[1] - lost[1] - 5) ** 2, rel=1e-4), "TRL's: per token"
    assert ours[False] == pytest.approx((won[0] - lost[0] - 5) ** 2, rel=1e-4), "the paper's: sums"
    assert abs(ours[True] - ours[False]) > 1e-2
