"""More inputs for the exercises of chapter 4: several rows, groups and steps, edges, other forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import optimizers
from batches import copies, pack
from generate import KVCache, keep_top_p, penalise_repeats
from gpt import RMSNorm, causal_attention, rotary
from ngram_embedding import tokens_before
from optimizers import (AdamW, Muon, clip_gradients, cosine_schedule, linear_schedule,
                        orthogonalise)
from training_loop import SpikeGuard

torch.set_num_threads(1)
D = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=D, generator=torch.Generator().manual_seed(seed))


def near(got, want, said="", tolerance=1e-9):
    got, want = torch.as_tensor(got, dtype=D), torch.as_tensor(want, dtype=D)
    assert got.shape == want.shape, f"{said}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    assert torch.allclose(got, want, rtol=tolerance, atol=tolerance), \
        f"{said}: got {got}, not {want}"


@pytest.mark.exercise("4.1")
@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_every_token_is_normalised_by_itself_with_this_eps_and_gain(eps):
    norm, x = RMSNorm(4, eps).double(), 1 + 2 * draw(2, 3, 4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1 / 3, 2, 0, -1], dtype=D))
        want = [[[x[b, t, c] / math.sqrt((x[b, t] ** 2).mean() + eps) * norm.weight[c]
                  for c in range(4)] for t in range(3)] for b in range(2)]
        near(norm(x), torch.tensor(want), f"eps {eps}")
        near(norm(torch.zeros(1, 4, dtype=D)), torch.zeros(1, 4), "zeros stay zeros")
        near(norm(x.transpose(0, 1)), norm(x).transpose(0, 1), "heads come as a transposed view")


@pytest.mark.exercise("4.2")
def test_each_row_turns_by_its_own_positions():
    x, angle = draw(2, 3, 4, 6), draw(2, 1, 4, 3, seed=1)
    for cos, sin in ((angle.cos(), angle.sin()), (angle[0, 0].cos(), angle[0, 0].sin())):
        got, wide = rotary(x, cos, sin), (2, 3, 4, 3)
        c, s = cos.broadcast_to(wide), sin.broadcast_to(wide)
        for i in range(3):
            a, b = x[..., i], x[..., i + 3]
            near(got[..., i], a * c[..., i] - b * s[..., i], f"channel {i}")
            near(got[..., i + 3], a * s[..., i] + b * c[..., i], f"channel {i + 3}")
    assert rotary(x.bfloat16(), cos.float(), sin.float()).dtype == torch.bfloat16, "x's dtype"


@pytest.mark.exercise("4.3")
@pytest.mark.parametrize("T, total", [(4, 4), (2, 5), (1, 3)])
def test_attention_query_by_query_in_each_head_and_row(T, total):
    q, k, v = draw(2, 3, T, 6), 2 * draw(2, 3, total, 6, seed=1), draw(2, 3, total, 6, seed=2)
    mask = draw(2, 1, T, total, seed=3) > -0.3
    mask[..., 0] = True
    for given in (None, mask):
        got = causal_attention(q, k, v, given)
        for b in range(2):
            for h in range(3):
                for t in range(T):
                    sees = [s for s in range(total) if (
                        s <= total - T + t if given is None else given[b, 0, t, s])]
                    weight = [math.exp(q[b, h, t] @ k[b, h, s] / math.sqrt(6)) for s in sees]
                    want = sum(w * v[b, h, s] for w, s in zip(weight, sees)) / sum(weight)
                    near(got[b, h, t], want, f"row {b}, head {h}, query {t}", 1e-5)


@pytest.mark.exercise("4.3")
def test_more_queries_than_positions_need_a_mask_and_low_scores_hide_nothing_less():
    q, k, v = draw(1, 2, 3, 4), draw(1, 2, 2, 4, seed=1), draw(1, 2, 2, 4, seed=2)
    with pytest.raises(ValueError):
        causal_attention(q, k, v)
    both = torch.ones(1, 1, 3, 2, dtype=torch.bool)
    near(causal_attention(q, k, v, both), nn.functional.scaled_dot_product_attention(q, k, v),
         "with a mask any number of queries may look", 1e-5)
    k, both = q.flip(2), torch.ones(1, 1, 3, 3, dtype=torch.bool)
    near(causal_attention(q, k, k, both), nn.functional.scaled_dot_product_attention(q, k, k),
         "a mask that hides nothing hides nothing", 1e-5)
    q, k = torch.full((1, 1, 2, 4), 1e3), torch.full((1, 1, 2, 4), -1e3)
    got = causal_attention(q, k, torch.tensor([[[[1.0], [2]]]]))[0, 0, :, 0]
    near(got, [1, 1.5], "all scores are -2,000,000: a later key must be lower still, at -inf")


@pytest.mark.exercise("4.4")
def test_the_cosine_at_its_edges():
    assert [cosine_schedule(s, 10, 4) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]
    near(cosine_schedule(4, 10, 4, 0.3), 1.0, "the fall begins at 1")
    for s in range(4, 11):
        want = 0.3 + 0.7 * (1 + math.cos(math.pi * (s - 4) / 6)) / 2
        near(cosine_schedule(s, 10, 4, 0.3), want, f"step {s}")
    near(cosine_schedule(25, 10, 4, 0.3), 0.3, "after the end it stays at the floor")
    near(cosine_schedule(0, 10, 4, 0.3), 0.25, "the warm-up knows no floor")
    near(cosine_schedule(0, 10), 1.0, "without warm-up")
    assert math.isfinite(cosine_schedule(3, 3, 3)), "all steps are warm-up: no division by zero"


@pytest.mark.exercise("4.5")
def test_the_line_at_its_edges():
    for warmdown in (1.0, 0.5, 0.2):
        for s in range(13):
            want = (s + 1) / 3 if s < 3 else max(0.0, min(1.0, (10 - s) / (warmdown * 10)))
            near(linear_schedule(s, 10, 3, warmdown), want, f"step {s}, warmdown {warmdown}")
    assert linear_schedule(5, 10, 0, 0.0) == 1.0, "no warm-down: the plateau goes on"
    assert linear_schedule(10, 10, 0, 0.0) == 0.0, "and ends with the steps"
    for s in range(6, 10):                              # the last 3.5 of ten steps
        near(linear_schedule(s, 10, 0, 0.35), min(1.0, (10 - s) / 3.5), f"step {s}, warmdown 0.35")


def with_gradients(*grads):
    parameters = []
    for g in grads:
        parameters.append(nn.Parameter(torch.ones(2, 3) if g is None else torch.ones_like(g)))
        parameters[-1].grad = None if g is None else g.clone()
    return parameters


@pytest.mark.exercise("4.6")
@pytest.mark.parametrize("form", [list, iter, tuple])
def test_clipping_takes_any_iterable_and_all_shapes(form):
    grads = [draw(2, 3), None, draw(4, seed=1), draw(1, 2, 2, seed=2)]
    joint = math.sqrt(sum((g ** 2).sum() for g in grads if g is not None))
    for most in (0.5 * joint, 2 * joint):
        ps = with_gradients(*grads)
        near(clip_gradients(form(ps), most), joint, "the length before clipping")
        for p, g in zip(ps, grads):
            assert (p.grad is None) == (g is None)
            assert (p == 1).all(), "the gradients are scaled, never the weights"
            if g is not None:
                near(p.grad, g * min(1.0, most / joint), f"limit {most:.2f}", 1e-5)
    assert clip_gradients(iter([]), 1.0).shape == (), "no parameters: a scalar 0"
    assert clip_gradients(form(with_gradients(None, None)), 1.0) == 0, "no gradients at all: 0"
    ps = with_gradients(torch.tensor([3.0]), torch.tensor([4.0]))
    ps[0].requires_grad_(False)
    assert clip_gradients(form(ps), 1.0) == 5, "ALL gradients: also of a parameter frozen since"
    large = with_gradients(torch.tensor([1e6]))
    assert clip_gradients(form(large), math.inf) == 1e6 == large[0].grad, "no limit, no clipping"
    zeros = with_gradients(torch.zeros(3))
    assert clip_gradients(form(zeros), 1.0) == 0 and torch.equal(zeros[0].grad, torch.zeros(3))


@pytest.mark.exercise("4.7")
@pytest.mark.parametrize("lazy", [False, True])
def test_each_parameter_counts_its_own_steps_and_each_group_has_its_own_options(lazy):
    a, b, c = (nn.Parameter(draw(*shape, seed=i)) for i, shape in enumerate([(2, 3), (4,), (3, 2)]))
    options = [dict(lr=0.1, betas=(0.8, 0.9), eps=0.01, weight_decay=0.2, lazy=lazy),
               dict(lr=0.03, betas=(0.5, 0.7), eps=1e-3, weight_decay=0.0, lazy=lazy)]
    ours = AdamW([{"params": [b, a], **options[0]}, {"params": [c], **options[1]}])
    want = {p: [p.detach().clone(), 0, 0.0, 0.0, o] for p, o in zip(
        (a, b, c), (options[0], options[0], options[1]))}
    for step in range(4):
        for i, p in enumerate((a, b, c)):
            # b has no gradient in the first two steps: its count starts later
            p.grad = None if p is b and step < 2 else draw(*p.shape, seed=10 * step + i)
            if p.grad is None:
                continue
            x, t, m, v, o = want[p]
            (b1, b2), t = o["betas"], t + 1
            m, v = b1 * m + (1 - b1) * p.grad, b2 * v + (1 - b2) * p.grad ** 2
            x = x * (1 - o["lr"] * o["weight_decay"])
            x = x - o["lr"] * (m / (1 - b1 ** t)) / ((v / (1 - b2 ** t)).sqrt() + o["eps"])
            want[p] = [x, t, m, v, o]
        ours.step()
        for name, p in (("a", a), ("b", b), ("c", c)):
            near(p.detach(), want[p][0], f"{name} after step {step + 1}")


@pytest.mark.exercise("4.7")
def test_lazy_rows_without_a_gradient_stand_still():
    table = nn.Parameter(torch.ones(3, 2, dtype=D))
    ours = AdamW([table], lr=0.1, weight_decay=0.5, lazy=True)
    for _ in range(2):
        table.grad = torch.tensor([[0.0, 0], [1, 1], [0, 0]], dtype=D)
        ours.step()
    assert torch.equal(table[0].detach(), torch.ones(2, dtype=D)), "no decay, no step"
    assert (table[1] < 0.85).all()


def newton_schulz(matrix, steps):
    x = matrix / max(matrix.norm().item(), 1e-7)
    for _ in range(steps):
        x = 3.4445 * x - 4.7750 * (x @ x.T) @ x + 2.0315 * (x @ x.T) @ (x @ x.T) @ x
    return x


@pytest.mark.exercise("4.8")
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_the_polynomial_step_by_step(shape, steps):
    matrix = 7 * draw(*shape)
    near(orthogonalise(matrix, steps, D), newton_schulz(matrix, steps), f"{steps} steps", 1e-8)
    near(orthogonalise(100 * matrix, steps, D), newton_schulz(matrix, steps), "any size", 1e-8)
    near(orthogonalise(torch.stack([matrix, 1e-30 * matrix, 1e30 * matrix]), steps, D),
         newton_schulz(matrix, steps).expand(3, *shape), "each of a stack by its own size", 1e-8)
    assert orthogonalise(matrix.float()).dtype == torch.bfloat16, "16 bits unless asked"
    assert torch.equal(orthogonalise(torch.zeros(shape, dtype=D), 5, D), torch.zeros(shape, dtype=D))


@pytest.mark.exercise("4.9")
def test_muon_over_several_steps_groups_and_shapes(monkeypatch):
    monkeypatch.setattr(optimizers, "orthogonalise", lambda m, steps, dtype: newton_schulz(m, steps))
    a, b, c = (nn.Parameter(draw(*s, seed=i)) for i, s in enumerate([(6, 2), (2, 6), (3, 3)]))
    options = [dict(lr=0.1, momentum=0.8, weight_decay=0.3, steps=5),
               dict(lr=0.02, momentum=0.5, weight_decay=0.0, steps=2)]
    ours = Muon([{"params": [b, a], **options[0]}, {"params": [c], **options[1]}], dtype=D)
    want = {p: [p.detach().clone(), torch.zeros_like(p), o] for p, o in zip(
        (a, b, c), (options[0], options[0], options[1]))}
    for step in range(3):
        for i, p in enumerate((a, b, c)):
            p.grad = None if p is b and step == 0 else draw(*p.shape, seed=10 * step + i)
            if p.grad is not None:
                x, M, o = want[p]
                mu, lr = o["momentum"], o["lr"]
                M = mu * M + (1 - mu) * p.grad
                u = newton_schulz(mu * M + (1 - mu) * p.grad, o["steps"])
                x = x * (1 - lr * o["weight_decay"])
                x = x - lr * math.sqrt(max(1.0, p.shape[0] / p.shape[1])) * u
                want[p] = [x, M, o]
        ours.step()
        for name, p in (("a", a), ("b", b), ("c", c)):
            near(p.detach(), want[p][0], f"{name} after step {step + 1}", 1e-7)


@pytest.mark.exercise("4.10")
@pytest.mark.parametrize("lengths, room", [([], 4), ([4, 4], 4), ([9, 1, 3, 3, 2], 4),
                                           ([2, 2, 2, 2], 4), ([0, 3], 4), ([5, 6, 2, 2], 8)])
def test_every_token_stands_once_and_each_rest_where_it_fits_best(lengths, room):
    rows = pack(np.array(lengths, dtype=int), room)
    want, rests = [], []
    for d, n in enumerate(lengths):
        want += [[(d, s, s + room)] for s in range(0, n - room + 1, room)]
        rests += [(d, n - n % room, n)] if n % room else []
    for piece in sorted(rests, key=lambda p: p[1] - p[2]):
        size = piece[2] - piece[1]
        left = [(room - sum(p[2] - p[1] for p in row), i) for i, row in enumerate(want)]
        fits = [x for x in left if x[0] >= size]
        if fits:
            want[min(fits)[1]].append(piece)
        else:
            want.append([piece])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, want)), f"{rows}, not {want}"


@pytest.mark.exercise("4.11")
def test_the_fraction_is_drawn_from_this_rng_for_each_document():
    domain, tokens = np.array([0, 1] * 1000), np.array([10, 30] * 1000)
    got = copies(domain, tokens, np.array([0.4, 0.4, 0.2]), np.random.default_rng(1))
    assert got.dtype.kind == "i" and set(got[::2]) == {2} and set(got[1::2]) == {0, 1}, \
        "shares 1/4 and 3/4, weights 1/2 each (the third has no documents): 2 times and 2/3 times"
    assert abs(got[1::2].mean() - 2 / 3) < 0.05, f"{got[1::2].mean():.2f} is not 2/3"
    again = copies(domain, tokens, np.array([0.4, 0.4, 0.2]), np.random.default_rng(1))
    other = copies(domain, tokens, np.array([0.4, 0.4, 0.2]), np.random.default_rng(2))
    assert (got == again).all() and (got != other).any(), "the rng decides, and nothing else"
    assert copies(domain, tokens, None, np.random.default_rng(1)).tolist() == [1] * 2000
    gap = copies(2 * domain, tokens, np.array([0.4, 0.2, 0.4]), np.random.default_rng(1))
    assert (gap == got).all(), "domain 2 has weight 2 of the list, also where domain 1 is absent"


@pytest.mark.exercise("4.13")
def test_each_row_keeps_its_own_set_wherever_its_tokens_stand():
    p = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.35, 0.4, 0.25]], dtype=D)
    for limit, kept in ((0.45, [[1], [2], [0, 1]]), (0.4001, [[1], [2], [0, 1]]),
                        (0.85, [[0, 1, 2], [0, 2], [0, 1, 2]]), (1.0, [[0, 1, 2]] * 3),
                        (0.01, [[1], [2], [1]])):
        got = keep_top_p(p.log(), limit)
        for row, want in zip(range(3), kept):
            finite = got[row].isfinite().nonzero()[:, 0].tolist()
            assert len(finite) == len(want) and (p[row, finite].sum() == p[row, want].sum()), \
                f"p = {limit}, row {row}: kept {finite}, not {want}"
            near(got[row, finite], p[row, finite].log(), "kept logits do not change")
    chosen = torch.tensor([[1.0, -math.inf, 0.0, -math.inf]])       # as top-k leaves them
    for limit, kept in ((0.5, [0]), (0.9, [0, 2]), (1.0, [0, 2])):
        got = keep_top_p(chosen + 1000, limit)
        assert got[0].isfinite().nonzero()[:, 0].tolist() == kept, f"p = {limit}: {got.tolist()}"
        assert not got.isnan().any(), "-inf is a probability of 0, and logits may be large"


@pytest.mark.exercise("4.14")
def test_each_row_is_penalised_for_its_own_tokens():
    logits = torch.tensor([[2.0, -2, 0, 4], [-3, 6, 1, -1]])
    got = penalise_repeats(logits, torch.tensor([[0, 1, 0], [1, 3, 3]]), 2.0)
    near(got, torch.tensor([[1.0, -4, 0, 4], [-3, 3, 1, -2]]))
    near(penalise_repeats(logits, torch.zeros(2, 0, dtype=torch.long), 2.0), logits, "none seen")
    near(penalise_repeats(logits, torch.tensor([[3], [0]]), 1.0), logits, "a factor of 1")
    near(penalise_repeats(logits, torch.tensor([[0, 1], [1, 3]]), 0.5),
         torch.tensor([[4.0, -1, 0, 4], [-3, 12, 1, -0.5]]), "a factor below 1 is a reward")
    forbidden = torch.tensor([[-math.inf, 2.0]], dtype=torch.bfloat16)
    got = penalise_repeats(forbidden, torch.tensor([[0, 1]]), 2.0)
    assert got.tolist() == [[-math.inf, 1.0]] and got.dtype == torch.bfloat16, "-inf stays forbidden"


@pytest.mark.exercise("4.15")
def test_each_row_has_its_own_positions_and_its_own_past():
    ids = torch.tensor([[5, 6, 7], [8, 9, 3]])
    positions, last = torch.tensor([[0, 1, 2], [4, 0, 1]]), torch.tensor([[1, 2], [3, 4]])
    got = tokens_before(ids, positions, last)
    assert got.tolist() == [[[-1, -1], [5, -1], [6, 5]], [[4, 3], [-1, -1], [9, -1]]], got.tolist()
    got = tokens_before(ids, torch.tensor([1, 2, 3]), last)
    assert got.tolist() == [[[2, -1], [5, 2], [6, 5]], [[4, -1], [8, 4], [9, 8]]], got.tolist()
    assert tokens_before(ids, torch.tensor([2, 3, 4]), None)[:, 0].tolist() == [[-1, -1]] * 2


@pytest.mark.exercise("4.16")
def test_layers_rows_and_calls_of_a_cache_do_not_mix():
    cache, parts = KVCache(2, 5), [draw(2, 3, n, 4, seed=n) for n in (2, 1, 2)]
    seen = []
    for part in parts:
        for layer in (0, 1):
            k, v = cache.extend(layer, part + layer, 10 * part - layer)
            want = torch.cat([*seen, part], dim=2)
            near(k, want + layer, f"keys of layer {layer}")
            near(v, 10 * want - layer, f"values of layer {layer}")
        assert cache.length == sum(p.shape[2] for p in seen), "only advance moves the length"
        seen.append(part)
        cache.length += part.shape[2]
    with pytest.raises(ValueError):
        cache.extend(0, parts[1], parts[1])


@pytest.mark.exercise("4.18")
def test_a_guard_knows_its_window_its_sigmas_and_its_patience():
    guard = SpikeGuard(window=8, sigmas=3.0, patience=2)
    assert not guard.is_spike(100.0) and not guard.is_spike(1.0), "two of eight are known: judge"
    guard = SpikeGuard(window=8, sigmas=3.0, patience=2)
    for x in (1.0, 3.0) * 4:
        assert not guard.is_spike(x)
    assert not guard.is_spike(4.99), "mean 2, deviation 1: up to 5 is no spike"
    guard = SpikeGuard(window=8, sigmas=3.0, patience=2)
    for x in (1.0, 3.0) * 4:
        guard.is_spike(x)
    assert [guard.is_spike(9.0) for _ in range(4)] == [True, True, False, False], \
        "two in a row are caught, then it is the new level"
    guard = SpikeGuard(window=8, sigmas=3.0, patience=1)
    assert [guard.is_spike(x) for x in (1.0, 3.0, 1.0, 3.0, 9.0, 9.0, 99.0)][4:] == [
        True, False, True], "the new level joins the last losses, which are still known"
    for window, known in ((8, 2), (10, 2), (12, 3), (40, 10)):
        first = SpikeGuard(window=window)
        assert [first.is_spike(1.0 + 99.0 * (i == known)) for i in range(known + 1)][-1], (
            f"a window of {window}: once {known} losses are known it judges")
    assert not guard.is_spike(-99.0), "a fall is no spike, however deep"
    wide = SpikeGuard(window=8)
    assert not any(map(wide.is_spike, (0.0, 10, 0, 10, 5, 5, 5, 5, 20))), "all of the last 8 count"
    calm = SpikeGuard(window=4, sigmas=6.0, patience=5)
    for _ in range(4):
        calm.is_spike(2.0)
    assert not calm.is_spike(2.05) and calm.is_spike(2.2), "a deviation of 0 counts as 0.01"
