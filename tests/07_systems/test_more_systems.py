"""More inputs for the exercises of chapter 7: groups, layouts in memory, uneven sizes, dtypes."""

import math

import pytest
import torch
import torch.distributed as dist

import collectives
import ddp
import fused_kernels
from fused_kernels import chunked_linear_cross_entropy, loss_and_gradient_
from gloo_ranks import run_ranks
from memory import bytes_by_kind, storage_bytes
from moe import balance_loss, route, update_bias, within_capacity
from pieces import pack, unpack
from pipeline_parallel import gpipe, live_micros, one_f_one_b
from precision import LossScaler, spacing
from tensor_parallel import lookup_own_rows, split_dimension
from tiled_attention import online_softmax_step, tiled_backward

torch.set_num_threads(1)
D = torch.float64


def draw(*shape, seed=0, dtype=D):
    return torch.randn(*shape, dtype=D, generator=torch.Generator().manual_seed(seed)).to(dtype)


def near(got, want, said="", tolerance=1e-9):
    got, want = torch.as_tensor(got, dtype=D), torch.as_tensor(want, dtype=D)
    assert got.shape == want.shape, f"{said}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    assert torch.allclose(got, want, rtol=tolerance, atol=tolerance), f"{said}: {got}, not {want}"


@pytest.mark.exercise("7.1")
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision, each", [("fp32", (4, 4, 8)), ("mixed", (2, 2, 12))])
def test_each_stage_shares_one_kind_more_rounded_up(stage, precision, each):
    got = bytes_by_kind(10, precision, stage, 3)
    for number, (kind, size) in enumerate(zip(("optimizer", "gradients", "weights"), each[::-1]), 1):
        assert got[kind] == size * (4 if stage >= number else 10), f"stage {stage}: {kind}"
    for bad in ({"precision": "fp7"}, {"zero_stage": 4}, {"zero_stage": -1}, {"ranks": 0}):
        with pytest.raises(ValueError):
            bytes_by_kind(10, **bad)


@pytest.mark.exercise("7.2")
def test_storages_of_any_kind_from_any_iterable():
    a, b = torch.zeros(10), torch.zeros(3, dtype=torch.float64)
    assert storage_bytes(iter([a, a[2:4], a.view(2, 5), b, b.clone()])) == 40 + 24 + 24
    assert storage_bytes([]) == 0 and storage_bytes([torch.zeros(8, dtype=torch.int8)[:1]]) == 8
    assert storage_bytes([a[0:5], a[5:10]]) == 40, "two halves of one storage"


@pytest.mark.exercise("7.3")
def test_tiles_of_unlike_sizes_for_many_rows_and_masked_tiles():
    scores, v = 3 * draw(2, 3, 7), draw(2, 7, 4, seed=1)
    scores[0, 1, :5] = -math.inf                 # a row that sees nothing in the first tiles
    m, l, acc = torch.full((2, 3), -math.inf, dtype=D), torch.zeros(2, 3, dtype=D), torch.zeros(
        2, 3, 4, dtype=D)
    for a, b in ((0, 2), (2, 3), (3, 5), (5, 7)):
        m, l, acc = online_softmax_step(m, l, acc, scores[..., a:b], v[:, a:b])
        assert not torch.isnan(acc).any() and not torch.isnan(l).any()
        near(m, scores[..., :b].amax(-1), f"after {b} keys: m is -inf where nothing was seen")
    near(m + l.log(), scores.logsumexp(-1), "m + log l is the LSE")
    near(acc / l[..., None], scores.softmax(-1) @ v, "acc / l is the average")


@pytest.mark.exercise("7.4")
@pytest.mark.parametrize("causal, T, S, tile", [(True, 5, 5, 2), (False, 3, 5, 2), (True, 3, 6, 4),
                                                (False, 4, 4, 64), (True, 4, 4, 1)])
def test_gradients_of_several_heads_equal_autograds_for_any_tile(causal, T, S, tile):
    q, k, v = (draw(2, 3, n, 6, seed=i).requires_grad_() for i, n in enumerate((T, S, S)))
    scores = q @ k.mT / math.sqrt(6)
    if causal:
        scores = scores.masked_fill(~torch.ones(T, S, dtype=torch.bool).tril(S - T), -math.inf)
    o, d_o = scores.softmax(-1) @ v, draw(2, 3, T, 6, seed=9)
    want = torch.autograd.grad(o, (q, k, v), d_o)
    with torch.no_grad():
        got = tiled_backward(q, k, v, o, scores.logsumexp(-1), d_o, causal, tile)
    for name, a, b in zip(("dq", "dk", "dv"), got, want):
        near(a, b, f"{name}, tile {tile}")


