"""Nothing non-finite gets through: pads that hold nan, empty answers, equal rewards, huge ratios."""

import copy
import math

import numpy as np
import pytest
import torch

from best_of_n import expected_best
from dpo import average_if, dpo_loss, pair_logprobs, train_dpo
from grpo import aggregate, group_advantages, grpo_loss, train_grpo
from ppo import (AdaptiveKL, clip_fraction, gae, kl_estimates, masked_whiten, policy_loss,
                 shaped_rewards, value_loss)
from responses import by_question, masked_mean, token_entropy
from reward_model import from_sft, train_reward_model
from reward_quality import calibration
from sft import fine_tune, held_out_loss, sft_loss, train_step
from sound_step import NonFinite, last_good_kept, non_finite_tensor, save_stage, take_step

NAN = float("nan")
ROWS = [([129, 97 + i, 130, 98 + i, 131], [0, 0, 0, 1, 1]) for i in range(8)]
PAIRS = [(a, b) for a, b in zip(ROWS, ROWS[1:])]
EMPTY = ([129, 97, 130], [0, 0, 0])


# ------------------------------------------------------------------------------ what stands at pads

def test_a_masked_mean_does_not_multiply_nan_by_zero():
    got = masked_mean(torch.tensor([1, 2, NAN]), torch.tensor([1.0, 1, 0])).item()
    assert got == 1.5, f"(1 + 2) / 2 = 1.5: nan * 0 is nan, got {got}"
    assert masked_mean(torch.tensor([NAN, NAN]), torch.tensor([0.0, 0])).item() == 0


def test_a_pad_may_hold_anything_in_every_piece_of_ppo():
    mask = torch.tensor([[1.0, 1, 0]])
    clean, dirty = torch.tensor([[0.5, -0.2, 0.0]]), torch.tensor([[0.5, -0.2, NAN]])
    for name, function in {
            "gae": lambda x: torch.cat(gae(x, x, mask, 1.0, 0.95)),
            "masked_whiten": lambda x: masked_whiten(x, mask),
            "policy_loss": lambda x: policy_loss(x, x + 0.1, x, mask),
            "value_loss": lambda x: value_loss(x, x, x + 1, mask),
            "clip_fraction": lambda x: clip_fraction(x, x + 1, mask),
            "shaped_rewards": lambda x: shaped_rewards(torch.ones(1), x, x - 1, mask, 0.1),
            "aggregate": lambda x: aggregate(x, mask, "token", 3),
            "grpo_loss": lambda x: grpo_loss(x, x, x - 1, torch.ones(1), mask, beta=0.1, longest=3,
                                             group=1)}.items():
        got, want = function(dirty), function(clean)
        assert torch.equal(got, want), f"{name}: nan at a pad gives {got.tolist()}, not {want}"


def test_an_impossible_token_has_no_entropy():
    got = token_entropy(torch.tensor([0.0, 0.0, -math.inf])).item()
    assert got == pytest.approx(math.log(2)), f"two tokens alike, the third impossible: {got}"


# -------------------------------------------------------------------------------- ratios and digits

def test_a_huge_log_ratio_times_no_advantage_is_zero():
    one, mask = torch.zeros(1, 1), torch.ones(1, 1)
    assert policy_loss(one + 120, one, one, mask).item() == 0, "infinity * 0 is nan"
    assert math.isfinite(policy_loss(one + 120, one, one - 1, mask).item())
    assert math.isfinite(kl_estimates(one - 120, one)[2].item()), "k3 at -120 overflows"
    got = grpo_loss(one - 120, one - 120, one, torch.zeros(1), mask, beta=0.1, longest=1, group=1)
    assert math.isfinite(got.item())


@pytest.mark.parametrize("r, want", [(1e-3, 4.998334e-7), (1e-4, 4.99983e-9), (0.5, 0.1065307),
                                     (-0.2, 0.0214028)])
def test_k3_keeps_its_digits_in_32_bits(r, want):
    got = kl_estimates(torch.tensor([r]), torch.zeros(1))[2].item()
    assert got == pytest.approx(want, rel=5e-3), f"exp(-r) - 1 + r at {r}: {want}, got {got}"


