"""gpt.py: each piece against a hand-worked table, torch's own operation or a property."""

import math

import pytest
import torch
import torch.nn.functional as F

import gpt
from gpt import GPT, GPT2, GPTConfig

torch.set_num_threads(1)
SMALL = dict(vocab_size=50, sequence_length=32, layers=2, width=32, heads=4)


def small_model(**changes) -> GPT:
    """A tiny model with no zero weights, so that every part has an effect."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(**(SMALL | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_ids(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(seed))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a.double() - b.double()).abs().max().item()


VARIANTS = {"default": {}, "gpt2": GPT2, "llama": dict(mlp="swiglu", kv_heads=2, qk_norm=False,
                                                       mix_previous=False, ngram_rows=50)}


@pytest.mark.parametrize("name", VARIANTS)
def test_no_position_sees_a_later_token(name):
    model, ids = small_model(**VARIANTS[name]), random_ids(2, 16)
    before = model(ids)[0]
    for t in (3, 9, 15):
        changed = ids.clone()
        changed[:, t] = (changed[:, t] + 7) % 50
        after = model(changed)[0]
        leak = distance(before[:, :t], after[:, :t])
        assert leak == 0, f"{name}: changing token {t} moved logits before it by {leak}: not causal"
        assert distance(before[:, t:], after[:, t:]) > 1e-3, f"{name}: token {t} has no effect"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_batch_is_overfitted(name):
    torch.manual_seed(0)
    model, ids = GPT(GPTConfig(**(SMALL | VARIANTS[name]))), random_ids(4, 17)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(ids[:, :-1], ids[:, 1:])[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5, (f"{name}: 60 steps on one batch of 64 tokens should nearly learn it by "
                        f"heart (ln 50 is {math.log(50):.2f}), but the loss is {loss:.2f}")


def test_first_loss_is_that_of_knowing_nothing():
    torch.manual_seed(0)
    loss = GPT(GPTConfig(**SMALL))(random_ids(8, 32), random_ids(8, 32, seed=2))[1].item()
    assert abs(loss - math.log(50)) < 0.1, f"expected ln 50 = {math.log(50):.3f}, got {loss:.3f}"


def test_targets_of_minus_100_do_not_count():
    model, ids, targets = small_model(), random_ids(1, 8), random_ids(1, 8, seed=2)
    targets[0, 3:] = -100
    logits, loss = model(ids, targets)
    by_hand = -logits[0, :3].log_softmax(-1).gather(1, targets[0, :3, None]).mean()
    assert abs(loss.item() - by_hand.item()) < 1e-5, \
        f"mean over the three targets that count is {by_hand:.5f}, got {loss:.5f}"


def test_packed_rows_equal_separate_documents():
    """Two documents in one row, kept apart by mask and positions, give what each gives alone."""
    model, ids = small_model(), random_ids(1, 12)
    alone = torch.cat([model(ids[:, :5])[0], model(ids[:, 5:])[0]], dim=1)
    document = torch.tensor([0] * 5 + [1] * 7)
    mask = (document[:, None] == document) & torch.ones(12, 12, dtype=torch.bool).tril()
    positions = torch.tensor([[*range(5), *range(7)]])
    packed = model(ids, positions=positions, mask=mask[None, None])[0]
    where = (alone - packed).abs().amax(dim=(0, 2)).argmax().item()
    assert distance(alone, packed) < 1e-5, \
        f"position {where} differs by {distance(alone, packed):.2e}: the documents are not apart"


@pytest.mark.exercise("4.1")
def test_rms_norm_by_hand_and_by_torch():
    norm = gpt.RMSNorm(2)
    got = norm(torch.tensor([[3.0, 4.0]])).tolist()[0]
    expected = [3 / math.sqrt(12.5), 4 / math.sqrt(12.5)]
    assert got == pytest.approx(expected, abs=1e-5), \
        f"[3, 4] has root mean square sqrt(12.5): expected {expected}, got {got}"
