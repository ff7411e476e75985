"""Recomputed layers: the same numbers to the bit, and only the inputs are kept."""

import copy

import pytest
import torch

import ddp
import equality
import zero
from gloo_ranks import run_ranks
from memory import saved_bytes
from recomputation import gradients_again, use_recomputation

torch.set_num_threads(1)


@pytest.mark.exercise("7.25")
def test_gradients_by_hand():
    x, w = torch.tensor(3.0, requires_grad=True), torch.nn.Parameter(torch.tensor(2.0))
    got = gradients_again(lambda x: w * x, [x], [w], torch.tensor(1.0))
    assert [g.item() for g in got] == [2.0, 3.0], f"d wx / dx = w = 2, d wx / dw = x = 3: {got}"
    assert x.grad is None and w.grad is None, "gradients are given back, not added to anybody"
    got = gradients_again(lambda x: w * x, [x], [w], torch.tensor(10.0))
    assert [g.item() for g in got] == [20.0, 30.0], "the output's own gradient counts"
    runs = []
    gradients_again(lambda x: runs.append(x) or w * x, [x], [w], torch.tensor(1.0))
    assert len(runs) == 1, f"once more, for inputs and parameters together, not {len(runs)} times"


@pytest.mark.exercise("7.25")
def test_it_works_inside_backward_where_nothing_is_recorded():
    x, w = torch.tensor(3.0, requires_grad=True), torch.nn.Parameter(torch.tensor(2.0))
    with torch.no_grad():
        got = gradients_again(lambda x: w * x, [x], [w], torch.tensor(1.0))
    assert [g.item() for g in got] == [2.0, 3.0], "the second run must record by itself"


@pytest.mark.exercise("7.25")
def test_the_graph_before_the_layer_is_left_alone():
    leaf = torch.tensor(3.0, requires_grad=True)
    x, w = leaf.exp(), torch.nn.Parameter(torch.tensor(2.0))
    before = gradients_again(lambda x: w * x, [x], [w], torch.tensor(1.0))[0]
    assert before.item() == 2.0, f"the gradient at the layer's input, not further back: {before}"
    x.backward()
    assert leaf.grad is not None, "the graph that made the input must still be there"


@pytest.mark.exercise("7.25")
def test_what_needs_no_gradient_or_is_not_used_gets_none():
    x, w = torch.tensor(3.0), torch.nn.Parameter(torch.tensor(2.0))
    unused = torch.nn.Parameter(torch.tensor(5.0))
    got = gradients_again(lambda x: w * x, [x], [w, unused], torch.tensor(1.0))
    assert got[0] is None and got[1].item() == 3.0 and got[2] is None, got
    got = gradients_again(lambda x: w * unused * x, [x], [w], torch.tensor(1.0))
    assert [g if g is None else g.item() for g in got] == [None, 15.0], got
    assert unused.grad is None and w.grad is None, "nor to that of a parameter nobody asked about"


def run(model, low=False):
    ids, targets = equality.seed_batch(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        loss = model(ids, targets)[1]
    loss.backward()
    return loss, {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("low", [False, True])
def test_loss_and_gradients_are_the_same_to_the_bit(every, low):
    plain, recomputed = equality.seed_model(), use_recomputation(equality.seed_model(), every)
    (loss, grads), (loss_2, grads_2) = run(plain, low), run(recomputed, low)
    assert torch.equal(loss, loss_2)
    for name, grad in grads.items():
        assert torch.equal(grad, grads_2[name]), f"{name} differs"


def test_random_numbers_are_drawn_again():
    plain = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5))
    again, x = copy.deepcopy(plain), torch.randn(4, 8)
    holder = type("Holder", (torch.nn.Module,), {})()
    holder.blocks = torch.nn.ModuleList([again])
    use_recomputation(holder)
    grads = []
    for model in (plain, again):
        torch.manual_seed(1)
        model(x).square().sum().backward()
        grads.append(model[0].weight.grad)
    assert torch.equal(*grads), "dropout must drop the same numbers twice"


def test_a_layer_keeps_its_input_and_nothing_else():
    config = equality.TINY
    ids, targets = equality.seed_batch(0)
    plain = saved_bytes(equality.seed_model(), ids, targets)
    every = saved_bytes(use_recomputation(equality.seed_model()), ids, targets)
    outside = saved_bytes(equality.seed_model(config.__class__(**{
        **config.__dict__, "layers": 1})), ids, targets)
    per_layer = plain - outside
    inputs = 8 * config.sequence_length * config.width * 4
    assert every <= plain - 2 * per_layer + 3 * inputs, (
        f"plain {plain} bytes, of them {per_layer} a layer; recomputed {every}")


def in_parallel(rank, method):
    model = use_recomputation(equality.seed_model())
    wrapped = {"bucketed": lambda m: ddp.BucketedDDP(m, 0.02), "zero3": zero.FSDP}[method](model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=equality.RATE)
    losses = []
    for step in range(5):
        loss = wrapped(*(ddp.shard_of(t, rank, 2) for t in equality.seed_batch(step)))[1]
        loss.backward()
        wrapped.finish_gradient_synchronization()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(equality.mean_over_ranks(loss))
    weights = wrapped.gather_full_params() if method == "zero3" else dict(model.named_parameters())
    return {"losses": losses, "weights": {n: p.detach() for n, p in weights.items()}}


@pytest.mark.parametrize("method", ["bucketed", "zero3"])
def test_it_goes_together_with_parallel_methods(method):
    gap = equality.gaps(run_ranks(in_parallel, 2, method), *equality.train_alone())
    assert gap["loss_gap"] <= 1e-6 and gap["weight_gap"] <= 1e-5, gap
