"""training_loop.py: one update by hand, parts equal the whole, NaN and spikes never get in."""

import contextlib
import math

import pytest
import torch

import training_loop
from gpt import GPT, GPTConfig
from training_loop import (NonFinite, Recipe, SpikeGuard, make_optimizers, mean_loss, rate_at,
                           train, training_steps)

torch.set_num_threads(1)
CONFIG = GPTConfig(vocab_size=40, sequence_length=16, layers=2, width=32, heads=2)


def fresh_model() -> GPT:
    torch.manual_seed(0)
    return GPT(CONFIG)


def batches(step: int):
    """Sixteen rows that count up from a random start: learnable, a function of the step."""
    start = torch.randint(0, 40, (16, 1), generator=torch.Generator().manual_seed(step))
    rows = (start + torch.arange(17)) % 40
    return rows[:, :-1], rows[:, 1:].clone()


@pytest.mark.parametrize("optimizer, rate", [("muon", 0.02), ("adamw", 1e-2)])
def test_training_learns_to_count(optimizer, rate):
    losses = train(fresh_model(), batches, 60, Recipe(optimizer=optimizer, learning_rate=rate))
    assert len(losses) == 60 and abs(losses[0] - math.log(40)) < 0.2
    assert losses[-1] < 0.5, f"{optimizer}: after 60 steps of counting the loss is {losses[-1]:.2f}"


def test_every_parameter_has_exactly_one_optimizer():
    model = GPT(GPTConfig(vocab_size=40, sequence_length=16, layers=1, width=32, heads=2,
                          bias=True, norm="layer", positions="learned", tied=True))
    for recipe in (Recipe(), Recipe(optimizer="adamw")):
        taken = [id(p) for o in make_optimizers(model, recipe) for g in o.param_groups
                 for p in g["params"]]
        assert sorted(taken) == sorted(id(p) for p in model.parameters()), recipe.optimizer


def test_muon_computes_in_the_precision_of_the_run():
    """In 16 bits on a processor that only imitates them, Muon took longer than the model."""
    for precision, dtype in (("fp32", "float32"), ("bf16", "bfloat16")):
        muon = make_optimizers(fresh_model(), Recipe(), precision)[0]
        assert {g["dtype"] for g in muon.param_groups} == {dtype}, precision


