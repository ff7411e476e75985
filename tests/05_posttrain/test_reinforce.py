"""reinforce.py and rejection_sampling.py: the gradient against its definition, and the controls."""

import argparse
import copy

import pytest
import torch

from policy_stage import PolicyStage
from reinforce import reinforce_loss, rloo_advantages, train_reinforce
from rejection_sampling import as_rows, best_and_random

D = torch.float64


@pytest.mark.exercise("5.19")
def test_the_loss_by_hand():
    logprobs = torch.tensor([[-1.0, -2], [-3, 9]], dtype=D, requires_grad=True)
    mask = torch.tensor([[1.0, 1], [1, 0]], dtype=D)
    loss = reinforce_loss(logprobs, torch.tensor([2.0, 0], dtype=D), 1.0, mask)
    assert abs(loss.item()) < 1e-12, f"-((2-1) * -3 + (0-1) * -3) / 2 = 0, got {loss.item()}"
    loss.backward()
    want = [[-0.5, -0.5], [0.5, 0.0]]
    assert logprobs.grad.tolist() == want, \
        f"every token of an answer gets -(R - b) / B: {want}, got {logprobs.grad.tolist()}"


@pytest.mark.exercise("5.19")
def test_a_long_answer_is_one_action():
    mask = torch.ones(1, 4, dtype=D)
    loss = reinforce_loss(torch.full((1, 4), -1.0, dtype=D), torch.tensor([3.0], dtype=D),
                          torch.tensor([1.0], dtype=D), mask)
    assert loss.item() == 8, f"-(3 - 1) * (-4) = 8, the sum over tokens; got {loss.item()}"


@pytest.mark.exercise("5.19")
def test_the_gradient_is_that_of_the_expected_reward():
    # One token from a softmax over 3: the expected reward's gradient is known in closed form, and
    # so is the mean of REINFORCE's over all tokens, weighed by their probabilities. Any baseline.
    logits = torch.tensor([0.3, -0.5, 1.0], dtype=D, requires_grad=True)
    rewards = torch.tensor([1.0, 4.0, -2.0], dtype=D)
    (want,) = torch.autograd.grad((logits.softmax(0) * rewards).sum(), logits)
    for baseline in (0.0, 7.0):
        got = torch.zeros(3, dtype=D)
        for token in range(3):
            logprob = logits.log_softmax(0)[token].view(1, 1)
            loss = reinforce_loss(logprob, rewards[token:token + 1], baseline,
                                  torch.ones(1, 1, dtype=D))
            (g,) = torch.autograd.grad(loss, logits)
            got -= logits.detach().softmax(0)[token] * g
        assert (got - want).abs().max() < 1e-12, \
            f"baseline {baseline}: {got.tolist()} is not the gradient {want.tolist()}"


@pytest.mark.exercise("5.19")
def test_the_reward_is_a_constant_and_pads_do_not_count():
    logprobs = torch.tensor([[-1.0, float("nan")]], dtype=D, requires_grad=True)
    rewards = torch.tensor([2.0], dtype=D, requires_grad=True)
    baseline = torch.tensor([0.5], dtype=D, requires_grad=True)
    loss = reinforce_loss(logprobs, rewards, baseline, torch.tensor([[1.0, 0.0]], dtype=D))
    assert loss.item() == 1.5, f"the pad holds nan and does not count: 1.5, got {loss.item()}"
    loss.backward()
    assert rewards.grad is None and baseline.grad is None, "reward and baseline are constants"
    assert logprobs.grad.tolist() == [[-1.5, 0.0]]


@pytest.mark.exercise("5.20")
def test_leave_one_out_by_hand():
    got = rloo_advantages(torch.tensor([1.0, 3, 5, 5]), 2).tolist()
    assert got == [-2, 2, 0, 0], f"each against the other of its pair: [-2, 2, 0, 0], got {got}"
    got = rloo_advantages(torch.tensor([0.0, 0, 3]), 3).tolist()
    assert got == [-1.5, -1.5, 3], f"3 against the mean 0 of the others: [-1.5, -1.5, 3], got {got}"


@pytest.mark.exercise("5.20")
def test_the_baseline_does_not_hold_the_answer_itself():
    rewards = torch.tensor([1.0, 2, 6, 4, 4, 9], dtype=D)
    for i in range(6):
        more = rewards.clone()
        more[i] += 1
        change = (rloo_advantages(more, 3) - rloo_advantages(rewards, 3))[i].item()
        assert change == pytest.approx(1.0), f"one point more is one point more: {change}"


@pytest.mark.exercise("5.20")
@pytest.mark.parametrize("reward", [0.1, 0.7, -1 / 3])
def test_equal_rewards_teach_exactly_nothing(reward):
    for k in (2, 3, 8):
        got = rloo_advantages(torch.full((2 * k,), reward), k)
        assert got.abs().max() == 0, f"{k} times {reward}: {got.tolist()}"


@pytest.mark.exercise("5.20")
@pytest.mark.parametrize("n, group", [(7, 2), (4, 1)])
def test_a_wrong_group_size_is_an_error(n, group):
    with pytest.raises(ValueError):
        rloo_advantages(torch.ones(n), group)


