"""What the statements of chapter 4's exercises say once in passing, asked for on its own."""

import copy
import math

import numpy as np
import pytest
import torch

import optimizers
import training_loop
from batches import copies
from generate import keep_top_p
from gpt import RMSNorm, causal_attention
from ngram_embedding import late_keys
from optimizers import AdamW, Muon, cosine_schedule, linear_schedule, orthogonalise
from training_loop import Recipe, SpikeGuard, training_steps

torch.set_num_threads(1)


# ---------------------------------------------------------------- 16 bits are widened inside

@pytest.mark.exercise("4.1")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_squares_of_16_bits_are_taken_in_32(dtype):
    x = torch.tensor([[300.0, -400.0]], dtype=dtype)    # 400^2 is above the largest float16
    got = RMSNorm(2)(x)
    assert got.dtype == dtype, f"{dtype} in, {dtype} out; got {got.dtype}"
    want = torch.tensor([[3.0, -4.0]]) / math.sqrt(12.5)
    assert (got.float() - want).abs().max() < 0.01, f"expected {want.tolist()}, got {got.tolist()}"


@pytest.mark.exercise("4.3")
def test_the_softmax_of_16_bits_is_taken_in_32():
    """4,000 keys of weight 1 beside one of weight e: in bfloat16 their sum stops at 256."""
    k = torch.zeros(1, 1, 4001, 1, dtype=torch.bfloat16)
    k[..., -1, 0] = 1.0
    v = torch.zeros_like(k)
    v[..., -1, 0] = 1000.0
    seen = []
    plain = torch.Tensor.softmax

    def watched(scores, *args, **options):
        seen.append(options.get("dtype") or scores.dtype)
        return plain(scores, *args, **options)
    torch.Tensor.softmax, whole = watched, torch.softmax
    torch.softmax = watched
    try:
        got = causal_attention(torch.ones(1, 1, 1, 1, dtype=torch.bfloat16), k, v).item()
    finally:
        torch.Tensor.softmax, torch.softmax = plain, whole
    assert got == pytest.approx(1000 * math.e / (4000 + math.e), rel=0.01), f"got {got}"
    assert set(seen) <= {torch.float32}, f"the softmax was taken in {seen}, not in float32"


# ---------------------------------------------------------------- optimizers

@pytest.fixture
def as_it_is(monkeypatch):
    """Exercise 4.9 does not depend on 4.8: the look-ahead goes on as it came."""
    monkeypatch.setattr(optimizers, "orthogonalise", lambda m, steps=5, dtype=torch.bfloat16: m)


@pytest.mark.usefixtures("as_it_is")
@pytest.mark.parametrize("make", [
    pytest.param(lambda p: AdamW([p], lr=0.1), marks=pytest.mark.exercise("4.7")),
    pytest.param(lambda p: Muon([p], lr=0.1), marks=pytest.mark.exercise("4.9"))])
def test_a_closure_is_called_first_with_gradients_on_and_given_back(make):
    p, calls = torch.nn.Parameter(torch.eye(2)), []
    optimizer = make(p)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.eye(2))]})

    def closure():
        calls.append("called")
        optimizer.zero_grad()
        loss = (p ** 2).sum()
        loss.backward()
        return loss
    loss = optimizer.step(closure)
    assert loss is not None and loss.item() == 2.0, "`step` gives what the closure gave"
    assert p[0, 0] < 1, "the gradient that the closure computed was not used"
    assert len(calls) == 1, f"called {len(calls)} times: once, before the two groups"
    p.grad = None
    assert optimizer.step() is None, "no closure: None"


@pytest.mark.usefixtures("as_it_is")
@pytest.mark.parametrize("make", [
    pytest.param(lambda p: AdamW([p], lr=0.1, weight_decay=0.1), marks=pytest.mark.exercise("4.7")),
    pytest.param(lambda p: Muon([p], lr=0.1, weight_decay=0.1), marks=pytest.mark.exercise("4.9"))])
def test_the_gradients_stay_what_they_are(make):
    p = torch.nn.Parameter(torch.ones(2, 3))
    optimizer, given = make(p), torch.tensor([[1.0, -2, 3], [0, 5, -6]])
    place = p.data_ptr()
    for _ in range(2):
        p.grad = given.clone()
        optimizer.step()
        assert torch.equal(p.grad, given), "the caller's gradient was changed"
        assert p.data_ptr() == place, "the weights change in place: others may look at them"