@pytest.mark.parametrize("reward", [0.1, 0.7, 1 / 3, 1e6 + 0.1, -0.3])
def test_equal_rewards_give_exactly_nothing(reward):
    for n in (2, 3, 8):
        got = group_advantages(torch.full((2 * n,), reward), n)
        assert got.abs().max() == 0, f"{n} times {reward}: {got.tolist()}"
    mixed = group_advantages(torch.tensor([0.1, 0.1, 0.1, 0.2]), 2)
    assert mixed[:2].tolist() == [0, 0] and mixed[2] < 0 < mixed[3]


def test_expected_best_of_a_thousand():
    ranks = np.arange(1.0, 1101.0)[None]
    got = expected_best(ranks, ranks, 550)[0]
    assert got == pytest.approx(550 * 1101 / 551, rel=1e-12), f"n (N + 1) / (n + 1), got {got}"
    for bad in (NAN, np.inf):
        with pytest.raises(ValueError):
            expected_best(np.array([[1.0, bad]]), np.ones((1, 2)), 1)


@pytest.mark.parametrize("kind, smoothing", [("robust", 0.5), ("robust", 0.6), ("sigmoid", 1.5),
                                             ("sigmoid", -0.2), ("sigmoid", NAN)])
def test_a_smoothing_outside_its_range_is_refused(kind, smoothing):
    one = torch.ones(1)
    with pytest.raises(ValueError, match="smoothing"):
        dpo_loss(one, one, one, one, 0.1, kind, smoothing)
    with pytest.raises(ValueError, match="beta"):
        dpo_loss(one, one, one, one, 0.0, "ipo")


def test_a_kl_target_of_nothing_is_refused():
    for target in (0, -1, NAN, math.inf):
        with pytest.raises(ValueError, match="target"):
            AdaptiveKL(0.1, target)


# ----------------------------------------------------------------------------- rows without answers

def test_a_step_without_an_answer_moves_nothing(tiny_model):
    before = copy.deepcopy(tiny_model.state_dict())
    optimizer = torch.optim.AdamW(tiny_model.parameters(), 1e-2)
    assert train_step(tiny_model, optimizer, ROWS, 132) > 0      # the momentum is not zero now
    moved = copy.deepcopy(tiny_model.state_dict())
    assert train_step(tiny_model, optimizer, [EMPTY], 132) == 0
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(value, moved[name]), f"{name} moved in a step that teaches nothing"
    assert any(not torch.equal(before[name], moved[name]) for name in before)
    assert held_out_loss(tiny_model, [EMPTY], 132) == 0
    logits = torch.randn(1, 3, 133, requires_grad=True)
    sft_loss(logits, torch.tensor([EMPTY[0]]), torch.zeros(1, 3), 0).backward()
    assert logits.grad.abs().max() == 0


def test_an_empty_answer_has_the_logprob_zero(tiny_model):
    pair = [(ROWS[0], EMPTY)]
    for normalised in (False, True):
        got = pair_logprobs(tiny_model, pair, 132, normalised)
        assert torch.isfinite(got).all() and got[1].item() == 0, got
    assert average_if(torch.zeros(1), torch.zeros(1), True).item() == 0
    assert by_question([(EMPTY, ROWS[0]), (ROWS[0], EMPTY)]) == [[(EMPTY, ROWS[0]),
                                                                 (ROWS[0], EMPTY)]]
    assert calibration(np.array([])) == ([], 0.0)


def test_a_trained_first_token_is_not_predicted_by_the_neighbour(tiny_model):
    from packing import block_mask, packed_batch
    from responses import collate, token_logprobs
    rows = [ROWS[0], ([7, 8, 9], [1, 1, 1])]
    ids, mask, positions, numbers = packed_batch(rows, 64, 132)
    assert mask.sum() == 4, f"two answer tokens and two of three: {mask.tolist()}"
    logits, _ = tiny_model(ids, positions=positions, mask=block_mask(numbers))
    packed = sft_loss(logits, ids, mask, 1.0).item()
    ids, mask = collate(rows, 132)
    alone = -(token_logprobs(tiny_model(ids)[0], ids) * mask[:, 1:]).sum().item()
    assert packed == pytest.approx(alone, abs=1e-3), f"packed {packed:.3f}, alone {alone:.3f}"


