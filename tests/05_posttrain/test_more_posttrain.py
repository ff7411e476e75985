"""More inputs for the exercises of chapter 5: uneven rows, other options, edges, loops as oracles."""

import math

import numpy as np
import pytest
import torch

from artifacts import BadInput
from best_of_n import best_of_n_kl, expected_best
from chat_template import render
from dpo import dpo_loss
from grpo import aggregate, group_advantages
from packing import best_fit, block_mask
from ppo import AdaptiveKL, gae, masked_whiten, policy_loss, shaped_rewards, value_loss
from reinforce import reinforce_loss, rloo_advantages
from rejection_sampling import best_and_random
from responses import token_logprobs
from reward_model import bradley_terry_loss, last_real_token
import sft
from sft import sft_loss

torch.set_num_threads(1)
D = torch.float64
MASK = torch.tensor([[0, 1, 1, 1, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1]])    # stretches at all edges


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=D, generator=torch.Generator().manual_seed(seed))


def near(got, want, said=""):
    got, want = torch.as_tensor(got, dtype=D), torch.as_tensor(want, dtype=D)
    assert got.shape == want.shape, f"{said}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    assert torch.allclose(got, want, rtol=1e-9, atol=1e-10), f"{said}: got {got}, not {want}"


@pytest.mark.exercise("5.1")
def test_the_other_speaker_may_begin_and_words_may_be_missing(tokenizer):
    ids, mask = render(tokenizer, [{"role": "user", "content": ""},
                                   {"role": "assistant", "content": ""}])
    assert (ids, mask) == ([129, 130, 131], [0, 0, 1]), "an empty answer still ends, and learns to"
    assert render(tokenizer, []) == ([], [])
    first = render(tokenizer, [{"role": "user", "content": "a"}])
    assert first == ([129, 97], [0, 0]) == render(tokenizer, [{"role": "user", "content": "a"}])
    with pytest.raises(BadInput):
        render(tokenizer, [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}])


@pytest.mark.exercise("5.2")
@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_each_row_is_scored_by_its_own_logits_at_any_temperature(temperature):
    logits, ids = draw(3, 4, 5), torch.tensor([[0, 1, 2, 3], [4, 4, 0, 1], [2, 2, 2, 2]])
    got = token_logprobs(logits, ids, temperature)
    want = [[math.log(math.exp(logits[b, t, ids[b, t + 1]] / temperature)
                      / sum(math.exp(x / temperature) for x in logits[b, t])) for t in range(3)]
            for b in range(3)]
    assert got.dtype == D, "float64 logits give float64 results"
    near(got, want, f"temperature {temperature}")
    near(token_logprobs(logits.transpose(0, 1).contiguous().transpose(0, 1), ids, temperature),
         want, "logits that do not lie row by row in memory")
    assert torch.isfinite(token_logprobs(1e4 * logits, ids)).all(), "large logits overflow nothing"


@pytest.mark.exercise("5.3")
def test_the_fullest_bin_with_room_wins_and_ties_keep_their_order():
    assert best_fit([], 5) == []
    assert best_fit([5, 5], 5) == [[0], [1]], "a bin may be exactly full"
    assert best_fit([6, 7, 3, 3, 1], 10) == [[1, 2], [0, 3, 4]], "7+3 is full, then 6+3, +1"
    assert best_fit([2, 2, 2, 2], 4) == [[0, 1], [2, 3]], "equal lengths in the order of the input"
    assert best_fit([5, 6, 2, 2], 8) == [[1, 2], [0, 3]], "2 goes into the fuller bin, 6, first"
    assert best_fit([4, 4, 4, 1], 5) == [[0, 3], [1], [2]], "of equally full bins the first"
    with pytest.raises(ValueError, match="1"):
        best_fit([2, 9, 3], 5)


@pytest.mark.exercise("5.4")
def test_each_row_has_its_own_mask():
    numbers = torch.tensor([[0, 0, 1, -1], [0, 1, 1, 1], [0, 0, 0, 0]])
    got = block_mask(numbers)
    assert got.shape == (3, 1, 4, 4) and got.dtype == torch.bool
    for b in range(3):
        for q in range(4):
            for k in range(4):
                assert got[b, 0, q, k] == (k <= q and numbers[b, q] == numbers[b, k]), (b, q, k)