@pytest.mark.usefixtures("as_it_is")
@pytest.mark.parametrize("make", [
    pytest.param(lambda p: AdamW([p], lr=0.1), marks=pytest.mark.exercise("4.7")),
    pytest.param(lambda p: Muon([p], lr=0.1), marks=pytest.mark.exercise("4.9"))])
def test_another_optimizer_goes_on_from_the_state_dict(make):
    first, gradients = torch.nn.Parameter(torch.ones(2, 3)), torch.eye(3)[:2]
    ours = make(first)
    first.grad = gradients.clone()
    ours.step()
    second = torch.nn.Parameter(first.detach().clone())
    theirs = make(second)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    for p, optimizer in ((first, ours), (second, theirs)):
        p.grad = gradients.flip(1) - 0.5
        optimizer.step()
    assert torch.equal(first, second), "what it remembers is in `self.state[p]`, none elsewhere"


@pytest.mark.exercise("4.9")
def test_muon_takes_a_stack_of_matrices_one_by_one(monkeypatch):
    monkeypatch.setattr(optimizers, "orthogonalise", lambda m, steps=5, dtype=torch.bfloat16:
                        m / torch.linalg.vector_norm(m, dim=(-2, -1), keepdim=True))
    whole = torch.nn.Parameter(torch.zeros(2, 6, 3))
    parts = [torch.nn.Parameter(torch.zeros(6, 3)) for _ in range(2)]
    gradient = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    whole.grad = gradient.clone()
    for p, g in zip(parts, gradient):
        p.grad = g.clone()
    Muon([whole], lr=0.1, dtype="float32").step()
    Muon(parts, lr=0.1, dtype="float32").step()
    gap = (whole - torch.stack([p.detach() for p in parts])).abs().max().item()
    assert gap < 1e-3, f"rows and columns are the last two of (E, rows, columns): off by {gap:.3f}"


@pytest.mark.exercise("4.9")
def test_muon_computes_in_the_dtype_of_its_group(monkeypatch):
    asked = []
    monkeypatch.setattr(optimizers, "orthogonalise", lambda m, steps=5, dtype=torch.bfloat16:
                        asked.append((steps, dtype)) or m)
    for name in ("float32", "bfloat16"):
        p = torch.nn.Parameter(torch.zeros(2, 2))
        p.grad = torch.ones(2, 2)
        Muon([p], lr=0.1, steps=3, dtype=name).step()
    assert asked == [(3, torch.float32), (3, torch.bfloat16)], asked


# ---------------------------------------------------------------- the training loop

class Small(torch.nn.Module):
    """A table and a head, with dropout to see the mode, and one frozen parameter."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7)
        self.frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
        self.modes, self.dtypes = [], []

    def forward(self, ids, targets):
        logits = self.head(self.table(ids))
        self.modes.append(self.training), self.dtypes.append(logits.dtype)
        return logits, torch.nn.functional.cross_entropy(logits.float().flatten(0, 1),
                                                         targets.flatten())


def rows(step):
    ids = torch.randint(0, 7, (4, 5), generator=torch.Generator().manual_seed(step))
    return ids, ids.roll(1, 1)


@pytest.fixture
def loop(monkeypatch):
    """The loop alone: torch's clipping and SGD, a rate that falls straight."""
    monkeypatch.setattr(training_loop, "clip_gradients", torch.nn.utils.clip_grad_norm_)
    monkeypatch.setattr(training_loop, "rate_at", lambda step, steps, recipe: 1 - step / steps)

    def run(model, steps, data=rows, recipe=Recipe(learning_rate=0.5, clip=1.0), **options):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
        for group in optimizer.param_groups:
            group["peak"] = 0.5
        return list(training_steps(model, [optimizer], data, steps, recipe, **options))
    return run


@pytest.mark.exercise("4.12")
def test_training_goes_on_from_start_and_asks_for_that_steps_batch(loop):
    asked = []
    records = loop(Small(), 6, lambda step: asked.append(step) or rows(step), start=4)
    assert [r["step"] for r in records] == [5, 6] and asked == [4, 5], (
        f"from step 4 to 6 are two updates, of batches 4 and 5; got {asked}")
    assert [r["lr"] for r in records] == pytest.approx([0.5 * 2 / 6, 0.5 / 6]), "their own rates"