@pytest.mark.exercise("7.5")
def test_ring_bytes_by_ranks_and_payload():
    for n in (1, 2, 5, 7):                       # 30 bytes do not divide by 7: no rounding
        one = 30 * (n - 1) / n
        for name, trips in (("all_gather", 1), ("reduce_scatter", 1), ("broadcast", 1),
                            ("all_reduce", 2)):
            assert collectives.ring_bytes(name, 30, n) == pytest.approx(trips * one), \
                f"{name} on {n} ranks"


def in_groups(rank, average):
    """Each rank alone in a group of its own, then both; gradients that do not lie row by row."""
    alone = [dist.new_group([r]) for r in (0, 1)][rank]
    found = []
    for group in (alone, None):
        ps = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(4))]
        ps[0].grad = (torch.arange(6.0).view(3, 2) * (1 + 2 * rank)).T
        ps[1].grad = torch.ones(4, dtype=torch.float32) * rank
        average(iter(ps), group)                 # any iterable
        found.append([p.grad.tolist() for p in ps])
    return found


def of_two_dtypes(rank, average):
    ps = [torch.nn.Parameter(torch.zeros(2, dtype=t)) for t in (torch.bfloat16, torch.float32)]
    for p in ps:
        p.grad = torch.tensor([1 + 2 ** -12, 3]).to(p.dtype) * (1 + 2 * rank)
    average(ps)
    return [(p.grad.dtype, p.grad.tolist()) for p in ps]


@pytest.mark.parametrize("average", [
    pytest.param(ddp.average_naive, marks=pytest.mark.exercise("7.6")),
    pytest.param(ddp.average_flat, marks=pytest.mark.exercise("7.7"))])
def test_gradients_of_two_dtypes_keep_their_own(average):
    for found in run_ranks(of_two_dtypes, 2, average):
        assert found == [(torch.bfloat16, [2, 6]), (torch.float32, [2 + 2 ** -11, 6])], (
            f"beside a gradient in bf16 one in fp32 keeps all its digits: {found}")


@pytest.mark.parametrize("average", [
    pytest.param(ddp.average_naive, marks=pytest.mark.exercise("7.6")),
    pytest.param(ddp.average_flat, marks=pytest.mark.exercise("7.7"))])
def test_the_mean_is_over_the_group_and_layouts_do_not_matter(average):
    first = torch.arange(6.0).view(3, 2).T
    for rank, (alone, both) in enumerate(run_ranks(in_groups, 2, average)):
        assert alone == [(first * (1 + 2 * rank)).tolist(), [float(rank)] * 4], \
            "in a group of one rank its gradients stay as they are"
        assert both == [(first * 2).tolist(), [0.5] * 4], f"both: {both}"


@pytest.mark.exercise("7.7")
def test_without_any_gradient_nothing_is_sent():
    ddp.average_flat([torch.nn.Parameter(torch.zeros(2))])      # there is no group here at all
    ddp.average_flat([])


@pytest.mark.exercise("7.8")
@pytest.mark.parametrize("sizes, limit, want", [
    ([3, 5, 2, 4], 7, [[3, 2], [1], [0]]), ([3, 4, 2, 5], 7, [[3, 2], [1, 0]]),
    ([9, 1, 9], 8, [[2], [1], [0]]), ([1] * 5, 2, [[4, 3], [2, 1], [0]]), ([0, 0], 0, [[1, 0]])])
def test_buckets_of_unlike_parameters(sizes, limit, want):
    got = ddp.make_buckets(sizes, limit)
    if sizes == [0, 0]:                          # nothing to send: how it is grouped is open
        assert sorted(sum(got, [])) == [0, 1]
        return
    assert got == want, f"{sizes} in buckets of {limit}: {got}, not {want}"


