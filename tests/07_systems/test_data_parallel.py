"""Data parallel and ZeRO: equal to one process, equal to each other to the bit, bytes exact."""

import functools

import pytest
import torch
import torch._dynamo        # torch's DDP asks for it: once here, not in every forked rank
import torch.distributed as dist

import collectives
import ddp
import equality
import pieces
import zero
from memory import bytes_by_kind
from gloo_ranks import RankFailed, run_ranks
from ranks import leave_group

torch.set_num_threads(1)


@functools.cache
def trained(method, ranks):
    return run_ranks(equality.train_data_parallel, ranks, method, ranks)


@functools.cache
def alone():
    return equality.train_alone()


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("method", equality.DATA_PARALLEL)
def test_every_method_trains_as_one_process_does(method, ranks):
    gap = equality.gaps(trained(method, ranks), *alone())
    assert gap["loss_gap"] <= 1e-6 and gap["weight_gap"] <= 1e-5, f"{method} on {ranks}: {gap}"


@pytest.mark.parametrize("method", [m for m in equality.DATA_PARALLEL if m != "ddp"])
def test_every_method_is_bit_equal_to_ddp(method):
    ours, theirs = trained(method, 2)[0], trained("ddp", 2)[1]
    assert ours["losses"] == theirs["losses"]
    for name, p in ours["weights"].items():
        assert torch.equal(p, theirs["weights"][name]), f"{method}: {name} differs from DDP's"


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("method", equality.DATA_PARALLEL)
def test_bytes_held_and_sent_are_the_formulas(method, ranks):
    stage = int(method[-1]) if method.startswith("zero") else 0
    parameters = sum(p.numel() for p in equality.seed_model().parameters())
    for result in trained(method, ranks):
        assert result["held"] == bytes_by_kind(parameters, "fp32", stage, ranks), method
        sent = collectives.sent_bytes(result["calls"]) / (4 * parameters * (ranks - 1) / ranks)
        assert sent == (3 if stage == 3 else 2), f"{method} sent {sent} P (N-1)/N, stage {stage}"


def test_calls_per_step():
    tensors = len(list(equality.seed_model().parameters()))
    counts = {m: len(trained(m, 2)[0]["calls"]) for m in equality.DATA_PARALLEL}
    assert counts["naive"] == counts["ddp"] == tensors
    assert counts["flat"] == 1 and 1 < counts["bucketed"] < tensors
    assert counts["zero1"] == 2, "one reduce-scatter and one all-gather"
    assert counts["zero2"] == tensors + 1


@pytest.mark.exercise("7.5")
@pytest.mark.parametrize("name, want", [("all_reduce", 150), ("all_gather", 75),
                                        ("reduce_scatter", 75), ("broadcast", 75)])
def test_ring_bytes_by_hand(name, want):
    got = collectives.ring_bytes(name, 100, 4)
    assert got == want, f"{name} of 100 bytes on 4 ranks sends {want} bytes a rank, got {got}"
    assert collectives.ring_bytes(name, 100, 1) == 0, "one rank has nobody to send to"


def gradients(rank, average):
    ps = [torch.nn.Parameter(torch.zeros(s)) for s in ((2, 2), (1,), (3,))]
    ps[0].grad, ps[2].grad = torch.full((2, 2), 1.0 + 2 * rank), torch.arange(3.0) * (rank + 1)
    with collectives.record() as calls:
        average(ps)
    return [p.grad for p in ps], len(calls)


@pytest.mark.parametrize("average, calls", [
    pytest.param(lambda ps: ddp.average_naive(ps), 2, marks=pytest.mark.exercise("7.6")),
    pytest.param(lambda ps: ddp.average_flat(ps), 1, marks=pytest.mark.exercise("7.7"))])
def test_gradients_become_the_mean_in_the_right_number_of_calls(average, calls):
    for grads, made in run_ranks(gradients, 2, average):
        assert grads[0].tolist() == [[2, 2], [2, 2]], f"the mean of 1 and 3 is 2: {grads[0]}"
        assert grads[1] is None, "no gradient: left out"
        assert grads[2].tolist() == [0, 1.5, 3], (
            f"[0, 1, 2] and [0, 2, 4] give [0, 1.5, 3], also after one left out: {grads[2]}")
        assert made == calls, f"want {calls} collectives, got {made}"


@pytest.mark.exercise("7.8")
def test_buckets_start_with_the_last_parameter():
    assert ddp.make_buckets([4, 4, 4], 8) == [[2, 1], [0]], "backward finishes the last one first"
    assert ddp.make_buckets([4, 4, 4], 0) == [[2], [1], [0]], "limit 0: one each"
    assert ddp.make_buckets([1, 100, 1, 1], 10) == [[3, 2], [1], [0]], "too large: a bucket alone"
    assert ddp.make_buckets([2, 2, 2, 2], 4) == [[3, 2], [1, 0]], "exactly full is allowed"
    assert ddp.make_buckets([], 4) == []