# ------------------------------------------------------------------------------- the rule of a step

def test_a_step_looks_before_it_moves():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], 0.1)
    for loss, gradient in ((NAN, 1.0), (math.inf, 1.0), (1.0, NAN), (1.0, math.inf)):
        weight.grad = torch.full((3,), gradient)
        with pytest.raises(NonFinite, match="update 8"):
            take_step(optimizer, [weight], torch.tensor(loss), 7)
        assert weight.tolist() == [1, 1, 1], f"loss {loss}, gradient {gradient}: moved"
    weight.grad = torch.ones(3)
    assert take_step(optimizer, [weight], 1.0, 7) == pytest.approx(3 ** 0.5)
    assert weight.max() < 1


def poisoned(model):
    """A copy whose loss is nan from its third forward pass on, as after a rate that is too high."""
    model, calls = copy.deepcopy(model), []
    whole = model.hidden

    def hidden(*args, **how):
        calls.append(1)
        return whole(*args, **how) * (NAN if len(calls) > 2 else 1.0)
    model.hidden = hidden
    return model


LOOPS = {
    "sft": lambda m: fine_tune(m, ROWS, 132, steps=6, batch=4, learning_rate=1e-2, seed=0),
    "dpo": lambda m: train_dpo(m, PAIRS, 132, steps=6, batch=4, beta=0.1, learning_rate=1e-2,
                               seed=0),
    "reward": lambda m: train_reward_model(m, PAIRS, 132, steps=6, batch=4, learning_rate=1e-2,
                                           seed=0)}


@pytest.mark.parametrize("stage", LOOPS)
def test_a_loop_stops_at_the_first_loss_that_is_no_number(stage, tiny_model, tmp_path):
    from artifacts import BadInput
    from checkpoint import load_checkpoint
    model = poisoned(from_sft(tiny_model, 0) if stage == "reward" else tiny_model)
    target = tmp_path / f"{stage}.pt"
    with pytest.raises(BadInput, match="loss nan.*last_good.*--learning-rate 0.005"):
        with last_good_kept(target, model, stage, "", 1e-2):
            LOOPS[stage](model)
    assert not target.exists() and not non_finite_tensor(model)
    kept = load_checkpoint(tmp_path / f"{stage}.last_good.pt")
    assert all(torch.isfinite(value).all() for value in kept["model"].values())


def test_ppo_and_grpo_stop_too(tiny_model, tokenizer):
    from ppo_loop import PPOSettings, train_ppo
    frozen = copy.deepcopy(tiny_model)
    huge = lambda answers: torch.full((len(answers),), 3e38) * torch.tensor(  # noqa: E731
        [1.0 if i % 2 else -1.0 for i in range(len(answers))])
    before = copy.deepcopy(tiny_model.state_dict())
    with pytest.raises(NonFinite):
        train_ppo(tiny_model, frozen, huge, tokenizer, ["a?", "b?"], PPOSettings(
            iterations=1, batch=4, max_new_tokens=4, missing_end=NAN), 0)
    with pytest.raises(NonFinite):
        train_grpo(tiny_model, frozen, lambda a: torch.tensor([NAN, 1.0] * (len(a) // 2)),
                   tokenizer, ["a?", "b?"], iterations=1, prompts=2, group=2, learning_rate=1e-2,
                   beta=0.1, normaliser="token", seed=0, max_new_tokens=4)
    assert all(torch.equal(v, before[k]) for k, v in tiny_model.state_dict().items())


def test_a_spoiled_last_update_is_not_saved(tiny_model, tmp_path):
    from artifacts import BadInput
    with torch.no_grad():
        tiny_model.lm_head.weight[0, 0] = math.inf
    with pytest.raises(BadInput, match="lm_head.weight"):
        save_stage(tmp_path / "x.pt", tiny_model, "sft", "", 1)
    assert not (tmp_path / "x.pt").exists()
