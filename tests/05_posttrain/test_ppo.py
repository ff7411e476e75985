"""ppo.py: every piece against numbers worked by hand, and its four quadrants."""

import math

import pytest
import torch

import ppo
from ppo import (AdaptiveKL, clip_fraction, explained_variance, gae, kl_estimates, masked_whiten,
                 policy_loss, shaped_rewards, value_loss)

D = torch.float64


def table(*rows):
    return torch.tensor(rows, dtype=D)


def close(got, want, why):
    want = torch.as_tensor(want, dtype=D)
    gap = (torch.as_tensor(got).double() - want).abs().max().item()
    assert gap < 1e-6, f"{why}: expected {want.tolist()}, got {torch.as_tensor(got).tolist()}"


# ------------------------------------------------------------------------------- shaped rewards

@pytest.mark.exercise("5.9")
def test_shaped_rewards_by_hand():
    got = shaped_rewards(table(2.0), table([-1.0, -1, 0]), table([-1.5, -1, 0]),
                         table([1.0, 1, 0]), 0.1)
    close(got, [[-0.05, 2.0, 0.0]], "the score belongs to the last answer token, not to the pad")


@pytest.mark.exercise("5.9")
def test_straying_costs_and_the_sign_is_right():
    bolder = shaped_rewards(table(0.0), table([-1.0, -1]), table([-3.0, -1]), table([1.0, 1]), .5)
    close(bolder, [[-1.0, 0.0]], "a token made more likely than the reference had it costs beta r")


@pytest.mark.exercise("5.9")
def test_the_score_is_paid_once_per_answer_wherever_it_ends():
    mask = table([0.0, 1, 1, 0], [0.0, 1, 1, 1], [1.0, 0, 0, 0], [0.0, 0, 0, 0])
    zero = torch.zeros(4, 4, dtype=D)
    got = shaped_rewards(torch.tensor([1.0, 2, 3, 4], dtype=D), zero, zero, mask, 0.1)
    close(got, [[0, 0, 1, 0], [0, 0, 0, 2], [3, 0, 0, 0], [0, 0, 0, 0]],
          "once, at each row's own last token; an empty answer has none")
    assert not zero.any() and mask.sum() == 6, "the caller's tensors were changed"


@pytest.mark.exercise("5.9")
def test_the_last_token_pays_too_and_small_prices_are_not_rounded():
    got = shaped_rewards(table(2.0), table([-1.0, -1]), table([-1.0, -3]), table([1.0, 1]), 0.5)
    close(got, [[0.0, 1.0]], "score 2 less 0.5 * 2 nats: the score is added, the price stays")
    tiny = shaped_rewards(table(1.0), table([-1.0]), table([-1.0 - 1e-8]), table([1.0]), 1.0)
    assert tiny.dtype == D and abs(1 - tiny.item() - 1e-8) < 1e-12, "float64 stays float64"


@pytest.mark.exercise("5.9")
def test_no_reward_outside_the_answer_and_no_gradient():
    logprobs = table([-5.0, -1, -7]).requires_grad_()
    got = shaped_rewards(table(1.0), logprobs, table([0.0, -1, 0]), table([0.0, 1, 0]), 1.0)
    close(got, [[0, 1, 0]], "prompt and pads get nothing")
    assert not got.requires_grad, "the policy must not be trained through its own price"


# ------------------------------------------------------------------------------------------ GAE

@pytest.mark.exercise("5.10")
def test_gae_by_hand():
    advantages, returns = gae(table([0.0, 1]), table([0.5, 0.5]), table([1.0, 1]), 1.0, 1.0)
    close(advantages, [[0.5, 0.5]], "advantages")
    close(returns, [[1, 1]], "returns = advantages + values")


@pytest.mark.exercise("5.10")
def test_gae_equals_its_definition_as_a_double_sum():
    g = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 6, generator=g, dtype=D), torch.randn(2, 6, generator=g,
                                                                         dtype=D)
    gamma, lam = 0.9, 0.7
    advantages, returns = gae(rewards, values, torch.ones(2, 6, dtype=D), gamma, lam)
    for b in range(2):
        v = values[b].tolist() + [0.0]
        delta = [rewards[b, t].item() + gamma * v[t + 1] - v[t] for t in range(6)]
        for t in range(6):
            want = sum((gamma * lam) ** k * delta[t + k] for k in range(6 - t))
            close(advantages[b, t], want, f"row {b}, token {t}")
            close(returns[b, t], want + v[t], f"return of row {b}, token {t}")