@pytest.mark.exercise("5.5")
def test_the_sum_over_all_rows_is_divided_by_total_alone(monkeypatch):
    monkeypatch.setattr(sft, "token_logprobs", lambda logits, ids: torch.log_softmax(logits, -1)[
        :, :-1].gather(2, ids[:, 1:, None])[..., 0])                        # exercise 5.2
    logits, ids = draw(3, 4, 5), torch.tensor([[0, 1, 2, 3], [4, 4, 0, 1], [2, 2, 2, 2]])
    mask = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0]])
    logits.requires_grad_()
    per_token = -torch.log_softmax(logits, -1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    want = sum(per_token[b, t] for b, t in [(0, 0), (0, 1), (0, 2), (1, 2)])
    for total in (4, 7.0, 1):
        near(sft_loss(logits, ids, mask, total).detach(), want.detach() / total, f"total {total}")
    near(sft_loss(logits, ids, mask.bool(), 4).detach(), want.detach() / 4, "a mask of bools")
    sft_loss(logits, ids, 0 * mask, 0).backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits)), "no trained token: gradients of 0"


@pytest.mark.exercise("5.6")
def test_each_pair_has_its_own_loss_and_margin():
    chosen, rejected = torch.tensor([2.0, 0, -1], dtype=D), torch.tensor([0.0, 0, 3], dtype=D)
    margins = torch.tensor([0.0, 1, -2], dtype=D)
    want = [math.log1p(math.exp(-(c - r - m))) for c, r, m in zip(chosen, rejected, margins)]
    near(bradley_terry_loss(chosen, rejected, margins), want, "a margin for each pair")
    near(bradley_terry_loss(chosen, rejected, 1.0), [math.log1p(math.exp(-(c - r - 1)))
                                                     for c, r in zip(chosen, rejected)])
    near(bradley_terry_loss(chosen + 1e3, rejected + 1e3), bradley_terry_loss(chosen, rejected))
    near(bradley_terry_loss(-1e3 * torch.ones(2, dtype=D), torch.zeros(2, dtype=D)), [1e3, 1e3])


@pytest.mark.exercise("5.7")
@pytest.mark.parametrize("kind", [torch.long, torch.bool, torch.float32])
def test_the_last_answer_token_of_each_row(kind):
    mask = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 1, 0]])
    assert last_real_token(mask.to(kind)).tolist() == [2, 0, 0, 3, 2]


def log_s(x):
    return -math.log1p(math.exp(-x))


@pytest.mark.exercise("5.8")
@pytest.mark.parametrize("kind, smoothing", [("sigmoid", 0.0), ("sigmoid", 0.2), ("robust", 0.2),
                                             ("robust", 0.0), ("ipo", 0.0), ("hinge", 0.0)])
@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_every_kind_with_every_option_pair_by_pair(kind, smoothing, beta):
    a, b, c, d = (5 * draw(4, seed=i) for i in range(4))
    got = dpo_loss(a, b, c, d, beta, kind, smoothing)
    want = []
    for h in ((a - c) - (b - d)).tolist():
        right, wrong = log_s(beta * h), log_s(-beta * h)
        want.append({"sigmoid": -(1 - smoothing) * right - smoothing * wrong,
                     "robust": (-(1 - smoothing) * right + smoothing * wrong) / (1 - 2 * smoothing),
                     "ipo": (h - 1 / (2 * beta)) ** 2, "hinge": max(0, 1 - beta * h)}[kind])
    near(got, want, f"{kind}, smoothing {smoothing}, beta {beta}")


@pytest.mark.exercise("5.8")
@pytest.mark.parametrize("options", [dict(beta=0.0), dict(beta=math.nan), dict(beta=math.inf),
                                     dict(kind="dpo"), dict(label_smoothing=0.51), dict(beta=-0.1),
                                     dict(label_smoothing=-0.1),
                                     dict(kind="robust", label_smoothing=0.5)])
