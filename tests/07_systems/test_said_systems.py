"""What the statements of chapter 7's exercises say once in passing, asked for on its own."""

import math

import pytest
import torch
import torch.distributed as dist

import ddp
import zero
from gloo_ranks import run_ranks
from memory import storage_bytes
from moe import balance_loss
from precision import LossScaler, spacing
from recomputation import gradients_again
from tensor_parallel import lookup_own_rows, split_dimension

torch.set_num_threads(1)
D = torch.float64


def three_ranks(rank, average):
    ps = [torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(()))]
    ps[0].grad = torch.full((2, 2), float(rank ** 2))
    ps[1].grad = torch.tensor(3.0 * rank)
    given = [p.grad for p in ps]
    result = average(ps)
    return [p.grad.tolist() for p in ps], [p.grad is g for p, g in zip(ps, given)], result


@pytest.mark.parametrize("average", [
    pytest.param(ddp.average_naive, marks=pytest.mark.exercise("7.6")),
    pytest.param(ddp.average_flat, marks=pytest.mark.exercise("7.7"))])
def test_the_mean_over_three_ranks(average):
    for grads, _, result in run_ranks(three_ranks, 3, average):
        assert grads[0] == [[pytest.approx(5 / 3)] * 2] * 2, f"0, 1 and 4 on three ranks: {grads}"
        assert grads[1] == pytest.approx(3.0), "0, 3 and 6; a parameter that is one number"
        assert result is None, "the gradients are replaced, nothing is given back"


def plain_pack(tensors, ranks):
    """Exercise 7.9, right."""
    rows = []
    for t in tensors:
        flat, size = t.reshape(-1), -(-t.numel() // ranks)
        rows.append(torch.cat([flat, flat.new_zeros(size * ranks - len(flat))]).view(ranks, size))
    return torch.cat(rows, dim=1)


def shares(rank, alone):
    """The pieces' gradients of this rank, in a group of its own or in that of all ranks."""
    zero.pack = plain_pack                              # in this rank's process only
    group = [dist.new_group([r]) for r in range(2)][rank] if alone else None
    p, unused = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))
    half = torch.nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    frozen = torch.nn.Parameter(torch.zeros(2))
    optimizer = zero.ShardedOptimizer([p, unused, half, frozen], torch.optim.SGD, group=group,
                                      lr=1.0)
    frozen.grad = torch.ones(2)                         # from the time before it was frozen
    frozen.requires_grad_(False)
    sent, plain = [], zero.reduce_scatter
    zero.reduce_scatter = lambda *a, **k: sent.append(1) or plain(*a, **k)
    optimizer.reduce_gradients()                        # no gradient anywhere: nothing is sent
    for _ in range(2):
        p.grad = torch.tensor([1.0, 2, 3]) * (1 + 2 * rank)
        half.grad = torch.tensor([1.0, 3.0], dtype=torch.bfloat16) * (1 + 2 * rank)
        optimizer.reduce_gradients()
    optimizer.reduce_gradients()                        # nothing new since: nothing is sent
    assert optimizer.pieces[frozen].grad is None and frozen.grad.tolist() == [1, 1], "left out"
    grads = [optimizer.pieces[x].grad for x in (p, half)]
    assert [g.dtype for g in grads] == [torch.float32, torch.bfloat16], "each in its piece's dtype"
    return ([g.tolist() for g in grads], optimizer.pieces[unused].grad is None, len(sent))


@pytest.mark.exercise("7.11")
def test_shares_are_the_mean_over_the_group_and_one_call_each():
    for rank, (held, unused, sent) in enumerate(run_ranks(shares, 2, True)):
        assert held == [[x * (1 + 2 * rank) * 2 for x in (1.0, 2, 3)],
                        [x * (1 + 2 * rank) * 2 for x in (1.0, 3.0)]], (
            f"in a group of one rank the whole gradient is its share, twice over: {held}")
        assert unused and sent == 2, f"two ready gradients, two calls; {sent} were made"


@pytest.mark.exercise("7.11")
def test_shares_of_two_ranks_add_up_over_calls():
    want = [[[4.0, 8.0], [4.0]], [[12.0, 0.0], [12.0]]]     # twice 2, 4, 6, padded; twice 2, 6
    for rank, (held, unused, sent) in enumerate(run_ranks(shares, 2, False)):
        assert held == want[rank], f"rank {rank}: {held}"
        assert unused and sent == 2


@pytest.mark.exercise("7.23")
@pytest.mark.parametrize("value, dtype", [
    (2.0 - 2.0 ** -52, D), (1024.0 - 2.0 ** -43, D), (2.0 - 2.0 ** -23, torch.float32),
    (2.0 ** 100 * (2 - 2.0 ** -23), torch.float32), (2.0 - 2.0 ** -7, torch.bfloat16)])
