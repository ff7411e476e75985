"""What the statements of chapter 5's exercises say once in passing, asked for on its own."""

import math

import numpy as np
import pytest
import torch

from best_of_n import expected_best
from dpo import dpo_loss
from grpo import group_advantages
from packing import best_fit
from ppo import AdaptiveKL, gae, masked_whiten, policy_loss, shaped_rewards, value_loss
from reinforce import rloo_advantages
from rejection_sampling import best_and_random
from reward_model import bradley_terry_loss

torch.set_num_threads(1)
D = torch.float64


@pytest.mark.exercise("5.3")
def test_of_equally_full_bins_the_first_and_bins_in_their_order():
    assert best_fit([6, 6, 6, 2], 9) == [[0, 3], [1], [2]], "of three alike the first"
    assert best_fit([1, 9, 8], 10) == [[1, 0], [2]], "9 opens the first bin, 8 the second"
    assert best_fit(list(range(5)), 4) == [[4, 0], [3, 1], [2]], "0 into the fullest, which is full"


@pytest.mark.exercise("5.6")
def test_a_margin_below_zero_asks_for_less():
    x = torch.tensor([0.5, -2.0], dtype=D)
    got = bradley_terry_loss(x, torch.zeros(2, dtype=D), -1.5)
    want = [math.log1p(math.exp(-(v + 1.5))) for v in x.tolist()]
    assert got.tolist() == pytest.approx(want), "chosen - rejected - margin, whatever its sign"


@pytest.mark.exercise("5.10")
def test_advantages_of_whole_numbers_and_of_masks_of_bools():
    rewards, values = torch.tensor([[0.0, 2, 5]]), torch.tensor([[1.0, 1, 7]])
    mask = torch.tensor([[True, True, False]])
    advantages, returns = gae(rewards, values, mask, 0.5, 0.5)
    assert advantages.tolist() == [[-0.25, 1.0, 0.0]] and returns.tolist() == [[0.75, 2.0, 0.0]]


@pytest.mark.exercise("5.12")
def test_an_advantage_of_nan_at_a_pad_is_not_read():
    zero = torch.zeros(1, 2, dtype=D)
    advantages = torch.tensor([[3.0, math.nan]], dtype=D)
    got = policy_loss(zero, zero, advantages, torch.tensor([[1, 0]]))
    assert got.item() == -3.0, f"the mean over the answer's tokens is -3, got {got.item()}"


@pytest.mark.exercise("5.14")
def test_prices_of_two_runs_do_not_mix():
    first, second = AdaptiveKL(0.1, 1.0, 100), AdaptiveKL(0.1, 1.0, 100)
    first.update(2.0, 50)
    assert (first.beta, second.beta) == (pytest.approx(0.11), 0.1)
    assert first.update(0.5, 0) == pytest.approx(0.11), "no answers: nothing was seen"
    assert first.update(-9.0, 50) == pytest.approx(0.099), "a sampled KL may be below 0: price down"


@pytest.mark.exercise("5.18")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["proxy", "gold"])
def test_a_reward_that_is_no_number_on_either_side(bad, side):
    rewards = {"proxy": np.arange(6.0).reshape(2, 3), "gold": np.ones((2, 3))}
    rewards[side][1, 2] = bad
    with pytest.raises(ValueError):
        expected_best(rewards["proxy"], rewards["gold"], 2)


