"""lora.py: the formula by hand, nothing changes at first, and merged equals beside."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import lora
from gpt import GPT, GPTConfig
from lora import ATTENTION, EVERYWHERE, LoRALinear, add_lora, lora_state, merge_lora

torch.set_num_threads(1)


def small_model() -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=30, sequence_length=16, layers=2, width=16, heads=2, bias=True,
                          mlp="swiglu"))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


IDS = torch.arange(12)[None] % 30


@pytest.mark.exercise("4.38")
def test_the_correction_by_hand():
    base = torch.nn.Linear(3, 2)
    layer = LoRALinear(base, rank=1, alpha=4.0)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
        base.bias.copy_(torch.tensor([0.5, -0.5]))
        layer.A.copy_(torch.tensor([[1.0, 2, 3]]))
        layer.B.copy_(torch.tensor([[1.0], [-2.0]]))
    got = layer(torch.tensor([[[1.0, 1.0, 1.0]]])).flatten().tolist()
    assert got == pytest.approx([25.5, -47.5]), \
        f"A x = 6, alpha / rank = 4: [1.5 + 24, 0.5 - 48] = [25.5, -47.5], got {got}"
    wide = LoRALinear(torch.nn.Linear(3, 2), rank=2, alpha=4.0)
    with torch.no_grad():
        wide.A.fill_(1.0), wide.B.fill_(1.0)
    x = torch.ones(1, 3)
    assert (wide(x) - wide.base(x)).flatten().tolist() == pytest.approx([12.0, 12.0]), \
        "rank 2: alpha / rank = 2, times A x = [3, 3], summed over the rank"
    for shape in ((3,), (4, 3), (2, 1, 5, 3)):
        assert wide(torch.ones(shape)).shape == (*shape[:-1], 2), f"any number of axes: {shape}"
    assert torch.allclose(wide(torch.ones(3)), wide(x)[0]), "one token without any other axis"
    wide.scale = 0.0                    # how KL and DPO ask for the model as it was
    assert torch.equal(wide(x), wide.base(x)), "`self.scale` as it is now"


@pytest.mark.exercise("4.38")
def test_gradients_reach_the_thin_matrices_and_only_them():
    layer = LoRALinear(torch.nn.Linear(4, 4), 2, 2.0)
    layer.base.requires_grad_(False)
    with torch.no_grad():
        layer.B.normal_()
    layer(torch.ones(2, 4)).sum().backward()
    assert layer.A.grad.abs().sum() > 0 and layer.B.grad.abs().sum() > 0
    assert layer.base.weight.grad is None
    x = torch.ones(2, 4, requires_grad=True)
    layer(x).sum().backward()
    whole = layer.base.weight + layer.scale * layer.B @ layer.A
    assert torch.allclose(x.grad, whole.sum(0).expand(2, 4), atol=1e-5), \
        "what lies below learns through the correction too"


@pytest.mark.exercise("4.38")
def test_the_correction_costs_no_product_of_the_whole_matrix():
    layer = LoRALinear(torch.nn.Linear(64, 48), 2, 2.0)
    with FlopCounterMode(display=False) as counter:
        layer(torch.ones(5, 64))
    thin = 2 * 5 * (64 * 48 + 2 * (64 + 48))
    assert counter.get_total_flops() <= thin, (
        f"rank (C + M) products a token beside C M: {thin} FLOPs for 5 tokens, not "
        f"{counter.get_total_flops()}")


@pytest.mark.parametrize("targets", [ATTENTION, EVERYWHERE])
def test_nothing_changes_until_it_is_trained(targets):
    model = small_model()
    before = model(IDS)[0]
    add_lora(model, rank=4, alpha=8, targets=targets)
    assert torch.equal(model(IDS)[0], before), "B is zero: the model starts as it was"
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {f"blocks.{i}.{half}.{t}.{m}" for i in range(2) for t in targets for m in "AB"
                       for half in (["attention"] if t in ATTENTION else ["mlp"])}


def test_trained_and_merged_is_an_ordinary_model():
    model = add_lora(small_model(), rank=4, alpha=8, targets=EVERYWHERE)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(30):
        loss = model(IDS[:, :-1], IDS[:, 1:])[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0], f"it learns: {losses[0]:.2f} to {losses[-1]:.2f}"
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    with lora.without_lora(model):
        assert torch.equal(model(IDS)[0], small_model()(IDS)[0]), "the reference is not what it was"
    beside, names = model(IDS)[0], set(small_model().state_dict())
    assert sum(v.numel() for v in lora_state(model).values()) < 0.5 * sum(
        p.numel() for p in small_model().parameters())
    merged = merge_lora(copy.deepcopy(model))
    assert set(merged.state_dict()) == names, "the names of a plain GPT"
    gap = (merged(IDS)[0] - beside).abs().max().item()
    assert gap < 1e-4, f"merged differs by {gap:.1e}"
    assert all(p.requires_grad for p in merged.parameters())


def test_what_makes_no_lora_is_said():
    with pytest.raises(ValueError, match="rank 0"):
        add_lora(small_model(), rank=0)
    with pytest.raises(ValueError, match="named q_proj"):
        lora.add_lora(small_model(), targets=("q_proj",))


def test_a_refused_model_is_left_as_it_was():
    model = GPT(GPTConfig(vocab_size=8, width=16, heads=2, layers=1))
    for rank, alpha, names in ((2, 4.0, ("nothing",)), (2, float("nan"), ATTENTION)):
        with pytest.raises(ValueError):
            add_lora(model, rank, alpha, names)
        assert all(p.requires_grad for p in model.parameters()), "frozen, and nothing to train"