@pytest.mark.exercise("5.10")
def test_a_pad_has_no_value():
    rewards, mask = table([0.0, 1, 0, 0]), table([1.0, 1, 0, 0])
    quiet, _ = gae(rewards, table([0.3, 0.2, 0, 0]), mask, 1.0, 0.95)
    loud, _ = gae(rewards, table([0.3, 0.2, 99, -50]), mask, 1.0, 0.95)
    close(loud, quiet, "the value head's words at pads must not be read")
    close(loud[:, 2:], [[0, 0]], "no advantage at pads")


@pytest.mark.exercise("5.10")
def test_a_ragged_row_equals_the_row_alone():
    rewards, values = table([0.1, 0.2, 1.0]), table([0.5, -0.4, 0.3])
    alone = gae(rewards, values, table([1.0, 1, 1]), 0.99, 0.9)
    pad = torch.zeros(1, 2, dtype=D)
    before = gae(torch.cat([pad, rewards, pad], 1), torch.cat([pad + 7, values, pad + 7], 1),
                 table([0.0, 0, 1, 1, 1, 0, 0]), 0.99, 0.9)
    close(before[0][:, 2:5], alone[0], "padding on both sides changes nothing")
    close(before[1][:, [0, 1, 5, 6]], [[0, 0, 0, 0]], "no return outside the answer")


# ------------------------------------------------------------------------------------ whitening

@pytest.mark.exercise("5.11")
def test_whitening_by_hand():
    got = masked_whiten(table([1.0, 3, 99]), table([1.0, 1, 0]))
    close(got.round(decimals=5), [[-0.70711, 0.70711, 0]], "mean 2, n - 1 spread, pad stays 0")
    biased = masked_whiten(table([1.0, 3, 99]), table([1.0, 1, 0]), unbiased=False)
    close(biased.round(decimals=5), [[-1, 1, 0]], "divided by n")


@pytest.mark.exercise("5.11")
def test_rewards_keep_their_mean():
    got = masked_whiten(table([1.0, 3, 99]), table([1.0, 1, 0]), shift_mean=False)
    close(got.round(decimals=4), [[2 - 0.7071, 2 + 0.7071, 0]], "scaled about the mean, mean kept")


@pytest.mark.exercise("5.11")
def test_whitening_keeps_which_answer_was_better():
    values, mask = table([1.0, 1, 1], [5.0, 5, 0]), table([1.0, 1, 1], [1.0, 1, 0])
    got = masked_whiten(values, mask)
    assert got[0, 0] < -0.5 and got[1, 0] > 0.5, "over the whole batch: rows must stay apart"
    real = got[mask > 0]
    close(real.mean(), 0.0, "mean of the real tokens")
    close(real.std(), 1.0, "spread of the real tokens")


@pytest.mark.exercise("5.11")
@pytest.mark.parametrize("value, count", [(7300.3, 999), (0.1, 8)])
def test_equal_values_are_no_spread(value, count):
    values = torch.full((1, count + 1), value)
    values[0, -1] = 99
    mask = torch.ones_like(values)
    mask[0, -1] = 0
    got = masked_whiten(values, mask)
    assert not got.any(), f"{count} times {value} has no spread, only a rounded mean: {got.max()}"
    kept = masked_whiten(values, mask, shift_mean=False)[0, :-1]
    assert torch.allclose(kept, torch.tensor(value)), f"the mean is kept: {kept[:3]}"


@pytest.mark.exercise("5.11")
def test_one_token_is_no_nan():
    close(masked_whiten(table([4.0, 9]), table([1.0, 0])), [[0, 0]], "one real token")


# ---------------------------------------------------------------------------------- policy loss