@pytest.mark.exercise("7.9")
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_pack_of_any_layout_shape_and_dtype(ranks):
    tensors = [draw(2, 3).T, draw(7)[::2], draw(()), draw(2, 2, 2).transpose(0, 2),
               draw(0)[:, None], draw(3)]         # one without elements, and what stands behind it
    got = pack(tensors, ranks)
    rows = [[] for _ in range(ranks)]
    for tensor in tensors:
        values = tensor.reshape(-1).tolist()
        length = math.ceil(len(values) / ranks)
        values += [0.0] * (length * ranks - len(values))
        for r in range(ranks):
            rows[r] += values[r * length:(r + 1) * length]
    assert got.tolist() == rows, f"{ranks} ranks"
    assert pack([t.half() for t in tensors], ranks).dtype == torch.float16, "the dtype is kept"
    got += 1
    assert tensors[0][0, 0] == draw(2, 3)[0, 0], "a copy: the tensors stay as they are"


@pytest.mark.exercise("7.10")
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_unpack_into_every_shape(ranks):
    tensors, rows = [draw(2, 3), draw(4, seed=1), draw((), seed=2), draw(0, 2), draw(1, 5, seed=3)
                     ], None                    # one has no elements, and no column
    for tensor in tensors:
        flat = tensor.reshape(-1)
        length = math.ceil(len(flat) / ranks)
        part = torch.cat([flat, torch.zeros(length * ranks - len(flat), dtype=D)])
        part = part.view(ranks, length)
        rows = part if rows is None else torch.cat([rows, part], dim=1)
    for packed in (rows, rows.T.contiguous().T):        # also where columns lie side by side
        got = unpack(packed, [t.shape for t in tensors])
        assert [t.shape for t in got] == [t.shape for t in tensors]
        for a, b in zip(got, tensors):
            assert torch.equal(a, b), f"{ranks} ranks: {a}, not {b}"