def test_just_below_a_power_of_two_the_spacing_is_the_lower_ones(value, dtype):
    here = torch.tensor(value, dtype=dtype)
    up = torch.nextafter(here, torch.tensor(math.inf, dtype=dtype))
    assert here.item() == value
    want = up.double().item() - value
    assert spacing(value, dtype) == want, f"the next number after {value} is {want} away"


@pytest.mark.exercise("7.25")
def test_each_of_several_inputs_has_its_gradient_in_its_place():
    x, y, z = (torch.tensor(v, requires_grad=v != 5) for v in (3.0, 5.0, 7.0))
    w, u = torch.nn.Parameter(torch.tensor(2.0)), torch.nn.Parameter(torch.tensor(4.0))
    got = gradients_again(lambda x, y, z: w * x * y + u * z, [x, y, z], [w, u], torch.tensor(1.0))
    assert [g if g is None else g.item() for g in got] == [10.0, None, 4.0, 15.0, 7.0], (
        "d/dx = w y, none for y, d/dz = u, then d/dw = x y and d/du = z")
    assert all(t.grad is None for t in (x, y, z, w, u))


@pytest.mark.exercise("7.25")
def test_the_gradient_of_an_output_of_many_numbers():
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    w, g = torch.nn.Parameter(torch.ones(4, 3)), torch.arange(8.0).view(2, 4)
    dx, dw = gradients_again(lambda x: torch.nn.functional.linear(x, w), [x], [w], g)
    assert torch.allclose(dx, g @ w) and torch.allclose(dw, g.T @ x)


@pytest.mark.exercise("7.2")
def test_two_tensors_of_equal_numbers_are_two_storages_and_a_transpose_is_none_of_its_own():
    a = torch.ones(4, 3)
    assert storage_bytes([a, a.clone()]) == 96 and storage_bytes([a.T, a[1:, 0]]) == 48
    tied = torch.nn.Linear(3, 4, bias=False)
    tied.weight = torch.nn.Parameter(a)
    assert storage_bytes([tied.weight, a, tied.weight.detach()]) == 48, "tied weights are one"


@pytest.mark.exercise("7.21")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_balance_does_not_depend_on_the_number_of_tokens(k):
    scores = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    experts = scores.topk(k, dim=1).indices
    once, twice = balance_loss(scores, experts), balance_loss(scores.repeat(2, 1),
                                                               experts.repeat(2, 1))
    assert torch.allclose(once, twice), f"shares and means: {once} for 6 tokens, {twice} for 12"
    f = torch.tensor([(experts == e).float().mean() for e in range(3)])
    assert torch.allclose(once, 3 * (f * scores.mean(0)).sum())


@pytest.mark.exercise("7.14")
@pytest.mark.parametrize("name", ["ngram.embedding.weight", "draft.lm_head.weight",
                                  "blocks.0.embedding.weight", "lm_head.bias"])
def test_the_two_tables_are_known_by_their_whole_names(name):
    assert split_dimension(name) is None, f"{name} is none of the two tables: whole on every rank"


@pytest.mark.exercise("7.23")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, D])
def test_below_the_smallest_normal_number_the_spacing_stays(dtype):
    tiny = torch.finfo(dtype).tiny
    least = tiny * torch.finfo(dtype).eps               # the smallest number of this dtype
    for value in (tiny, tiny / 2, 3 * least):
        assert spacing(value, dtype) == least, f"spacing({value}, {dtype}): subnormals are even"
    assert spacing(4 * tiny, dtype) == 4 * least, "above it, eps times the power of two"
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError):
            spacing(bad, dtype)


@pytest.mark.exercise("7.15")
def test_a_rank_may_hold_one_single_row():
    got = lookup_own_rows(torch.tensor([[4, 5, 6, 0]]), torch.tensor([[1.0, 2.0]]), 5)
    assert got.tolist() == [[[0, 0], [1, 2], [0, 0], [0, 0]]]


@pytest.mark.exercise("7.24")
def test_the_factor_stays_between_two_bounds():
    p = torch.nn.Parameter(torch.zeros(1))
    for factor, gradient, bound in ((2.0 ** 98, 0.0, 2.0 ** 100), (2.0 ** -98, math.inf, 2.0 ** -100)):
        scaler = LossScaler(factor, interval=1)
        for _ in range(4):
            p.grad = torch.full((1,), gradient)
            scaler.step(torch.optim.SGD([p], lr=1.0))
        assert scaler.factor == bound, f"from {factor}, four times: {scaler.factor}"


@pytest.mark.exercise("7.25")
def test_an_input_that_was_made_from_another_gets_its_own_gradient_alone():
    x = torch.tensor(3.0, requires_grad=True)
    got = gradients_again(lambda a, b: a * b, [x, 2 * x], [], torch.tensor(1.0))
    assert [g.item() for g in got] == [6.0, 3.0], "the graph in which they were made is left alone"