def test_what_dpo_refuses(options):
    x = torch.zeros(2)
    with pytest.raises(ValueError):
        dpo_loss(x, x, x, x, **{"beta": 0.1, **options})
    assert dpo_loss(x, x, x, x, 0.1, "sigmoid", 0.5).shape == (2,), "0.5 is still allowed here"


@pytest.mark.exercise("5.9")
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_every_answer_is_paid_once_at_its_own_last_token(beta):
    scores, l, ref = draw(3, seed=1), draw(3, 5, seed=2), draw(3, 5, seed=3)
    want = -beta * (l - ref) * MASK
    for row, last in enumerate([3, 1, 4]):
        want[row, last] += scores[row]
    near(shaped_rewards(scores, l, ref, MASK, beta), want, f"beta {beta}")
    padded = torch.where(MASK > 0, l, torch.nan)
    near(shaped_rewards(scores, padded, ref, MASK, beta), want, "a pad's nan is not read")
    none = shaped_rewards(scores, l, ref, 0 * MASK, beta)
    near(none, torch.zeros(3, 5), "an empty answer earns nothing")
    grows = l.clone().requires_grad_()
    assert not shaped_rewards(scores, grows, ref, MASK, beta).requires_grad


@pytest.mark.exercise("5.10")
@pytest.mark.parametrize("gamma, lam", [(1.0, 1.0), (0.9, 0.8), (1.0, 0.0), (0.5, 1.0)])
def test_gae_is_the_sum_over_later_deltas_of_the_same_answer(gamma, lam):
    rewards, values = draw(3, 5, seed=4), draw(3, 5, seed=5)
    want = torch.zeros(3, 5, dtype=D)
    for b, (first, end) in enumerate([(1, 4), (0, 2), (4, 5)]):
        for t in range(first, end):
            for s in range(t, end):
                after = values[b, s + 1] if s + 1 < end else 0.0
                delta = rewards[b, s] + gamma * after - values[b, s]
                want[b, t] += (gamma * lam) ** (s - t) * delta
    advantages, returns = gae(rewards, values, MASK, gamma, lam)
    near(advantages, want, f"gamma {gamma}, lambda {lam}")
    near(returns, (want + values) * MASK, "returns = A + V, 0 at pads")
    noisy = torch.where(MASK > 0, rewards, torch.nan), torch.where(MASK > 0, values, torch.nan)
    near(gae(*noisy, MASK, gamma, lam)[0], want, "what a pad says is not read")


@pytest.mark.exercise("5.11")
@pytest.mark.parametrize("shift, unbiased", [(True, True), (True, False), (False, True),
                                             (False, False)])
def test_whitening_over_the_real_tokens_of_all_rows(shift, unbiased):
    x = 3 + 2 * draw(3, 5, seed=6)
    real = x[MASK > 0]
    mean, variance = real.mean(), real.var(unbiased=unbiased)
    want = (x - mean) / torch.sqrt(variance + 1e-8) + (0 if shift else mean)
    got = masked_whiten(torch.where(MASK > 0, x, 1e6), MASK, shift, unbiased)
    near(got, want * MASK, f"shift_mean {shift}, unbiased {unbiased}")
    one = torch.tensor([[0.0, 5.0]]), torch.tensor([[0, 1]])
    near(masked_whiten(*one, shift, unbiased), [[0.0, 0.0 if shift else 5.0]], "one token: no nan")


@pytest.mark.exercise("5.12")
@pytest.mark.parametrize("clip", [0.2, 0.05])
def test_the_surrogate_token_by_token_with_this_clip(clip):
    l, old, a = 0.3 * draw(3, 5, seed=7), 0.3 * draw(3, 5, seed=8), draw(3, 5, seed=9)
    want, n = 0.0, 0
    for b, t in (MASK > 0).nonzero().tolist():
        rho, gain = math.exp(l[b, t] - old[b, t]), -a[b, t].item()
        want, n = want + max(gain * rho, gain * min(max(rho, 1 - clip), 1 + clip)), n + 1
    near(policy_loss(l, old, a, MASK, clip), want / n, "the mean over all tokens, not over rows")
    l.requires_grad_(), old.requires_grad_(), a.requires_grad_()
    policy_loss(l, old, a, MASK, clip).backward()
    assert old.grad is None and a.grad is None, "old_logprobs and advantages are constants"
    assert (l.grad[MASK == 0] == 0).all() and (l.grad != 0).any()
    far = policy_loss(torch.full((1, 1), 500.0), torch.zeros(1, 1), -torch.ones(1, 1),
                      torch.ones(1, 1))
    assert math.isclose(far.item(), math.exp(20), rel_tol=1e-5), "the log-ratio is cut at 20"