@pytest.mark.exercise("4.12")
@pytest.mark.usefixtures("loop")
def test_a_record_is_given_as_soon_as_its_update_is_done():
    model, asked = Small(), []
    optimizer = torch.optim.SGD([{"params": [model.head.weight], "peak": 0.5}], lr=0.5)
    before = model.head.weight.detach().clone()
    steps = training_steps(model, [optimizer], lambda step: asked.append(step) or rows(step), 3,
                           Recipe(learning_rate=0.5))
    for done in (1, 2, 3):
        assert next(steps)["step"] == done and asked == list(range(done)), (
            f"a checkpoint after step {done} must hold that step and no other; read were {asked}")
        assert not torch.equal(model.head.weight, before), f"the update of step {done}"
        before = model.head.weight.detach().clone()


@pytest.mark.exercise("4.12")
def test_the_model_is_set_to_train_and_frozen_parameters_stay_out(loop):
    model = Small().eval()
    model.frozen.grad = torch.tensor([3.0, 4.0])        # somebody else's: no part of the norm
    records = loop(model, 1)
    assert model.modes == [True], "evaluation left the model in its other mode: model.train()"
    twin = Small()
    twin(*rows(0))[1].backward()
    norm = math.sqrt(sum((p.grad ** 2).sum() for p in twin.parameters() if p.grad is not None))
    assert records[0]["grad_norm"] == pytest.approx(norm, rel=1e-4), "of what is trained alone"


@pytest.mark.exercise("4.12")
def test_the_precision_asked_for_is_the_products(loop):
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = Small()
        loop(model, 1, precision=precision, accumulate=2)
        assert model.dtypes == [dtype] * 2, f"{precision}: products in {model.dtypes}"
        assert model.head.weight.dtype == torch.float32, "weights stay in 32 bits"


@pytest.mark.exercise("4.12")
def test_no_clipping_at_0_and_clipping_at_its_length(loop):
    moved = {}
    for clip in (0.0, 1e-3):
        model, before = Small(), Small()
        loop(model, 1, recipe=Recipe(learning_rate=0.5, clip=clip))
        moved[clip] = (model.head.weight - before.head.weight).norm().item()
    assert moved[1e-3] < 1e-3 and moved[0.0] > 0.01, f"clip 0 means none; moved {moved}"


@pytest.mark.exercise("4.12")
@pytest.mark.usefixtures("loop")
def test_every_group_of_every_optimizer_moves_at_its_own_rate_before_and_after_a_skipped_step():
    """Four steps by hand: p - peak (1 - s / 4) g, g shortened to 0.05; the second is left out."""
    class Guard:
        said = iter([False, True, False, False])

        def is_spike(self, loss):
            return next(self.said)
    model, twin = Small(), Small()
    peaks = {"table.weight": 0.3, "head.weight": 0.9, "head.bias": 0.1}
    groups = [{"params": [model.get_parameter(name)], "lr": peak, "peak": peak}
              for name, peak in peaks.items()]
    made = [torch.optim.SGD(groups[:1]), torch.optim.SGD(groups[1:])]
    records = list(training_steps(model, made, rows, 4, Recipe(learning_rate=0.5, clip=0.05),
                                  guard=Guard()))
    for step, record in enumerate(records):
        twin.zero_grad()
        twin(*rows(step))[1].backward()
        g = {name: twin.get_parameter(name).grad for name in peaks}
        norm = math.sqrt(sum((x ** 2).sum().item() for x in g.values()))
        assert norm > 0.05 and record["grad_norm"] == pytest.approx(norm, rel=1e-4), (
            f"step {step + 1}: the length before clipping, {norm:.4f}; a skipped step leaves none")
        assert record["lr"] == pytest.approx(0.5 * (1 - step / 4)), "the recipe's, not a group's"
        with torch.no_grad():
            for name, peak in peaks.items() if step != 1 else ():
                twin.get_parameter(name).sub_(g[name], alpha=peak * (1 - step / 4) * 0.05 / norm)
    for name in peaks:
        gap = (model.get_parameter(name) - twin.get_parameter(name)).abs().max().item()
        assert gap < 1e-5, f"{name} is {gap:.1e} away from four steps by hand"


@pytest.mark.exercise("4.12")
def test_the_guard_judges_the_loss_of_the_step_and_the_record_says_so(loop):
    heard = []

    class Guard:
        def is_spike(self, loss):
            heard.append(loss)
            return len(heard) == 2
    model = Small()
    records = loop(model, 3, guard=Guard())
    assert heard == [r["loss"] for r in records], "it is asked for the loss, once a step"
    assert [r["skipped"] for r in records] == [False, True, False]