class Bigram(torch.nn.Module):
    """Embedding and head: model enough for the loop, and nothing of gpt.py's own exercises."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(40, 32)
        self.lm_head = torch.nn.Linear(32, 40, bias=False)

    def forward(self, ids, targets=None):
        logits = self.lm_head(self.embedding(ids))
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


@pytest.fixture
def plain(monkeypatch):
    """training_steps with torch's clipping, SGD and a straight fall of the rate: only the loop
    itself is under test."""
    monkeypatch.setattr(training_loop, "clip_gradients", torch.nn.utils.clip_grad_norm_)
    monkeypatch.setattr(training_loop, "rate_at", lambda step, steps, recipe: 1 - step / steps)

    def run(model, data, steps, **options):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        optimizer.param_groups[0]["peak"] = 0.5
        return training_steps(model, [optimizer], data, steps, Recipe(learning_rate=0.5),
                              **options)
    return run


@pytest.mark.exercise("4.12")
def test_parts_add_up_to_the_whole_batch(plain):
    def padded(step):
        ids, targets = batches(step)
        targets[12:, 5:] = -100             # the last part has fewer targets than the others
        return ids, targets
    results = []
    for parts in (1, 4):
        model = Bigram()
        losses = [r["loss"] for r in plain(model, padded, 3, accumulate=parts)]
        results.append((losses, model.state_dict()))
    (whole, a), (split, b) = results
    alone = Bigram()(*padded(0))[1].item()
    assert whole[0] == pytest.approx(alone, abs=1e-5), \
        f"the mean over real targets is {alone:.4f}, not {whole[0]:.4f}: -100 marks no target"
    assert whole == pytest.approx(split, abs=1e-5), \
        f"losses in one part {whole}, in four {split}: parts weigh by their number of targets"
    gap = max((a[name] - b[name]).abs().max().item() for name in a)
    assert gap < 1e-4, f"weights after 3 updates differ by {gap:.1e}"


@pytest.mark.exercise("4.12")
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_nothing_not_finite_reaches_the_weights(plain, where):
    model = Bigram()
    before = {}

    def poisoned(step):
        if step == 2:
            before.update({k: v.clone() for k, v in model.state_dict().items()})
            if where == "loss":
                model.lm_head.register_forward_hook(lambda m, x, y: y * float("nan"))
            else:
                model.embedding.weight.register_hook(lambda g: g * float("inf"))
        return batches(step)
    with pytest.raises(NonFinite, match="step 3"):
        list(plain(model, poisoned, 5))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} was updated with a {where} not finite"


@pytest.mark.exercise("4.12")
def test_records_tell_step_loss_rate_and_norm(plain):
    model = Bigram()
    first = model(*batches(0))[1].item()
    records = list(plain(model, batches, 4))
    assert [r["step"] for r in records] == [1, 2, 3, 4], "steps are counted from 1 when done"
    assert records[0]["loss"] == pytest.approx(first, abs=1e-5), "the loss before the update"
    rates = [r["lr"] / 0.5 for r in records]
    assert rates == pytest.approx([1, 0.75, 0.5, 0.25]), f"shares of the peak rate: {rates}"
    assert all(r["grad_norm"] > 0 and not r["skipped"] for r in records)


@pytest.mark.exercise("4.12")
def test_each_update_starts_from_no_gradient_and_uses_its_own_rate(plain):
    """By hand for two steps of SGD: p - 0.5 g0 - 0.25 g1."""
    model, data = Bigram(), batches
    expected = {k: v.clone() for k, v in model.state_dict().items()}
    twin = Bigram()
    for step, rate in ((0, 0.5), (1, 0.25)):
        twin.zero_grad()
        twin.load_state_dict(expected)
        twin(*data(step))[1].backward()
        norm = torch.sqrt(sum((p.grad ** 2).sum() for p in twin.parameters()))
        for name, p in twin.named_parameters():
            expected[name] = expected[name] - rate * p.grad * min(1.0, 1 / norm.item())
    list(plain(model, data, 2))
    gap = max((expected[name] - p).abs().max().item() for name, p in model.named_parameters())
    assert gap < 1e-4, f"after two updates the weights are {gap:.1e} away from those by hand"


@pytest.mark.exercise("4.12")
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_ranks_exchange_gradients_once_an_update_with_the_last_part(plain, parts):
    model, quiet, heard = Bigram(), [], []

    @contextlib.contextmanager
    def no_sync():
        quiet.append(1)
        yield
        quiet.pop()
    model.no_sync = no_sync
    model.lm_head.weight.register_hook(lambda gradient: heard.append(not quiet))
    list(plain(model, batches, 2, accumulate=parts))
    assert heard == ([False] * (parts - 1) + [True]) * 2, (
        f"of {parts} parts the last alone exchanges, in both updates; got {heard}")


@pytest.mark.exercise("4.12")
def test_a_skipped_update_changes_nothing(plain):
    class Always:
        def is_spike(self, loss):
            return True
    model = Bigram()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    records = list(plain(model, batches, 2, guard=Always()))
    assert [r["skipped"] for r in records] == [True, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_continuing_equals_not_stopping():
    """Steps 0-5 and then 5-10 must give the losses of 0-10: the rate follows the step."""
    recipe = Recipe()
    model = fresh_model()
    whole = train(model, batches, 10, recipe)
    model = fresh_model()
    optimizers = make_optimizers(model, recipe)
    steps = training_steps(model, optimizers, batches, 10, recipe)
    halves = [next(steps)["loss"] for _ in range(5)]
    halves += [r["loss"] for r in training_steps(model, optimizers, batches, 10, recipe, start=5)]
    assert halves == whole, f"first difference at {[a == b for a, b in zip(halves, whole)]}"


def test_a_poisoned_batch_is_left_out_and_the_run_ends_as_without_it():
    def noisy(step):
        ids, targets = batches(step)
        return ids, torch.randint(0, 40, (16, 16)) if step == 45 else targets
    recipe = Recipe(optimizer="adamw", learning_rate=3e-3, schedule="cosine")
    clean = mean_after(batches, recipe, None)
    guarded = mean_after(noisy, recipe, SpikeGuard())
    assert abs(guarded - clean) / clean < 0.05, f"clean {clean:.4f}, guarded {guarded:.4f}"


def mean_after(data, recipe, guard) -> float:
    """Loss on clean batches after 60 steps on `data`."""
    torch.manual_seed(0)
    model = fresh_model()
    train(model, data, 60, recipe, guard=guard)
    return mean_loss(model, batches, 4)


@pytest.mark.exercise("4.18")
def test_guard_catches_a_jump_but_not_a_slope_nor_a_new_level():
    guard = SpikeGuard(window=32)
    noisy = [5 - 0.02 * i + 0.1 * (-1) ** i for i in range(60)]
    assert not any(map(guard.is_spike, noisy)), "a falling, noisy loss is no spike"
    assert guard.is_spike(9.0), "from 3.8 to 9 in one step is a spike"
    assert not guard.is_spike(3.8), "the batch after it is normal: a spike is not remembered"
    caught = [guard.is_spike(9.0) for _ in range(8)]
    assert caught[:5] == [True] * 5 and not caught[5], \
        f"after {guard.patience} in a row it is the new level; got {caught}"


@pytest.mark.exercise("4.18")
def test_guard_waits_until_it_has_seen_enough():
    guard = SpikeGuard(window=32)
    assert [guard.is_spike(x) for x in (8.0, 4.0, 9.0, 4.0, 20.0)] == [False] * 5, \
        "five losses are too few to know what is normal"


@pytest.mark.exercise("4.18")
def test_guard_judges_by_its_window_alone():
    guard = SpikeGuard(window=16)
    before = [10.0 * (i % 2) for i in range(40)] + [5 + 0.01 * (i % 2) for i in range(16)]
    for loss in before:
        guard.is_spike(loss)
    assert guard.is_spike(6.0), "the last 16 losses were all 5: what was long before does not count"


def test_mean_loss_weighs_tokens_not_batches():
    model = fresh_model()

    def uneven(step):
        ids, targets = batches(step)
        if step:
            targets[1:] = -100
        return ids, targets
    (a, _), (b, _) = [(model(*uneven(s))[1].item(), 0) for s in (0, 1)]
    assert mean_loss(model, uneven, 2) == pytest.approx((256 * a + 16 * b) / 272, abs=1e-5)


def test_rates_reach_zero_at_the_end():
    for schedule in ("linear", "cosine"):
        shares = [rate_at(s, 50, Recipe(schedule=schedule, warmup=0.1)) for s in range(50)]
        assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
        assert 0 < shares[-1] < 0.05 and max(shares) <= 1


@pytest.mark.parametrize("model", [fresh_model, Bigram])
def test_rows_of_nothing_but_padding_change_nothing(model):
    def ragged(step):
        ids, targets = batches(step)
        targets[8:] = -100                  # the last two of four parts have nothing to learn
        return ids, targets
    recipe = Recipe() if model is fresh_model else Recipe(optimizer="adamw", learning_rate=1e-2)
    runs = [train(model(), data, 3, recipe, accumulate=parts) for data, parts in
            ((ragged, 4), (lambda step: tuple(x[:8] for x in batches(step)), 2))]
    assert runs[0] == pytest.approx(runs[1], rel=1e-5), "a mean over no targets got in"
    empty = lambda step: (batches(step)[0], torch.full((16, 16), -100))      # noqa: E731
    mixed = mean_loss(fresh_model(), lambda i: (empty if i else ragged)(0), 2)
    assert mixed == pytest.approx(mean_loss(fresh_model(), ragged, 1)), mixed


def test_a_batch_without_any_target_moves_nothing():
    model = fresh_model()
    before = [p.clone() for p in model.parameters()]
    losses = train(model, lambda step: (batches(step)[0], torch.full((16, 16), -100)), 1)
    assert losses == [0.0] and all(map(torch.equal, before, model.parameters()))
