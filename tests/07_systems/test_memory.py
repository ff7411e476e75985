"""The accountant: the paper's own numbers, and real storages to the byte."""

import pytest
import torch
import torch.nn.functional as F

import memory
from gpt import GPT, GPTConfig

SMALL = GPTConfig(vocab_size=64, layers=2, width=32, heads=2, sequence_length=16)


@pytest.mark.exercise("7.1")
@pytest.mark.parametrize("precision, stage, ranks, per_parameter", [
    ("fp32", 0, 1, 16), ("autocast", 0, 1, 16), ("mixed", 0, 1, 16), ("bf16", 0, 1, 8),
    ("mixed", 1, 64, 4 + 12 / 64), ("mixed", 2, 64, 2 + 14 / 64), ("mixed", 3, 64, 16 / 64),
    ("fp32", 1, 4, 8 + 8 / 4), ("fp32", 2, 4, 4 + 12 / 4), ("fp32", 3, 4, 16 / 4)])
def test_bytes_per_parameter_are_the_papers(precision, stage, ranks, per_parameter):
    parameters = 64_000_000
    got = memory.training_bytes(parameters, precision, stage, ranks) / parameters
    assert got == per_parameter, (f"{precision}, ZeRO-{stage} on {ranks} ranks: expected "
                                  f"{per_parameter} bytes per parameter, got {got}")


@pytest.mark.exercise("7.1")
def test_seven_billion_need_112_gb_and_zero_papers_figure_1():
    assert memory.training_bytes(7_000_000_000) == 112_000_000_000
    gb = [memory.training_bytes(7_500_000_000, "mixed", stage, 64) / 1e9 for stage in range(4)]
    assert [round(x, 1) for x in gb] == [120.0, 31.4, 16.6, 1.9], "figure 1 of the ZeRO paper"


@pytest.mark.exercise("7.1")
def test_a_share_is_rounded_up():
    got = memory.training_bytes(10, "fp32", 3, 4)
    assert got == 3 * 16, f"10 parameters on 4 ranks: the largest share is 3, not 2.5; got {got}"


@pytest.mark.exercise("7.1")
def test_unknown_precision_or_stage_is_refused():
    with pytest.raises(ValueError):
        memory.training_bytes(10, "fp32", 1, 0)
    with pytest.raises(ValueError):
        memory.training_bytes(10, "int3")
    with pytest.raises(ValueError):
        memory.training_bytes(10, "fp32", 4)


@pytest.mark.exercise("7.2")
def test_a_view_and_its_base_are_one_storage():
    base = torch.zeros(10)
    assert memory.storage_bytes([base, base[:5], base.view(2, 5)]) == 40, "one storage, once"
    assert memory.storage_bytes([base[:5], base[5:]]) == 40, "two views of one storage"
    assert memory.storage_bytes([base[:1]]) == 40, "a view of 1 number keeps all 10 alive"
    assert memory.storage_bytes([base, torch.zeros(3, dtype=torch.bfloat16)]) == 46
    assert memory.storage_bytes([]) == 0


@pytest.mark.parametrize("dtype, precision", [(torch.float32, "fp32"), (torch.bfloat16, "bf16")])
def test_the_account_equals_real_storages_to_the_byte(dtype, precision):
    model = GPT(SMALL).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(2, 16, dtype=torch.long), torch.zeros(2, 16, dtype=torch.long))[1].backward()
    optimizer.step()
    predicted = memory.bytes_by_kind(sum(p.numel() for p in model.parameters()), precision)
    assert memory.measured_bytes(model.parameters(), [optimizer]) == predicted


@pytest.mark.parametrize("fused", [True, False])
def test_activations_counted_without_memory_equal_those_kept(fused):
    model, ids = GPT(SMALL), torch.zeros(3, 16, dtype=torch.long)
    if fused:
        for block in model.blocks:
            block.attention.attend = lambda q, k, v, mask=None: F.scaled_dot_product_attention(
                q, k, v, is_causal=True)
    counted = memory.activation_bytes(SMALL, batch=3, fused=fused)
    assert counted == memory.saved_bytes(model, ids, ids)


def test_activations_of_a_real_7b_are_counted_in_a_second():
    llama = GPTConfig(vocab_size=32_000, layers=32, width=4096, heads=32, sequence_length=2048,
                      mlp="swiglu", mlp_width=11_008, qk_norm=False, mix_previous=False)
    assert 20e9 < memory.activation_bytes(llama, 1) < 30e9, "about 24 GB for one 2k sequence"
    assert memory.activation_bytes(llama, 1, "bf16") < 0.62 * memory.activation_bytes(llama, 1)


def test_the_plan_says_how_many_gpus():
    assert memory.plan_memory(7e9, 80e9) == {0: None, 1: 3, 2: 2, 3: 2}
    assert memory.plan_memory(70e9, 80e9)[3] == 14
    assert memory.plan_memory(7e9, 80e9, activations=30e9)[0] is None
    assert memory.plan_memory(1e9, 80e9)[0] == 1