@pytest.mark.exercise("4.12")
def test_a_part_of_padding_alone_teaches_nothing_and_spoils_nothing(loop):
    def padded(step):
        ids, targets = rows(step)
        targets = targets.clone()
        targets[2:] = -100
        return ids, targets
    whole, parts = Small(), Small()
    a = loop(whole, 2, padded)
    b = loop(parts, 2, padded, accumulate=2)
    assert [r["loss"] for r in a] == pytest.approx([r["loss"] for r in b]), "a mean over nothing"
    assert torch.allclose(whole.head.weight, parts.head.weight, atol=1e-6)

    class Careful(Small):
        def forward(self, ids, targets):            # as GPT: rows of nothing but padding have 0
            logits = self.head(self.table(ids)).flatten(0, 1)
            return logits, torch.nn.functional.cross_entropy(
                logits, targets.flatten(), reduction="sum") / max(1, (targets != -100).sum())
    for accumulate in (1, 2):
        records = loop(Careful(), 1, lambda step: (rows(step)[0], torch.full((4, 5), -100)),
                       accumulate=accumulate)
        assert records[0]["loss"] == 0, "a batch of padding alone"


@pytest.mark.exercise("4.12")
@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_the_parts_are_whole_rows_and_no_row_is_lost(loop, accumulate):
    def data(step):
        return torch.arange(35).view(5, 7) % 7, torch.arange(35).view(5, 7) * 3 % 7
    seen, whole, parts = [], Small(), Small()
    parts.register_forward_hook(lambda model, given, result: seen.append(given[0].shape))
    a, b = loop(whole, 1, data), loop(parts, 1, data, accumulate=accumulate)
    assert {shape[1] for shape in seen} == {7} and sum(shape[0] for shape in seen) == 5, (
        f"5 rows of 7 tokens in at most {accumulate} parts of rows, got parts of {seen}")
    assert 1 < len(seen) <= accumulate, f"{accumulate} parts asked for, got {len(seen)}"
    assert a[0]["loss"] == pytest.approx(b[0]["loss"]), "every row counts"
    assert torch.allclose(whole.head.weight, parts.head.weight, atol=1e-6)


@pytest.mark.exercise("4.12")
def test_over_ranks_the_loss_is_the_mean_over_all_their_targets(loop):
    """`average` gives the mean over the ranks. Here the other of two has no targets at all."""
    model = Small()
    alone = Small()(*rows(0))[1].item()
    records = loop(model, 1, average=lambda x: x / 2)
    # this rank's 20 targets are all there are: their mean over ranks is 10, so that its loss
    # counts twice, and the mean of 2 L and 0 is L
    assert records[0]["loss"] == pytest.approx(alone, rel=1e-5), (
        f"the mean over all targets of both ranks is {alone:.4f}, got {records[0]['loss']:.4f}")
    heard = []

    class Guard:
        def is_spike(self, loss):
            return heard.append(loss)
    # ranks of unlike losses must judge alike, or some would skip an update and some not
    records = loop(Small(), 1, average=lambda x: x * 0 + 3.0, guard=Guard())
    assert heard == [3.0] == [records[0]["loss"]], f"the mean over ranks is 3, heard was {heard}"


# ---------------------------------------------------------------- generation, guard, late keys

@pytest.mark.exercise("4.13")
def test_a_tie_at_the_border_keeps_as_few_as_reach_p():
    got = keep_top_p(torch.tensor([[0.25, 0.25, 0.25, 0.25]]).log(), 0.5)
    assert got.isfinite().sum() == 2, "two of four equal ones reach one half"


@pytest.mark.exercise("4.18")
@pytest.mark.parametrize("sigmas, spike", [(2.0, True), (6.0, False), (2.9, True), (3.1, False)])
def test_a_guard_uses_its_own_number_of_sigmas(sigmas, spike):
    guard = SpikeGuard(window=8, sigmas=sigmas)
    for x in (1.0, 3.0) * 4:                            # mean 2, deviation 1
        guard.losses.append(x)
    assert guard.is_spike(5.0) == spike, f"3 deviations above the mean, {sigmas} are allowed"