def overlap(rank):
    """What happens in which order in one backward of a deep chain."""
    model = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(6)])
    events = []
    wrapped = ddp.BucketedDDP(model, bucket_mb=600 / 2**20)
    launch = wrapped.launch
    wrapped.launch = lambda: (events.append("launch"), launch())
    first = next(model.parameters())
    first.register_post_accumulate_grad_hook(lambda p: events.append("last gradient"))
    wrapped(torch.randn(2, 8)).sum().backward()
    wrapped.finish_gradient_synchronization()
    return events


def test_the_first_bucket_leaves_before_the_last_gradient_exists():
    events = run_ranks(overlap, 2)[0]
    assert events.index("launch") < events.index("last gradient"), events
    assert events.count("launch") >= 3


def accumulate(rank):
    """Two micro-batches with one exchange, an unused layer, a frozen one, tied weights."""
    torch.manual_seed(rank)                             # different on purpose: rank 0's counts
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 4), "unused": torch.nn.Linear(4, 4),
                                 "frozen": torch.nn.Linear(4, 4), "b": torch.nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    model["frozen"].requires_grad_(False)
    model.forward = lambda x: model["b"](model["frozen"](model["a"](x)))
    wrapped = ddp.BucketedDDP(model, 1)
    with collectives.record() as calls:
        with wrapped.no_sync():
            wrapped(torch.full((1, 4), 1.0 + rank)).sum().backward()
        wrapped(torch.full((1, 4), 3.0 + rank)).sum().backward()
        wrapped.finish_gradient_synchronization()
    return {n: (p.detach(), p.grad) for n, p in model.named_parameters()}, len(calls)


def test_accumulation_unused_frozen_and_tied_parameters():
    (first, calls), (second, _) = run_ranks(accumulate, 2)
    assert calls == 1, "no_sync: one exchange for two micro-batches"
    for name, (p, grad) in first.items():
        assert torch.equal(p, second[name][0]), f"{name}: ranks must start with rank 0's weights"
        if "frozen" not in name:
            assert torch.equal(grad, second[name][1]), f"{name}: gradients differ between ranks"


@pytest.mark.exercise("7.9")
def test_pack_by_hand():
    packed = pieces.pack([torch.tensor([1, 2, 3]), torch.tensor([[4], [5]])], 2)
    assert packed.tolist() == [[1, 2, 4], [3, 0, 5]], f"row r is rank r's share: {packed}"
    assert pieces.pack([torch.tensor(7)], 3).tolist() == [[7], [0], [0]], "padding is zero"
    half = pieces.pack([torch.ones(3, dtype=torch.bfloat16)], 2).dtype
    assert half == torch.bfloat16, f"what travels keeps its type: expected bfloat16, got {half}"


@pytest.mark.exercise("7.10")
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_unpack_by_hand(ranks):
    packed = {1: [[1, 2, 3, 4, 5]], 2: [[1, 2, 4], [3, 0, 5]], 3: [[1, 4], [2, 5], [3, 0]]}[ranks]
    first, second = pieces.unpack(torch.tensor(packed), [torch.Size([3]), torch.Size([2, 1])])
    assert first.tolist() == [1, 2, 3] and second.tolist() == [[4], [5]], (first, second)


