"""grpo.py: groups, the four normalisers, and one advantage per answer."""

import pytest
import torch

from grpo import NORMALISERS, aggregate, group_advantages, grpo_loss

D = torch.float64


@pytest.mark.exercise("5.15")
def test_group_advantages_by_hand():
    got = group_advantages(torch.tensor([1.0, 3, 5, 5], dtype=D), 2)
    want = [-1 / (2 ** 0.5 + 1e-4), 1 / (2 ** 0.5 + 1e-4), 0, 0]
    assert (got - torch.tensor(want, dtype=D)).abs().max() < 1e-6, \
        f"expected {want}, got {got.tolist()}: each group its own mean and unbiased sd"
    plain = group_advantages(torch.tensor([1.0, 3, 5, 5], dtype=D), 2, divide_by_sd=False)
    assert plain.tolist() == [-1, 1, 0, 0], "without the sd: the difference alone"


@pytest.mark.exercise("5.15")
def test_eps_is_the_one_asked_for():
    got = group_advantages(torch.tensor([0.0, 2.0]), 2, eps=1.0)
    want = 1 / (2 ** 0.5 + 1)
    assert (got - torch.tensor([-want, want])).abs().max() < 1e-6, \
        f"1 / (sqrt 2 + eps 1) = {want:.4f}, got {got.tolist()}"


def test_whole_numbers_are_rewards_too():
    assert group_advantages(torch.tensor([1, 3, 5, 5]), 2, False).tolist() == [-1, 1, 0, 0]


@pytest.mark.exercise("5.15")
def test_equal_rewards_teach_nothing():
    got = group_advantages(torch.full((8,), 0.7), 4)
    assert torch.isfinite(got).all() and got.abs().max() < 1e-3, f"0, not nan: {got.tolist()}"


@pytest.mark.exercise("5.15")
def test_order_within_and_of_groups_does_not_matter():
    rewards = torch.tensor([1.0, 2, 6, 4, 4, 9], dtype=D)
    got = group_advantages(rewards, 3)
    order = [5, 3, 4, 2, 0, 1]          # groups swapped, members shuffled
    assert torch.allclose(group_advantages(rewards[order], 3), got[order])


@pytest.mark.exercise("5.15")
@pytest.mark.parametrize("n, group", [(7, 2), (4, 1)])
def test_a_wrong_group_size_is_an_error(n, group):
    with pytest.raises(ValueError):
        group_advantages(torch.ones(n), group)


LOSSES = torch.tensor([[1.0, 2, 3], [10, 77, 77]], dtype=D)
MASK = torch.tensor([[1.0, 1, 1], [1, 0, 0]], dtype=D)


@pytest.mark.exercise("5.16")
@pytest.mark.parametrize("normaliser, want", [("answer", 6.0), ("token", 4.0), ("constant", 2.0),
                                              ("group", 4.0)])
def test_four_normalisers_by_hand(normaliser, want):
    got = aggregate(LOSSES, MASK, normaliser, longest=4, group=2).item()
    assert abs(got - want) < 1e-9, f"{normaliser}: expected {want}, got {got}"


@pytest.mark.exercise("5.16")
def test_group_is_a_mean_of_group_means():
    losses, mask = torch.cat([LOSSES, 2 * LOSSES + 1]), torch.cat([MASK, 1 - MASK])
    want = ((1 + 2 + 3 + 10) / 4 + (155 + 155) / 2) / 2
    got = aggregate(losses, mask, "group", 4, 2).item()
    assert abs(got - want) < 1e-9, f"expected {want}, got {got}"


@pytest.mark.exercise("5.16")
def test_an_unknown_normaliser_is_named():
    with pytest.raises(ValueError):
        aggregate(LOSSES, MASK, "mean", 4)


@pytest.mark.exercise("5.16")
@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_an_empty_answer_is_no_nan(normaliser):
    got = aggregate(LOSSES, 0 * MASK, normaliser, 4, 2).item()
    assert got == 0, f"{normaliser}: no token, no loss: expected 0, got {got}"


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_pads_get_no_gradient_and_the_gradient_is_right(normaliser):
    g = torch.Generator().manual_seed(0)
    old = -torch.rand(4, 3, generator=g, dtype=D)
    new = (old + 0.1 * torch.randn(4, 3, generator=g, dtype=D)).requires_grad_()
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=D)
    advantages = torch.tensor([1.0, -1, 0.5, -0.5], dtype=D)
    how = dict(beta=0.1, longest=3, group=2, normaliser=normaliser)
    loss = lambda x: grpo_loss(x, old, old - 0.3, advantages, mask, **how)  # noqa: E731
    assert torch.autograd.gradcheck(loss, new)
    loss(new).backward()
    assert new.grad[mask == 0].abs().max() == 0 and new.grad[mask > 0].abs().min() > 0


def test_at_the_start_the_loss_is_minus_the_mean_advantage():
    old, mask = -torch.ones(2, 2, dtype=D), torch.ones(2, 2, dtype=D)
    got = grpo_loss(old, old, old, torch.tensor([3.0, 1], dtype=D), mask, beta=0.1, longest=2,
                    group=2)
    assert got.item() == pytest.approx(-2.0), "ratio 1 and KL 0: minus the mean advantage"
