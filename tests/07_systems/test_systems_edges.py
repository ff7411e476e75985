"""Numbers below the smallest normal one, factors that never end, mixed dtypes, odd experts."""

import math

import pytest
import torch
import torch.distributed as dist
from torch import nn

import ddp
import zero
from gloo_ranks import run_ranks
from memory import training_bytes
from moe import MoE, balance_of
from precision import LossScaler, spacing

torch.set_num_threads(1)


@pytest.mark.parametrize("value, dtype, want", [
    (1e-40, torch.float32, 2.0 ** -149), (1e-6, torch.float16, 2.0 ** -24),
    (6.2e-5, torch.float16, 2.0 ** -24), (256.0, torch.bfloat16, 2.0)])
def test_the_distance_of_subnormal_numbers_does_not_shrink(value, dtype, want):
    assert spacing(value, dtype) == want
    here = torch.tensor(value, dtype=dtype)
    assert here + want > here, "the next number is another one"


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_only_positive_numbers_have_a_next_larger_one(value):
    with pytest.raises(ValueError):
        spacing(value, torch.float32)


@pytest.mark.parametrize("gradient", [math.inf, 0.0])
def test_a_loss_scale_never_becomes_nothing_or_infinite(gradient):
    weight = nn.Parameter(torch.zeros(1))
    optimizer, scaler = torch.optim.SGD([weight], lr=0.1), LossScaler(interval=1)
    for _ in range(1200):
        weight.grad = torch.full((1,), gradient)
        scaler.step(optimizer)
    assert 0 < scaler.factor < math.inf, f"{scaler.factor}: no loss could be scaled any more"


@pytest.mark.parametrize("k, capacity", [(3, None), (0, None), (2, -1.0), (2, math.nan), (2, 0.0)])
def test_experts_that_nobody_can_visit_are_refused(k, capacity):
    with pytest.raises(ValueError, match="visits 1 to 2"):
        MoE(8, 2, k, 4, capacity)


def test_a_dense_model_is_balanced_and_no_model_has_fewer_than_no_parameters():
    assert balance_of(nn.Linear(2, 2)) == 0
    with pytest.raises(ValueError, match="-10 parameters"):
        training_bytes(-10)


class Mixed(nn.Module):
    """Parameters of two dtypes, one of no dimension and one of no element; buffers of three."""

    def __init__(self):
        super().__init__()
        self.full, self.low = nn.Parameter(torch.ones(3)), nn.Parameter(
            torch.ones(4, dtype=torch.bfloat16))
        self.one, self.none = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.ones(0))
        self.register_buffer("mask", torch.ones(3, 3).tril() > 0)
        self.register_buffer("count", torch.tensor(3))

    def forward(self):
        return self.full.sum() + self.low.float().sum() + self.one + self.none.sum()


def mixed(rank, method):
    model = Mixed()
    if method in ("ddp", "bucketed"):
        wrapped = ddp.DDP(model) if method == "ddp" else ddp.BucketedDDP(model)
        wrapped().backward()
        wrapped.finish_gradient_synchronization()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    else:
        optimizer = zero.ShardedOptimizer(model.parameters(), torch.optim.SGD, lr=0.5)
        if method == "zero2":
            optimizer.shard_gradients_early()
        model().backward()
        optimizer.reduce_gradients()
    optimizer.step()
    return [(p.detach().float().tolist(), p.dtype) for p in model.parameters()]


@pytest.mark.parametrize("method", ["ddp", "bucketed", "zero1", "zero2"])
def test_parameters_of_several_dtypes_and_of_none_are_trained(method):
    want = [([0.5] * 3, torch.float32), ([0.5] * 4, torch.bfloat16), (0.5, torch.float32),
            ([], torch.float32)]
    assert run_ranks(mixed, 2, method) == [want, want]


def one_cycle(rank):
    ends = []
    for make in (torch.optim.AdamW,
                 lambda p, lr: zero.ShardedOptimizer(p, torch.optim.AdamW, lr=lr)):
        weight = nn.Parameter(torch.ones(3))
        optimizer = make([weight], lr=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
        for _ in range(5):
            weight.grad = weight.detach().clone()
            optimizer.step()
            schedule.step()
        ends.append(weight.detach())
    dist.barrier()
    return (ends[0] - ends[1]).abs().max().item()


def test_a_schedule_that_changes_betas_reaches_the_shards():
    assert max(run_ranks(one_cycle, 2)) < 1e-7


def clipped(rank):
    piece = nn.Parameter(torch.ones(2, dtype=torch.float64))
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="max_norm"):
            zero.clip_sharded([piece], wrong)
    piece.grad = torch.full((2,), 1 / 3, dtype=torch.float64)
    norm = zero.clip_sharded(piece, 0.5)
    return norm.dtype, norm.item(), piece.grad.norm().item()


def test_clipping_of_pieces_keeps_64_bits_and_refuses_what_is_no_length():
    for dtype, norm, after in run_ranks(clipped, 2):
        assert dtype == torch.float64 and abs(norm - 2 / 3) < 1e-12, f"{norm} in {dtype}"
        assert abs(after - 0.5 / math.sqrt(2)) < 1e-9, "a single tensor is clipped as well"