def pack_by_hand(tensors, ranks):
    """What pieces.pack and unpack should give, element by element: they are other exercises."""
    rows = [[] for _ in range(ranks)]
    for tensor in tensors:
        length = -(-tensor.numel() // ranks)
        values = tensor.flatten().tolist() + [0] * (length * ranks - tensor.numel())
        for rank, row in enumerate(rows):
            row += values[rank * length:(rank + 1) * length]
    return torch.tensor(rows, dtype=tensors[0].dtype)


def unpack_by_hand(packed, shapes):
    tensors, rows = [], packed.tolist()
    for shape in shapes:
        length = -(-shape.numel() // len(rows))
        values = [value for row in rows for value in row[:length]]
        rows = [row[length:] for row in rows]
        tensors.append(torch.tensor(values[:shape.numel()], dtype=packed.dtype).view(shape))
    return tensors


def sharded_step(rank, early):
    torch.manual_seed(0)
    zero.pack, zero.unpack = pack_by_hand, unpack_by_hand       # in this rank's process only
    p, frozen = torch.nn.Parameter(torch.arange(5.0)), torch.nn.Parameter(torch.ones(2), False)
    other = torch.nn.Parameter(torch.zeros(3))
    optimizer = zero.ShardedOptimizer([{"params": [p, frozen, other], "lr": 0.5}],
                                      torch.optim.SGD, lr=9.0)
    if early:
        optimizer.shard_gradients_early()
    optimizer.reduce_gradients()                        # before any backward: nothing to do
    for step in (1, 2):
        for _ in range(step):                           # the second step has two micro-batches
            loss = (p * torch.tensor([1.0, 2, 3, 4, 5])).sum() + 7 * other.sum()
            (loss * (1 + 2 * rank)).backward()
            optimizer.reduce_gradients()                # adds to what was reduced before
        norm = zero.clip_sharded(optimizer.pieces.values(), 1e9)
        held = [optimizer.pieces[x].grad.tolist() for x in (p, other)]
        optimizer.step()
        optimizer.zero_grad()
    return p.tolist(), held, norm.item(), optimizer.pieces[p].grad


@pytest.mark.exercise("7.11")
@pytest.mark.parametrize("early", [False])
def test_reduce_gradients_gives_each_rank_the_mean_of_its_piece(early):
    results = run_ranks(sharded_step, 2, early)
    want = [[[4, 8, 12], [28, 28]], [[16, 20, 0], [28, 0]]]     # two micro-batches, padded
    for rank, (weights, held, norm, after) in enumerate(results):
        assert held == want[rank], f"rank {rank} holds {held}, expected the mean {want[rank]}"
        assert abs(norm - (16 * 55 + 3 * 28 ** 2) ** 0.5) < 1e-4, f"joint norm {norm}, not 56.85"
        assert weights == [i - 0.5 * 6 * (i + 1) for i in range(5)], weights
        assert after is None, "zero_grad forgets the pieces' gradients as well"


def test_zero_2_gives_the_same_with_early_sharding():
    assert run_ranks(sharded_step, 2, True) == run_ranks(sharded_step, 2, False)


def fsdp_bf16(rank):
    model = zero.FSDP(equality.seed_model(), compute_dtype=torch.bfloat16)
    ids, targets = equality.seed_batch(0)
    empty = [t.untyped_storage().nbytes() for shard in model.shards for t in shard.whole]
    with collectives.record() as calls:
        loss = model(ids, targets)[1]
        loss.backward()
        model.finish_gradient_synchronization()
    left = [t.untyped_storage().nbytes() for shard in model.shards for t in shard.whole]
    return (loss.item(), empty, left, calls, {p.grad.dtype for p in model.parameters()},
            {n: p.dtype for n, p in model.gather_full_params().items()})


def test_fsdp_computes_in_bf16_and_keeps_fp32_and_nothing_whole():
    parameters = sum(p.numel() for p in equality.seed_model().parameters())
    want = equality.seed_model()(*equality.seed_batch(0))[1].item()
    for loss, empty, left, calls, grads, gathered in run_ranks(fsdp_bf16, 2):
        assert sum(empty) == sum(left) == 0, "between steps no whole weight may be in memory"
        assert 0 < abs(loss - want) < 0.05, f"bf16 loss {loss}, fp32 {want}"
        assert grads == {torch.float32} and set(gathered.values()) == {torch.float32}
        assert set(gathered) == {n for n, _ in equality.seed_model().named_parameters()}
        sent = collectives.sent_bytes(calls, "all_gather")
        assert sent == 2 * 2 * parameters / 2, "two gatherings, two bytes a number"


def torch_engines(rank, engine):
    model = equality.seed_model()
    if engine == "ddp":
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
    else:
        from torch.distributed.fsdp import fully_shard
        for block in model.blocks:
            fully_shard(block)
        wrapped = fully_shard(model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=equality.RATE)
    losses = []
    for step in range(5):
        ids, targets = (ddp.shard_of(t, rank, 2) for t in equality.seed_batch(step))
        loss = wrapped(ids, targets)[1]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(equality.mean_over_ranks(loss))
    full = {n: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach()
            for n, p in model.named_parameters()}
    return {"losses": losses, "weights": full}


@pytest.mark.parametrize("engine, ours", [("ddp", "bucketed"), ("fsdp2", "zero3")])
def test_ours_against_pytorchs_own_engine(engine, ours):
    theirs = run_ranks(torch_engines, 2, engine)
    gap = equality.gaps(trained(ours, 2), theirs[0]["losses"], theirs[0]["weights"])
    assert gap["loss_gap"] <= 1e-6 and gap["weight_gap"] <= 1e-5, f"{ours} and {engine}: {gap}"


def leave_before_ddp_ends(rank):
    """Sum, leave, free DDP: when the group ends, gloo's thread has a tensor in its hands that it
    can only free with Python's lock."""
    wrapped = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
    wrapped(torch.ones(1, 2)).sum().backward()
    dist.all_reduce(torch.ones(1_000_000), async_op=True)
    leave_group()
    del wrapped
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)


def test_leaving_the_group_before_ddp_ends_does_not_wait_for_ever():
    assert run_ranks(leave_before_ddp_ends, 2, timeout=20) == [None, None]


def fail(rank, how):
    if rank == 1:
        if how == "raise":
            raise ValueError("planted")
        import os
        os._exit(9)
    dist.barrier()


@pytest.mark.parametrize("how, message", [("raise", "planted"), ("die", "rank")])
def test_a_rank_that_fails_fails_the_call_at_once(how, message):
    import time
    start = time.monotonic()
    with pytest.raises(RankFailed, match=message):
        run_ranks(fail, 2, how, timeout=30)
    assert time.monotonic() - start < 15
