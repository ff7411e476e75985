"""Experts: routing by hand, dropless equals the plain formula, and experts on several ranks."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import collectives
import equality
import moe
from gloo_ranks import run_ranks
from gpt import GPT, GPTConfig

torch.set_num_threads(1)


@pytest.mark.exercise("7.19")
def test_routing_by_hand():
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    shares, experts = moe.route(scores, 2)
    assert experts.tolist() == [[0, 1], [2, 1]], f"best expert first: {experts}"
    assert torch.allclose(shares, torch.tensor([[0.625, 0.375], [7 / 9, 2 / 9]])), shares


@pytest.mark.exercise("7.19")
def test_the_bias_steers_the_choice_and_not_the_shares():
    scores = torch.tensor([[0.5, 0.3, 0.2]])
    shares, experts = moe.route(scores, 2, torch.tensor([0.0, 0.0, 0.15]))
    assert experts.tolist() == [[0, 2]], f"0.2 + 0.15 is above 0.3: {experts}"
    assert torch.allclose(shares, torch.tensor([[5 / 7, 2 / 7]])), f"shares without bias: {shares}"


def test_scores_that_have_rounded_to_zero_are_no_nan():
    shares, experts = moe.route(torch.tensor([[1.0, 0, 0, 0]]), 2, torch.tensor([0.0, 0, 5, 4]))
    assert experts.tolist() == [[2, 3]] and shares.tolist() == [[0, 0]], f"0/0: {shares}"


@pytest.mark.exercise("7.20")
def test_capacity_serves_first_choices_first():
    experts = torch.tensor([[0, 1], [0, 1], [1, 0]])
    served = moe.within_capacity(experts, 2, 2)
    assert served.tolist() == [[True, True], [True, False], [True, False]], (
        f"the third token's first choice comes before anyone's second: {served.tolist()}")
    assert moe.within_capacity(experts, 2, 1).tolist() == [[True, False], [False, False],
                                                           [True, False]]
    assert moe.within_capacity(experts, 2, 3).all(), "room for all: all are served"


@pytest.mark.exercise("7.21")
def test_balance_loss_is_one_when_level_and_e_when_one_gets_all():
    level = torch.full((4, 4), 0.25)
    each = torch.tensor([[0], [1], [2], [3]])
    assert abs(moe.balance_loss(level, each).item() - 1) < 1e-6
    one = torch.eye(4)[[0, 0, 0, 0]]
    assert abs(moe.balance_loss(one, torch.zeros(4, 1, dtype=torch.long)).item() - 4) < 1e-6
    two = moe.balance_loss(level, torch.tensor([[0, 1], [2, 3], [0, 1], [2, 3]])).item()
    assert abs(two - 1) < 1e-6, f"two choices a token, all alike: 1, got {two}"
    skewed = moe.balance_loss(torch.tensor([[0.5, 0.3, 0.2]] * 2), torch.tensor([[0, 1], [0, 2]]))
    want = 3 * (0.5 * 0.5 + 0.25 * 0.3 + 0.25 * 0.2)
    assert abs(skewed.item() - want) < 1e-6, f"all choices count: expected {want}, got {skewed}"
    scores = torch.tensor([[0.6, 0.4], [0.7, 0.3]], requires_grad=True)
    moe.balance_loss(scores, torch.tensor([[0], [0]])).backward()
    assert scores.grad.tolist() == [[1, 0], [1, 0]], f"pushes the used expert down: {scores.grad}"


@pytest.mark.exercise("7.22")
def test_bias_moves_by_a_fixed_step_towards_the_mean():
    before = torch.tensor([0.0, 0.5, 0.1])
    bias = moe.update_bias(before, torch.tensor([10, 1, 4]), rate=0.01)
    want = torch.tensor([-0.01, 0.51, 0.11])
    assert torch.allclose(bias, want), f"10, 1, 4 tokens, mean 5: expected {want}, got {bias}"
    assert before.tolist() == torch.tensor([0.0, 0.5, 0.1]).tolist(), "the old bias was changed"
    level = moe.update_bias(torch.tensor([0.2, 0.3]), torch.tensor([3, 3]))
    assert torch.allclose(level, torch.tensor([0.2, 0.3])), "level: nothing moves"


def layer(capacity=None):
    torch.manual_seed(0)
    return moe.MoE(width=8, experts=4, k=2, hidden=6, capacity=capacity)


def test_dropless_equals_the_plain_formula():
    experts, x = layer(), torch.randn(2, 5, 8, requires_grad=True)
    want = torch.zeros(2, 5, 8)
    scores = experts.router(x).softmax(-1)
    for b in range(2):
        for t in range(5):
            best = scores[b, t].topk(2)
            for share, e in zip(best.values / best.values.sum(), best.indices):
                hidden = torch.relu(x[b, t] @ experts.up[e]) ** 2
                want[b, t] += share * (hidden @ experts.down[e])
    got = experts(x)
    assert (got - want).abs().max() < 1e-5
    assert experts.counts.sum() == 20, "dropless: every choice is served"


def test_capacity_drops_and_the_gradient_survives():
    experts, x = layer(capacity=0.5), torch.randn(1, 16, 8, requires_grad=True)
    got = experts(x)
    dropped = (got == 0).all(-1).sum()
    assert dropped > 0, "half of the room: some tokens must get nothing"
    got.sum().backward()
    assert x.grad.isfinite().all() and experts.router.weight.grad.abs().sum() > 0


def test_bias_balancing_levels_a_skewed_router():
    torch.manual_seed(0)
    scores = (torch.randn(512, 8) + torch.arange(8) * 0.5).softmax(1)
    bias, counts = torch.zeros(8), []
    for _ in range(400):
        load = torch.bincount(moe.route(scores, 2, bias)[1].flatten(), minlength=8)
        counts.append(load.max().item() / load.float().mean().item())
        bias = moe.update_bias(bias, load, 1e-3)
    assert counts[0] > 2.5 and counts[-1] < 1.2, f"fullest expert: {counts[0]} -> {counts[-1]}"


def test_four_times_the_parameters_for_the_same_flops():
    config = GPTConfig(vocab_size=32, layers=1, width=64, heads=2, sequence_length=32)
    parameters, flops = [], []
    for model in (GPT(config), moe.use_moe(GPT(config))):
        mlp, x = model.blocks[0].mlp, torch.randn(1, 256, 64, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            mlp(x).sum().backward()
        parameters.append(sum(p.numel() for p in mlp.parameters()))
        flops.append(counter.get_total_flops())
    assert 3.9 < parameters[1] / parameters[0] < 4.1 and flops[1] / flops[0] < 1.03


@pytest.mark.parametrize("ranks", [2, 4])
def test_experts_on_several_ranks_train_as_on_one(ranks):
    results = run_ranks(equality.train_experts, ranks, ranks)
    gap = equality.gaps(results, *equality.train_alone(experts=True))
    assert gap["loss_gap"] <= 1e-6 and gap["weight_gap"] <= 1e-5, gap
    calls = [c for r in results for c in r["calls"] if c.name == "all_to_all"]
    assert len(calls) == ranks * 5 * equality.TINY.layers, "counts, there, back; there, back again"
    # Every row travels away and back, forward and backward: four times the same bytes in all.
    away = [collectives.sent_bytes([c for c in r["calls"] if c.payload % 128 == 0 and
                                    c.name == "all_to_all"]) for r in results]
    assert sum(away) % (4 * equality.TINY.width * 4) == 0


def test_a_gpt_with_experts_learns():
    torch.manual_seed(0)
    model = moe.use_moe(GPT(GPTConfig(vocab_size=16, layers=1, width=32, heads=2,
                                      sequence_length=16)), experts=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.randint(16, (4, 17), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(20):
        loss = model(ids[:, :-1], ids[:, 1:])[1] + 0.01 * moe.balance_of(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.exercise("7.19")
def test_one_choice_is_weighed_by_its_probability_so_that_the_router_learns():
    scores = torch.tensor([[0.5, 0.3, 0.2]], requires_grad=True)
    shares, experts = moe.route(scores, 1)
    assert experts.tolist() == [[0]] and shares.tolist() == [[0.5]], (
        f"k = 1: the share is the probability, not p / p = 1: {shares}")
    shares.sum().backward()
    assert scores.grad.tolist() == [[1, 0, 0]], "without a gradient top-1 routing never learns"


def test_the_router_of_a_top_1_layer_has_a_gradient():
    torch.manual_seed(0)
    experts = moe.MoE(32, 4, k=1, hidden=16)
    experts(torch.randn(2, 9, 32)).square().sum().backward()
    assert experts.router.weight.grad.abs().max() > 1e-2


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_an_expert_takes_at_least_one_token(tokens):
    torch.manual_seed(0)
    few, x = moe.MoE(16, 8, k=2, hidden=8, capacity=1.25), torch.randn(1, tokens, 16)
    assert (few(x).abs().sum(-1) > 0).all(), "1.25 x 2 / 8 of a token is rounded down to none"


@pytest.mark.parametrize("k, capacity", [(1, None), (2, None), (2, 1.0)])
def test_under_autocast_it_trains_in_16_bits_and_stays_near(k, capacity):
    torch.manual_seed(0)
    experts, x = moe.MoE(16, 4, k, 8, capacity), torch.randn(2, 9, 16)
    want = experts(x)
    with torch.autocast("cpu", torch.bfloat16):
        got = experts(x)
        got.float().square().sum().backward()
    assert got.dtype == torch.bfloat16 and (got - want).abs().max() < 0.05 * want.abs().max()
    assert experts.router.weight.grad.dtype == experts.up.grad.dtype == torch.float32


def test_float64_stays_float64_and_no_tokens_are_no_nan():
    exact = moe.MoE(4, 3, 2, 5).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert exact(x).dtype == torch.float64 and torch.autograd.gradcheck(exact, (x,))
    nothing = moe.MoE(4, 3, 2, 5)
    assert nothing(torch.zeros(0, 4)).shape == (0, 4) and nothing.balance.item() == 0