QUADRANTS = [  # advantage, rho, loss, whether a gradient flows
    (1.0, 1.0, -1.0, True), (1.0, 1.5, -1.2, False), (1.0, 0.5, -0.5, True),
    (-1.0, 1.0, 1.0, True), (-1.0, 1.5, 1.5, True), (-1.0, 0.5, 0.8, False)]


@pytest.mark.exercise("5.12")
@pytest.mark.parametrize("advantage, rho, loss, moves", QUADRANTS)
def test_the_four_quadrants(advantage, rho, loss, moves):
    logprobs = table([-2.0 + math.log(rho)]).requires_grad_()
    got = policy_loss(logprobs, table([-2.0]), table([advantage]), table([1.0]), 0.2)
    got.backward()
    close(got.detach(), loss, f"A {advantage}, rho {rho}: the pessimistic (larger) loss")
    assert (logprobs.grad.abs().item() > 0) == moves, \
        f"A {advantage}, rho {rho}: {'no ' if not moves else ''}gradient expected"


@pytest.mark.exercise("5.12")
def test_policy_loss_is_a_mean_over_real_tokens_of_the_batch():
    zero = torch.zeros(2, 3, dtype=D)
    advantages, mask = table([1.0, 2, 3], [10.0, 50, 50]), table([1.0, 1, 1], [1.0, 0, 0])
    close(policy_loss(zero, zero, advantages, mask), -4.0, "(1 + 2 + 3 + 10) / 4, pads not counted")


@pytest.mark.exercise("5.12")
@pytest.mark.parametrize("clip, want", [(0.1, -1.1), (0.4, -1.4), (0.6, -1.5)])
def test_the_width_of_the_clip_is_the_one_asked_for(clip, want):
    got = policy_loss(table([math.log(1.5)]), table([0.0]), table([1.0]), table([1.0]), clip)
    close(got, want, f"A 1, rho 1.5, clip {clip}")


@pytest.mark.exercise("5.12")
def test_only_the_new_log_probabilities_are_trained():
    old, advantages = table([-1.0, -1]).requires_grad_(), table([1.0, -1]).requires_grad_()
    logprobs = table([-1.1, -0.9]).requires_grad_()
    policy_loss(logprobs, old, advantages, table([1.0, 1])).backward()
    assert old.grad is None or not old.grad.any(), "the old policy is a constant"
    assert advantages.grad is None or not advantages.grad.any(), "advantages are constants"
    assert logprobs.grad.abs().min() > 0


@pytest.mark.exercise("5.12")
def test_policy_gradient_is_right():
    g = torch.Generator().manual_seed(4)
    old = -torch.rand(3, 5, generator=g, dtype=D) - 0.5
    logprobs = (old + 0.05 * torch.randn(3, 5, generator=g, dtype=D)).requires_grad_()
    advantages, mask = torch.randn(3, 5, generator=g, dtype=D), torch.ones(3, 5, dtype=D)
    assert torch.autograd.gradcheck(lambda x: policy_loss(x, old, advantages, mask), logprobs)


def test_clip_fraction_counts_real_tokens_outside():
    moved = table([0.0, 0.5, -0.5, 0.5])
    got = clip_fraction(moved, torch.zeros(1, 4, dtype=D), table([1.0, 1, 1, 0]), 0.2)
    assert float(got) == pytest.approx(2 / 3)


# ----------------------------------------------------------------------------------- value loss

@pytest.mark.exercise("5.13")
@pytest.mark.parametrize("value, old, target, loss, why", [
    (1.0, 0.0, 2.0, 1.62, "V_clip = 0.2 around the OLD value, (0.2 - 2)^2 = 3.24 > 1"),
    (0.1, 0.0, 2.0, 1.805, "inside the clip both agree: half of 1.9^2"),
    (2.0, 0.0, 0.1, 1.805, "the larger of 1.9^2 and 0.1^2: pessimistic"),
    (-1.0, 0.0, -3.0, 3.92, "clipped downwards to -0.2: half of 2.8^2")])
def test_value_loss_by_hand(value, old, target, loss, why):
    got = value_loss(table([value]), table([old]), table([target]), table([1.0]), 0.2)
    close(got, loss, why)