@pytest.mark.exercise("5.21")
def test_best_and_random_by_hand():
    best, drawn = best_and_random(torch.tensor([[1.0, 3], [2, 0], [5, 5]]), 0)
    assert best.tolist() == [1, 0, 0], f"the highest of each question, the earliest: {best.tolist()}"
    assert drawn.shape == (3,) and set(drawn.tolist()) <= {0, 1}


@pytest.mark.exercise("5.21")
def test_the_control_is_even_and_blind():
    scores = torch.rand(6000, 4, generator=torch.Generator().manual_seed(1))
    best, drawn = best_and_random(scores, 3)
    counts = torch.bincount(drawn, minlength=4) / 6000
    assert (counts - 0.25).abs().max() < 0.03, f"each of 4 answers in a quarter: {counts.tolist()}"
    hit = (best == drawn).float().mean().item()
    assert abs(hit - 0.25) < 0.03, f"the best is drawn as often as any other: .25, got {hit:.2f}"
    again = best_and_random(-scores, 3)[1]
    assert torch.equal(again, drawn), "the draw must not look at the scores"
    assert not torch.equal(best_and_random(scores, 4)[1], drawn), "another seed, another draw"


@pytest.mark.exercise("5.21")
def test_a_score_that_is_no_number_is_an_error():
    with pytest.raises(ValueError):
        best_and_random(torch.tensor([[1.0, float("nan")]]), 0)


def test_cut_off_answers_are_not_imitated():
    from rollouts import Answer
    rounds = [[Answer("q", "a", ended, [1], ([k], [1])) for ended in (True, False)] for k in (0, 1)]
    assert as_rows(rounds, torch.tensor([1, 0])) == [([1], [1])]


@pytest.mark.parametrize("ends", [(False, False), (True, False)])
def test_a_model_that_does_not_end_yet_stops_no_walk(ends, monkeypatch):
    """The best is by score among answers that end; where none does, by score among all."""
    import rejection_sampling
    from rollouts import Answer
    rounds = [[Answer("q", "a", ends[k], [1], ([k], [1]))] for k in (0, 1)]
    monkeypatch.setattr(rejection_sampling, "sample_rounds", lambda *a, **k: rounds)
    monkeypatch.setattr(rejection_sampling, "special_id", lambda *a: 0)
    monkeypatch.setattr(rejection_sampling, "score_rows",
                        lambda score, rows, pad: torch.tensor([float(r[0][0]) for r in rows]))
    kept = rejection_sampling.sample_and_keep(None, argparse.Namespace(score=None), None, ["q"], 2, 0)
    assert len(kept["rft"]) == len(kept["rft_random"]) == 1
    assert kept["rft"][0][0] == [1 - ends[0]], "the better of two that are cut, or the one that ends"


@pytest.mark.parametrize("group", [1, 4])
def test_reinforce_moves_towards_what_is_paid(group, tiny_model, tokenizer):
    frozen = copy.deepcopy(tiny_model)
    log = train_reinforce(tiny_model, frozen, lambda answers: torch.ones(len(answers)), tokenizer,
                          ["a?", "b?", "c?"], iterations=25, prompts=32 // group, group=group,
                          learning_rate=1e-2, beta=0.0, seed=0, max_new_tokens=12, missing_end=0.0)
    first, last = (sum(line["end_rate"] for line in part) / 5 for part in (log[:5], log[-5:]))
    assert log[0]["kl"] == pytest.approx(0, abs=1e-4) and log[-1]["kl"] > 0.1
    assert last > first + 0.2, f"paid for ending alone: {first:.2f} -> {last:.2f} of them end"


def test_what_is_to_be_kept_is_part_of_every_update(tiny_model, tokenizer):
    kept, asked = copy.deepcopy(tiny_model), []
    row = torch.tensor([[65, 70, 71, 131]])

    def keep(iteration):
        asked.append(iteration)
        return kept(row, row.roll(-1, 1))[1]
    train_reinforce(kept, tiny_model, lambda answers: torch.zeros(len(answers)), tokenizer, ["a?"],
                    iterations=4, prompts=2, group=2, learning_rate=1e-2, beta=0.0, seed=0,
                    max_new_tokens=4, missing_end=0.0, keep=keep)
    with torch.no_grad():
        before, after = (m(row, row.roll(-1, 1))[1].item() for m in (tiny_model, kept))
    assert asked == [0, 1, 2, 3] and after < before - 0.01, f"{before:.3f} -> {after:.3f}"


def test_a_stage_rehearses_with_its_weight(tiny_model, tokenizer):
    records = [{"messages": [{"role": "user", "content": "a?"},
                             {"role": "assistant", "content": f"b{i}."}]} for i in range(4)]
    stage = PolicyStage("x", argparse.Namespace(seed=0), None, None, tiny_model, tiny_model, "",
                        tokenizer, None, [], records)
    once, twice = (stage.keep(weight)(0).item() for weight in (1.0, 2.0))
    assert twice == pytest.approx(2 * once) and once > 0
    assert stage.keep(0.0) is None, "nothing to keep costs nothing"