@pytest.mark.exercise("5.18")
def test_counts_of_choices_of_any_size():
    n = 1100
    proxy = np.arange(float(n))[None]
    got = expected_best(proxy, np.ones((1, n)), n // 2)
    assert got == pytest.approx([1.0]), "C(1100, 550) is no float: divide whole numbers"


@pytest.mark.exercise("5.9")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_scores_may_have_another_dtype_than_the_log_probabilities(dtype):
    logprobs, mask = torch.tensor([[-1.0, -1.0, 0.0]]), torch.tensor([[1, 1, 0]])
    got = shaped_rewards(torch.tensor([2], dtype=dtype), logprobs, logprobs, mask, 0.1)
    assert got.tolist() == [[0.0, 2.0, 0.0]] and got.dtype == torch.float32


@pytest.mark.exercise("5.18")
def test_many_equal_proxies_keep_the_order_of_their_samples():
    rng = np.random.default_rng(0)
    proxy, gold = rng.integers(0, 3, (2, 300)).astype(float), rng.random((2, 300))
    for p, g, got in zip(proxy, gold, expected_best(proxy, gold, 2)):
        order = sorted(range(300), key=lambda i: p[i])          # Python's sort is stable
        want = sum(rank * g[i] for rank, i in enumerate(order)) / math.comb(300, 2)
        assert got == pytest.approx(want, rel=1e-12), "a quick sort turns equal ones round"


@pytest.mark.exercise("5.8")
@pytest.mark.parametrize("kind", ["sigmoid", "robust", "ipo", "hinge"])
@pytest.mark.parametrize("smoothing", [math.nan, -0.1, 0.9])
def test_a_smoothing_outside_its_range_is_refused_by_every_kind(kind, smoothing):
    x = torch.zeros(2)
    with pytest.raises(ValueError):
        dpo_loss(x, x, x, x, 0.1, kind, smoothing)
    if kind != "robust":
        assert torch.isfinite(dpo_loss(x, x, x, x, 0.1, kind, 0.5)).all(), "0.5 is robust's alone"


@pytest.mark.exercise("5.11")
@pytest.mark.parametrize("shift, want", [(True, [-0.5**0.5, 0.5**0.5]),
                                         (False, [2 - 0.5**0.5, 2 + 0.5**0.5])])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_pad_that_is_no_number_spoils_no_mean(shift, want, bad):
    got = masked_whiten(torch.tensor([[1, 3, bad]], dtype=D), torch.tensor([[1, 1, 0]]), shift)
    assert got[0, 2] == 0 and got[0, :2].tolist() == pytest.approx(want), f"{bad} at a pad: {got}"


@pytest.mark.exercise("5.14")
@pytest.mark.parametrize("target", [6.0, None])
def test_a_kl_that_is_no_number_is_refused_and_beta_stays(target):
    price = AdaptiveKL(0.2, target, 100)
    with pytest.raises(ValueError):
        price.update(math.nan, 10)
    assert price.beta == 0.2, "a refused KL moves nothing"


FLAT = [0.1] * 8                # the mean of eight times 0.1 is not 0.1


@pytest.mark.exercise("5.15")
@pytest.mark.parametrize("divide", [True, False])
def test_equal_rewards_give_0_beside_groups_that_are_not_equal(divide):
    got = group_advantages(torch.tensor([*range(8), *FLAT]), 8, divide)
    assert (got[8:] == 0).all(), f"equal rewards, divided {divide}: exactly 0, got {got[8:]}"
    assert (got[:8] != 0).all(), "the group beside them is not equal"


@pytest.mark.exercise("5.15")
def test_a_small_difference_is_a_difference():
    got = group_advantages(torch.tensor([1, 1 + 2e-9, 3e-9, 1e-9], dtype=D), 2, False)
    assert got.dtype == D and got.tolist() == pytest.approx([-1e-9, 1e-9, 1e-9, -1e-9], rel=1e-6)


@pytest.mark.exercise("5.20")
def test_equal_means_equal_to_the_last_digit_and_only_within_a_group():
    got = rloo_advantages(torch.tensor([1, 1 + 2e-9, 3e-9, 1e-9], dtype=D), 2)
    assert got.dtype == D and got.tolist() == pytest.approx([-2e-9, 2e-9, 2e-9, -2e-9], rel=1e-6)
    mixed = rloo_advantages(torch.tensor([*range(8), *FLAT]), 8)
    assert (mixed[8:] == 0).all() and (mixed[:8] != 0).all(), f"equal ones give 0, not {mixed}"


@pytest.mark.exercise("5.18")
def test_rewards_of_whole_numbers_have_a_mean_that_is_none():
    proxy, gold = np.array([[1, 2, 3], [9, 7, 8]]), np.array([[10, 20, 60], [1, 2, 4]])
    got = expected_best(proxy, gold, 2)
    assert got.tolist() == pytest.approx([140 / 3, (4 + 2 * 1) / 3]), f"a mean, not cut: {got}"


@pytest.mark.exercise("5.21")
@pytest.mark.parametrize("questions, answers", [(2, 8), (40, 3), (1, 5), (3, 1)])
def test_every_answer_may_be_drawn_however_many_questions(questions, answers):
    scores = torch.zeros(questions, answers)
    seen = {x for seed in range(200) for x in best_and_random(scores, seed)[1].tolist()}
    assert seen == set(range(answers)), f"{questions} x {answers}: only {sorted(seen)} are drawn"


@pytest.mark.exercise("5.13")
def test_a_value_at_a_pad_is_not_read():
    column, mask = torch.tensor([[1.0, math.nan]], dtype=D), torch.tensor([[1, 0]])
    values = column.clone().requires_grad_()
    loss = value_loss(values, 0 * column, 2 * column, mask)
    loss.backward()
    assert loss.item() == pytest.approx(1.62) and torch.isfinite(values.grad).all(), values.grad


@pytest.mark.exercise("5.12")
def test_a_surrogate_of_no_token_is_0():
    x = torch.ones(2, 3)
    assert policy_loss(x, x, x, 0 * x).item() == 0, "0, not nan: 0 / 0"


@pytest.mark.exercise("5.13")
def test_a_value_loss_of_no_token_is_0():
    x = torch.ones(2, 3)
    assert value_loss(x, x, 2 * x, 0 * x).item() == 0, "0, not nan: 0 / 0"