@pytest.mark.exercise("5.13")
def test_the_clip_of_the_value_is_the_one_asked_for():
    got = value_loss(table([1.0]), table([0.0]), table([2.0]), table([1.0]), 0.5)
    close(got, 1.125, "V_clip = 0.5: half of max(1, 1.5^2)")


@pytest.mark.exercise("5.13")
def test_value_loss_counts_real_tokens_and_trains_values_only():
    values = table([1.0, 5, 9]).requires_grad_()
    old, returns = table([1.0, 5, 0]).requires_grad_(), table([2.0, 8, 0]).requires_grad_()
    loss = value_loss(values, old, returns, table([1.0, 1, 0]), 0.2)
    close(loss.detach(), 2.5, "half of (1 + 9) / 2")
    loss.backward()
    assert values.grad[0, 2] == 0 and values.grad[0, :2].abs().min() > 0
    for constant in (old, returns):
        assert constant.grad is None or not constant.grad.any(), "old values, returns: constants"


# ---------------------------------------------------------------------------------- adaptive KL

@pytest.mark.exercise("5.14")
@pytest.mark.parametrize("kl, want, why", [
    (9.0, 0.150768, "error 0.5 is cut to 0.2: 0.15 (1 + 0.2 * 256 / 10000)"),
    (6.6, 0.150384, "error 0.1: in proportion"), (6.0, 0.15, "on target: unchanged"),
    (0.0, 0.149232, "too close: cheaper, at most 20 %")])
def test_adaptive_kl_by_hand(kl, want, why):
    steering = AdaptiveKL(0.15, 6.0, 10_000)
    got = steering.update(kl, 256)
    close(got, want, why)
    close(steering.beta, want, "the new beta is kept")


@pytest.mark.exercise("5.14")
def test_steering_is_in_proportion_to_answers_and_horizon():
    close(AdaptiveKL(0.2, 4.0, 1_000).update(4.4, 100), 0.202, "0.2 (1 + 0.1 * 100 / 1000)")
    steering = AdaptiveKL(1.0, 4.0, 100)
    steering.update(8.0, 100)
    close(steering.update(8.0, 50), 1.32, "twice, from the kept beta: 1 * 1.2 * 1.1")
    close(AdaptiveKL(0.1, 6.0, 10).update(0.0, 10**6), 0.08, "a share of 1 at most: 0.1 * (1 - 0.2)")


@pytest.mark.exercise("5.14")
def test_without_a_target_beta_stays():
    assert AdaptiveKL(0.1).update(100.0, 256) == 0.1


# -------------------------------------------------------------------------------------- gauges

def test_kl_estimates_by_hand_and_on_average():
    k1, k2, k3 = kl_estimates(table([0.5, -0.2]), table([0.0, 0.0]))
    close(k1, [[0.5, -0.2]], "k1")
    close(k2, [[0.125, 0.02]], "k2")
    close(k3.round(decimals=4), [[0.1065, 0.0214]], "k3")
    p, q = torch.tensor([0.5, 0.3, 0.2], dtype=D), torch.tensor([0.2, 0.5, 0.3], dtype=D)
    truth = (p * (p / q).log()).sum()
    k1, _, k3 = kl_estimates(p.log(), q.log())
    close((p * k1).sum(), truth, "k1 is unbiased under the policy")
    close((p * k3).sum(), truth, "k3 is unbiased under the policy")


def test_explained_variance_of_perfect_constant_and_wrong_values():
    returns, mask = table([1.0, 2, 3, 77]), table([1.0, 1, 1, 0])
    assert explained_variance(returns, returns, mask) == pytest.approx(1)
    assert explained_variance(torch.zeros(1, 4, dtype=D), returns, mask) == pytest.approx(0)
    assert explained_variance(-returns, returns, mask) < 0
    assert explained_variance(returns, torch.ones(1, 4, dtype=D), mask) == 0


def test_the_pieces_are_the_public_names():
    for name in ("shaped_rewards", "gae", "policy_loss", "value_loss", "masked_whiten",
                 "AdaptiveKL"):
        assert hasattr(ppo, name)