@pytest.mark.exercise("5.13")
@pytest.mark.parametrize("clip", [0.2, 1.0])
def test_the_value_may_move_by_clip_from_the_old_one(clip):
    v, old, r = draw(3, 5, seed=10), draw(3, 5, seed=11), draw(3, 5, seed=12)
    want, n = 0.0, 0
    for b, t in (MASK > 0).nonzero().tolist():
        near_old = old[b, t] + min(max(v[b, t] - old[b, t], -clip), clip)
        want, n = want + max((v[b, t] - r[b, t]) ** 2, (near_old - r[b, t]) ** 2), n + 1
    v.requires_grad_(), old.requires_grad_(), r.requires_grad_()
    loss = value_loss(v, old, r, MASK, clip)
    near(loss.detach(), 0.5 * want / n, f"clip {clip}")
    loss.backward()
    assert old.grad is None and r.grad is None and (v.grad != 0).any()


@pytest.mark.exercise("5.14")
def test_beta_is_kept_moves_both_ways_and_not_without_a_target():
    price = AdaptiveKL(0.2, 5.0, 1000)
    near(price.update(4.5, 100), 0.2 * (1 - 0.1 * 0.1), "10 % too low: down by 10 % of 100/1000")
    near(price.update(50.0, 100), 0.2 * 0.99 * (1 + 0.2 * 0.1), "at most 20 %, from the kept beta")
    near(price.update(0.0, 500), 0.2 * 0.99 * 1.02 * (1 - 0.2 * 0.5), "at least -20 %")
    assert price.update(5.0, 100) == price.beta, "on target nothing moves"
    fixed = AdaptiveKL(0.2, None, 1000)
    assert fixed.update(100.0, 100) == 0.2 == fixed.beta, "without a target beta stays"


@pytest.mark.exercise("5.15")
@pytest.mark.parametrize("divide, eps", [(True, 1e-4), (True, 0.5), (False, 1e-4)])
def test_each_group_of_three_is_judged_by_itself(divide, eps):
    rewards = torch.tensor([1.0, 2, 6, 0, 0, 3, 7, 7, 7], dtype=D)
    want = []
    for g in (rewards[:3], rewards[3:6], rewards[6:]):
        want += [((x - g.mean()) / (g.std() + eps if divide else 1)).item() for x in g]
    near(group_advantages(rewards, 3, divide, eps), want, f"divide {divide}, eps {eps}")
    near(group_advantages(torch.tensor([0.1] * 8), 8), torch.zeros(8), "equal rewards give 0")
    near(group_advantages(torch.tensor([1, 3, 5, 5]), 2, False), [-1.0, 1, 0, 0], "whole numbers")
    for bad in (2, 1, 0, 4):
        with pytest.raises(ValueError):
            group_advantages(rewards, bad)


@pytest.mark.exercise("5.16")
@pytest.mark.parametrize("normaliser, longest, group, want", [
    ("answer", 5, 2, (2.0 + 10 + 0 + 5) / 4), ("token", 5, 2, 31 / 7),
    ("constant", 5, 2, 31 / 20), ("constant", 9, 1, 31 / 36), ("group", 5, 2, (4.0 + 5) / 2),
    ("group", 5, 4, 31 / 7), ("group", 3, 1, (2.0 + 10 + 0 + 5) / 4)])