@pytest.mark.exercise("7.12")
@pytest.mark.parametrize("dtype, tolerance", [(D, 1e-12), (torch.float32, 1e-6),
                                              (torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
def test_loss_and_gradient_in_every_dtype_with_a_scale_and_left_out_rows(dtype, tolerance):
    exact, targets = 3 * draw(4, 5), torch.tensor([1, -100, 4, 0])
    logits = exact.to(dtype)
    exact = logits.to(D).requires_grad_()
    want = torch.nn.functional.cross_entropy(exact, targets, reduction="none", ignore_index=-100)
    (0.25 * want.sum()).backward()
    given = logits.T.contiguous().T                  # not contiguous, changed in place
    losses = loss_and_gradient_(given, targets, torch.tensor(0.25))
    near(losses, want.detach(), "the losses", 1e-12 if dtype == D else 1e-5)
    near(given, exact.grad, f"the logits become the gradient, {dtype}", tolerance)
    assert given.dtype == dtype and losses.dtype == (D if dtype == D else torch.float32), \
        "16 bits are computed in fp32, fp64 is kept"
    big = torch.tensor([[1e4, 0.0]], dtype=dtype)
    assert loss_and_gradient_(big, torch.tensor([1]), 1.0).isfinite().all()
    for bad in (5, -1):
        with pytest.raises(IndexError):
            loss_and_gradient_(draw(1, 5), torch.tensor([bad]), 1.0)


def in_place_by_torch(logits, targets, scale):
    """What exercise 7.12 gives, by torch's own gradient."""
    wide = logits.detach().to(torch.promote_types(logits.dtype, torch.float32)).requires_grad_()
    with torch.enable_grad():
        losses = torch.nn.functional.cross_entropy(wide, targets, reduction="none")
        gradient, = torch.autograd.grad(losses.sum(), wide)
    logits.copy_(gradient * scale)
    return losses.detach()


@pytest.mark.exercise("7.13")
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_uneven_chunks_give_the_mean_over_all_counted_targets(chunk, monkeypatch):
    monkeypatch.setattr(fused_kernels, "loss_and_gradient_", in_place_by_torch)    # exercise 7.12
    hidden, weight = draw(7, 3).requires_grad_(), draw(5, 3, seed=1).requires_grad_()
    targets = torch.tensor([0, 4, -100, 2, 2, -100, 1])
    want = torch.nn.functional.cross_entropy(hidden @ weight.T, targets)
    dh, dw = torch.autograd.grad(want, (hidden, weight))
    with torch.no_grad():
        loss, got_h, got_w = chunked_linear_cross_entropy(hidden, weight, targets, chunk)
        near(loss, want.detach(), f"chunks of {chunk}")
        near(got_h, dh, "hidden's gradient"), near(got_w, dw, "weight's gradient")
        none = chunked_linear_cross_entropy(hidden, weight, torch.full((7,), -100), chunk)
        assert all((x == 0).all() for x in none), "nothing counts: zeros"
        loss, got_h, got_w = chunked_linear_cross_entropy(hidden[:0], weight, targets[:0], chunk)
        assert loss == 0 and got_h.shape == (0, 3), "no rows at all: nothing counts"
        near(got_w, torch.zeros(5, 3), "no rows: weight's gradient")
        half = chunked_linear_cross_entropy(hidden.bfloat16(), weight.bfloat16(), targets, chunk)
        assert half[1].dtype == half[2].dtype == torch.bfloat16
        near(half[0], want.detach(), "bf16", 0.03)


@pytest.mark.exercise("7.14")
@pytest.mark.parametrize("name, want", [
    ("embedding.weight", 0), ("lm_head.weight", 0), ("embedding.weights", None),
    ("norm.weight", None), ("blocks.3.mlp.down.weight", 1), ("blocks.3.mlp.down.bias", None),
    ("blocks.11.mlp.up.weight", 0), ("blocks.0.mlp.up.bias", 0), ("mlp.up.weight", None),
    ("head.down.weight", None), ("blocks.0.mlp_norm.weight", None)])
def test_the_split_of_more_names(name, want):
    assert split_dimension(name) == want, name


@pytest.mark.exercise("7.15")
@pytest.mark.parametrize("first", [0, 2, 4])
def test_each_ranks_share_of_a_batch_of_rows(first):
    table = draw(6, 3)
    rows = table[first:first + 2].clone().requires_grad_()
    ids = torch.tensor([[0, 1, 2, 5], [4, 4, 3, 0]])
    got = lookup_own_rows(ids, rows, first)
    for b in range(2):
        for t in range(4):
            own = first <= ids[b, t] < first + 2
            near(got[b, t].detach(), table[ids[b, t]] if own else torch.zeros(3), f"{b}, {t}")
    got.sum().backward()
    near(rows.grad, torch.stack([(ids == first + i).sum() * torch.ones(3) for i in range(2)]))


@pytest.mark.exercise("7.16")
@pytest.mark.parametrize("stages, micros", [(1, 1), (3, 2), (2, 5)])
def test_gpipe_of_any_size(stages, micros):
    one = [("F", i) for i in range(micros)] + [("B", i) for i in range(micros)[::-1]]
    got = gpipe(stages, micros)
    assert got == [one] * stages
    got[0].append("x")
    assert stages == 1 or got[1] == one, "each stage has a list of its own"


@pytest.mark.exercise("7.17")
@pytest.mark.parametrize("stages, micros", [(1, 3), (4, 2), (3, 3), (4, 6), (2, 1)])
def test_one_forward_one_backward_of_any_size(stages, micros):
    for s, order in enumerate(one_f_one_b(stages, micros)):
        for kind in "FB":
            assert [m for k, m in order if k == kind] == list(range(micros)), f"stage {s}: {order}"
        warmup = min(stages - 1 - s, micros)
        kinds = "F" * warmup + "FB" * (micros - warmup) + "B" * warmup
        assert "".join(k for k, _ in order) == kinds, f"stage {s} of {stages}: {order}"


@pytest.mark.exercise("7.18")
@pytest.mark.parametrize("kinds, want", [("", 0), ("FB", 1), ("FFBFFBBB", 3), ("FBFFBB", 2),
                                         ("FFFBBFBB", 3)])
def test_live_micro_batches(kinds, want):
    assert live_micros([(k, 7) for k in kinds]) == want


@pytest.mark.exercise("7.19")
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_each_token_is_routed_by_its_own_scores(k, biased):
    scores = draw(6, 4).softmax(-1).requires_grad_()
    bias = torch.tensor([0.5, -0.2, 0.0, 0.3], dtype=D) if biased else None
    shares, experts = route(scores, k, bias)
    for i in range(6):
        by = sorted(range(4), key=lambda e: -(scores[i, e] + (bias[e] if biased else 0)))[:k]
        assert experts[i].tolist() == by, f"token {i}"
        want = torch.stack([scores[i, e] for e in by])
        near(shares[i].detach(), (want / want.sum() if k > 1 else want).detach(), f"token {i}")
    assert shares.requires_grad, "the router learns through the shares"


@pytest.mark.exercise("7.20")
@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 9])
def test_first_choices_come_first_in_each_expert(capacity):
    experts = torch.tensor([[0, 1], [0, 2], [2, 0], [0, 1], [1, 0]])
    used, want = [0, 0, 0, 0], torch.zeros(5, 2, dtype=torch.bool)
    for choice in (0, 1):
        for token in range(5):
            e = experts[token, choice]
            want[token, choice] = used[e] < capacity
            used[e] += 1
    got = within_capacity(experts, 4, capacity)
    assert got.dtype == torch.bool and torch.equal(got, want), f"{got}, not {want}"


@pytest.mark.exercise("7.21")
def test_balance_by_counts_and_mean_probabilities():
    scores, experts = draw(5, 4).softmax(-1).requires_grad_(), torch.tensor(
        [[0, 1], [0, 2], [2, 0], [0, 1], [1, 0]])
    f = torch.tensor([5, 3, 2, 0], dtype=D) / 10
    want = 4 * sum(f[e] * scores[:, e].mean() for e in range(4))
    got = balance_loss(scores, experts)
    near(got.detach(), want.detach(), "", 1e-6)
    got.backward()
    near(scores.grad, (4 * f / 5).expand(5, 4), "the gradient of P alone", 1e-6)
    empty = balance_loss(torch.zeros(0, 4), torch.zeros(0, 2, dtype=torch.long))
    assert torch.is_tensor(empty) and empty == 0, "no tokens: zero, not 0/0, as a tensor"


@pytest.mark.exercise("7.22")
@pytest.mark.parametrize("rate", [1e-3, 0.5])
def test_a_mean_that_is_no_whole_number_and_counts_of_integers(rate):
    bias, counts = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([3, 4, 4])
    near(update_bias(bias, counts, rate), torch.tensor([0.1 + rate, 0.2 - rate, 0.3 - rate]),
         "the mean is 11/3: four is more", 1e-6)
    near(update_bias(bias, torch.tensor([2, 2, 2]), rate), bias, "equal: unchanged", 1e-6)
    near(update_bias(bias, torch.tensor([0.0, 900, 0]), rate),
         torch.tensor([0.1 + rate, 0.2 - rate, 0.3 + rate]), "a step of fixed size", 1e-6)


@pytest.mark.exercise("7.23")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, D])
@pytest.mark.parametrize("value", [1.0, 0.9, 1.5, 2.0, 3.7, 1000.0, 0.0625])
def test_the_next_larger_number_is_that_far_away(value, dtype):
    here = torch.tensor(value, dtype=dtype)
    after = here + torch.tensor(spacing(value, dtype), dtype=dtype)
    step = spacing(value, dtype)
    assert after > here and math.log2(step) == int(math.log2(step))
    if dtype in (torch.float32, D):
        up = torch.nextafter(here, torch.tensor(math.inf, dtype=dtype))
        assert step == up.double() - here.double(), f"spacing({value}, {dtype}) is {step}"
    else:
        lost = here.double() + 0.49 * step
        assert lost.to(dtype) == here, f"{0.49 * step} is less than half: it is lost"


@pytest.mark.exercise("7.24")
def test_the_factor_halves_doubles_and_counts_again():
    scaler = LossScaler(8.0, interval=2)
    p, q = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.1}], lr=1.0)

    def step(gradient, other=8.0):
        p.grad, q.grad = torch.full((2,), gradient), torch.full((1,), other)
        return scaler.step(optimizer), scaler.factor
    assert step(8.0) == (True, 8.0)
    near(p.detach(), [-1.0, -1.0], "divided by 8"), near(q.detach(), [-0.1], "its own rate", 1e-6)
    near(p.grad, [1.0, 1.0], "left unscaled")
    assert step(8.0, math.inf) == (False, 4.0), "one infinity in the other group skips all"
    near(p.detach(), [-1.0, -1.0], "skipped")
    assert step(4.0) == (True, 4.0), "the count of good steps began again"
    assert step(4.0) == (True, 8.0) and step(8.0) == (True, 8.0) and step(8.0) == (True, 16.0)
    assert step(math.nan) == (False, 8.0)