@pytest.mark.exercise("4.19")
@pytest.mark.parametrize("heads", [1, 2, 5])
@pytest.mark.parametrize("earlier", [False, True])
def test_late_keys_of_every_row_and_head(heads, earlier):
    g = torch.Generator().manual_seed(0)
    k, before = torch.randn(3, heads, 4, 2, generator=g), torch.randn(3, heads, 1, 2, generator=g)
    goes_on = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 1]]).bool()[:, None, :, None]
    got = late_keys(k, before if earlier else None, goes_on)
    for b in range(3):
        for h in range(heads):
            for t in range(4):
                want = k[b, h, t]
                if h % 2:
                    want = k[b, h, t - 1] if t else before[b, h, 0] * earlier
                    want = want * goes_on[b, 0, t, 0]
                assert torch.equal(got[b, h, t], want), f"row {b}, head {h}, token {t}"


@pytest.mark.exercise("4.19")
def test_late_keys_of_one_token_alone():
    k, before = torch.full((2, 2, 1, 3), 5.0), torch.arange(12.0).view(2, 2, 1, 3)
    got = late_keys(k, before, torch.ones(1, 1, dtype=torch.bool))
    assert torch.equal(got[:, 0], k[:, 0]) and torch.equal(got[:, 1], before[:, 1]), (
        "generation gives one token at a time: the key of the pass before is all there is")
    got = late_keys(k.bfloat16(), None, torch.ones(1, 1, dtype=torch.bool))
    assert got.dtype == torch.bfloat16, f"16 bits in, {got.dtype} out"
    assert (got[:, 0] == 5).all() and not got[:, 1].any(), "nothing stands before: zero"


@pytest.mark.parametrize("schedule", [
    pytest.param(cosine_schedule, marks=pytest.mark.exercise("4.4")),
    pytest.param(linear_schedule, marks=pytest.mark.exercise("4.5"))])
def test_a_schedule_warms_up_from_its_first_step_and_never_rises_after(schedule):
    shares = [schedule(step, 30, 5) for step in range(40)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(a >= b for a, b in zip(shares[4:], shares[5:])), f"falls after the warm-up: {shares}"
    assert shares[30:] == pytest.approx([0.0] * 10), "0 from step `steps` on"
    assert schedule(0, 30, 0) == 1.0 and schedule(0, 1, 1) == 1.0, "one step of warm-up is whole"


@pytest.mark.exercise("4.8")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_small_matrix_with_zeros_in_it_is_orthogonalised_all_the_same(dtype):
    matrix = torch.diag(torch.tensor([1.0, 2.0, 3.0]))
    whole, small = (orthogonalise(s * matrix, dtype=dtype) for s in (1.0, 2.0 ** -100))
    assert (whole - small).abs().max() < 0.02, "scaled by its largest number, not its smallest"


@pytest.mark.exercise("4.11")
def test_domains_of_unlike_weights_and_whole_numbers_for_all():
    domain, tokens = np.array([0, 1, 2, 1, 2]), np.array([10, 20, 50, 10, 10])
    rng = np.random.default_rng(0)
    got = copies(domain, tokens, np.array([0.4, 0.6, 0.0]), rng)
    assert got.tolist() == [4, 2, 0, 2, 0], (
        f"shares 0.1, 0.3 and 0.6, weights 0.4, 0.6 and 0: 4, 2 and 0 times; got {got.tolist()}")
    for mixture in (None, np.array([0.2, 0.3, 0.5])):
        assert copies(domain, tokens, mixture, rng).dtype.kind == "i", "integers, also without one"


@pytest.mark.exercise("4.6")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_length_is_a_scalar_tensor_whatever_happens(dtype):
    p = torch.nn.Parameter(torch.zeros(2, dtype=dtype))
    for numbers, want in ((None, 0.0), ([0.0, 0.0], 0.0), ([3.0, 4.0], 5.0)):
        p.grad = None if numbers is None else torch.tensor(numbers, dtype=dtype)
        got = optimizers.clip_gradients(iter([p]), 1.0)
        assert isinstance(got, torch.Tensor) and got.shape == (), f"a number of {type(got)}"
        assert got.item() == want


@pytest.mark.exercise("4.18")
@pytest.mark.parametrize("swing, calm, spike", [(2.0, 13.0, 15.0), (0.2, 3.1, 3.3)])
def test_the_measure_is_the_deviation_not_its_square(swing, calm, spike):
    guard = SpikeGuard(window=8)
    for i in range(8):
        assert not guard.is_spike(2.0 + swing * (-1) ** i)
    assert guard.is_spike(spike), f"2 + 6 * {swing} is passed by {spike}"
    assert not guard.is_spike(calm), f"and not by {calm}"