def test_the_four_means_of_uneven_answers(normaliser, longest, group, want):
    losses = torch.tensor([[1.0, 2, 3], [10, 99, 99], [99, 99, 99], [4, 5, 6]], dtype=D)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    near(aggregate(losses, mask, normaliser, longest, group), want, normaliser)
    near(aggregate(torch.where(mask > 0, losses, torch.nan), mask, normaliser, longest, group),
         want, "what stands at pads is not read")
    with pytest.raises(ValueError):
        aggregate(losses, mask, "tokens", longest, group)


@pytest.mark.exercise("5.17")
def test_best_of_n_at_its_edges():
    assert best_of_n_kl(1) == 0
    for n in (2, 5, 1000):
        near(best_of_n_kl(n), math.log(n) - 1 + 1 / n, f"n = {n}")
    for bad in (0, -3):
        with pytest.raises(ValueError):
            best_of_n_kl(bad)


@pytest.mark.exercise("5.18")
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_all_choices_of_n_by_hand_for_each_question(n):
    from itertools import combinations
    rng = np.random.default_rng(1)
    proxy, gold = rng.integers(0, 3, (3, 5)).astype(float), rng.normal(size=(3, 5))
    want = []
    for p, g in zip(proxy, gold):
        # ties keep the order of the samples: the later of equals stands higher
        won = [max(c, key=lambda i: (p[i], i)) for c in combinations(range(5), n)]
        want.append(np.mean([g[i] for i in won]))
    near(expected_best(proxy, gold, n), want, f"n = {n}")
    for bad in (0, 6):
        with pytest.raises(ValueError):
            expected_best(proxy, gold, bad)
    with pytest.raises(ValueError):
        expected_best(proxy, np.where(gold == gold[0, 0], np.nan, gold), n)


@pytest.mark.exercise("5.19")
def test_reinforce_with_one_baseline_for_each_answer():
    l, rewards, base = draw(3, 5, seed=13), draw(3, seed=14), draw(3, seed=15)
    want = -sum((rewards[b] - base[b]) * sum(l[b, t] for t in range(5) if MASK[b, t])
                for b in range(3)) / 3
    near(reinforce_loss(l, rewards, base, MASK), want, "a baseline for each answer")
    near(reinforce_loss(torch.where(MASK > 0, l, torch.nan), rewards, base, MASK), want, "pads")
    l.requires_grad_(), rewards.requires_grad_()
    reinforce_loss(l, rewards, 0.5, MASK).backward()
    near(l.grad, -(rewards.detach()[:, None] - 0.5) * MASK / 3, "its gradient")
    assert rewards.grad is None


@pytest.mark.exercise("5.20")
def test_each_answer_is_compared_with_the_other_two():
    rewards = torch.tensor([1.0, 2, 6, 0, 0, 3, 7, 7, 7], dtype=D)
    want = [1 - 4, 2 - 3.5, 6 - 1.5, -1.5, -1.5, 3, 0, 0, 0]
    near(rloo_advantages(rewards, 3), want)
    near(rloo_advantages(torch.tensor([0.1] * 6), 3), torch.zeros(6), "equal rewards give exactly 0")
    for bad in (1, 2, 0):
        with pytest.raises(ValueError):
            rloo_advantages(rewards, bad)


@pytest.mark.exercise("5.21")
def test_the_best_of_each_row_and_a_draw_by_the_seed_alone():
    scores = torch.tensor([[1.0, 3, 3], [2, 0, -1], [0, 0, 5]])
    best, drawn = best_and_random(scores, 3)
    assert best.tolist() == [1, 0, 2], "the earliest of equal ones, row by row"
    assert torch.equal(drawn, best_and_random(-scores, 3)[1]), "the draw does not see the scores"
    many = torch.zeros(3000, 3)
    counts = best_and_random(many, 5)[1].bincount(minlength=3) / 3000
    assert ((counts - 1 / 3).abs() < 0.05).all(), f"all k alike, not {counts.tolist()}"
    assert not torch.equal(best_and_random(many, 5)[1], best_and_random(many, 6)[1]), "by the seed"
    before = torch.random.get_rng_state()
    best_and_random(many, 5)
    assert torch.equal(before, torch.random.get_rng_state()), "by `seed` and by nothing else"
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError):
            best_and_random(torch.tensor([[0.0, bad]]), 1)
