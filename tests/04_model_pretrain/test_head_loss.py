"""head_loss.py: the loss and the gradients of the plain way, in 64, 32 and 16 bits."""

import pytest
import torch
from torch import nn

import head_loss
from gpt import GPT, GPTConfig
from head_loss import ROWS, training_loss

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch):
    monkeypatch.setattr(head_loss, "SMALL", 0)


def model_and_batch(dtype=torch.float32, tied=True, ignored="some"):
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, sequence_length=45, layers=1, width=16, heads=2,
                          tied=tied)).to(dtype)
    with torch.no_grad():
        model.lm_head.weight.mul_(8)        # sharp enough that a wrong softmax shows
    ids, targets = torch.randint(50, (2, 4, 45)).unbind(0)      # 180 rows: one piece and a rest
    if ignored != "none":
        targets = targets.masked_fill(torch.rand(4, 45) < (0.3 if ignored == "some" else 2), -100)
    return model, ids, targets


def both_ways(model, ids, targets, precision=None):
    found = []
    for way in (lambda: model(ids, targets)[1], lambda: training_loss(model, ids, targets)):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = way()
        (2.5 * loss).backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters()]))
    return found


@pytest.mark.parametrize("ignored", ["none", "some", "all"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_loss_and_gradients_equal_the_plain_way(dtype, tied, ignored):
    model, ids, targets = model_and_batch(dtype, tied, ignored)
    assert ids.numel() % ROWS, "no rest: the test shows less than it should"
    (loss, gradients), (ours, own) = both_ways(model, ids, targets)
    close = 1e-12 if dtype == torch.float64 else 2e-5
    assert ours.dtype == dtype and abs(ours - loss) < close
    for (name, _), theirs, mine in zip(model.named_parameters(), gradients, own):
        gap = (theirs - mine).abs().max()
        assert mine.dtype == dtype and gap < close, f"{name}: gradients differ by {gap:.1e}"


@pytest.mark.parametrize("ignored", ["none", "some", "all"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_gradients_the_loss_is_the_same(precision, ignored):
    model, ids, targets = model_and_batch(ignored=ignored)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss, ours = model(ids, targets)[1], training_loss(model, ids, targets)
    assert ours.dtype == torch.float32 and not ours.requires_grad
    assert abs(loss - ours) < (2e-5 if precision == "fp32" else 2e-3), f"{ours} for {loss}"


def test_without_gradients_only_the_rows_that_count_are_made(monkeypatch):
    model, ids, targets = model_and_batch()
    made, plain = [], head_loss.F.cross_entropy
    monkeypatch.setattr(head_loss.F, "cross_entropy", lambda logits, *more, **how: (
        made.append(len(logits)), plain(logits, *more, **how))[1])
    with torch.no_grad():
        training_loss(model, ids, targets)
    assert sum(made) == int((targets != -100).sum()) < targets.numel()


def test_16_bits_lose_no_more_than_the_plain_way():
    model, ids, targets = model_and_batch()
    _, exact = both_ways(model, ids, targets)[0]
    (loss, plain), (ours, own) = both_ways(model, ids, targets, "bf16")
    assert abs(loss - ours) < 0.01 and ours.dtype == torch.float32
    for truth, theirs, mine in zip(exact, plain, own):
        assert (mine - truth).norm() < 1.5 * (theirs - truth).norm() + 1e-3 * truth.norm() + 1e-6


@pytest.mark.parametrize("target", [-1, 50])
def test_a_target_outside_the_vocabulary_is_refused(target):
    model, ids, targets = model_and_batch()
    targets[1, 3] = target
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients), pytest.raises(IndexError, match=f"Target {target}"):
            training_loss(model, ids, targets)


@pytest.mark.parametrize("gradients", [True, False])
def test_rows_without_a_target_count_nowhere_whatever_stands_in_them(gradients):
    hidden, weight = torch.ones(3, 4), torch.ones(5, 4)
    hidden[1] = float("nan")
    targets = torch.tensor([1, -100, 2])
    make = head_loss.HeadLoss.apply if gradients else head_loss.loss_alone
    hidden.requires_grad_(gradients)
    loss = make(hidden, weight, targets, torch.float32)
    assert torch.isfinite(loss), "nan times 0 is nan"
    if gradients:
        loss.backward()
        assert not hidden.grad[1].any(), f"{hidden.grad[1]}: a row that does not count"


def test_large_logits_stay_finite():
    model, ids, targets = model_and_batch()
    with torch.no_grad():
        model.lm_head.weight.mul_(1e4)
    (loss, _), (ours, own) = both_ways(model, ids, targets)
    assert torch.isfinite(ours) and abs(ours / loss - 1) < 1e-5
    assert all(torch.isfinite(gradient).all() for gradient in own)


def test_a_small_batch_takes_the_plain_way_to_the_bit(monkeypatch):
    model, ids, targets = model_and_batch()
    monkeypatch.setattr(head_loss, "SMALL", ids.numel() * 50)
    monkeypatch.setattr(head_loss.HeadLoss, "apply", None)
    assert training_loss(model, ids, targets) == model(ids, targets)[1]


def test_another_model_or_head_is_called():
    model, ids, targets = model_and_batch()
    plain = model(ids, targets)[1]
    model.lm_head = nn.Sequential(model.lm_head)            # an adapter, say
    assert training_loss(model, ids, targets) == plain

    class Other(GPT):
        def forward(self, ids, targets=None, **context):
            return None, torch.tensor(7.0)
    assert training_loss(Other(model.config), ids, targets) == 7
    with pytest.raises((IndexError, RuntimeError)):
        training_loss(model_and_batch()[0], ids, targets.clamp(min=50))
