"""What few bits cost: the sizes follow from the blocks, and every token of the text counts once."""

import math

import pytest
import torch
import torch.nn.functional as F

from gpt import GPT, GPTConfig
from quantisation import BLOCKS
from quantisation_table import in_blocks, table_of, total_nats


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GPT(GPTConfig(vocab_size=64, width=32, layers=1, heads=2, sequence_length=32)).eval()


def test_the_size_of_a_model_is_that_of_its_blocks(model):
    whole = {p.data_ptr(): p for p in model.parameters()}.values()
    matrices = sum(p.numel() for p in whole if p.dim() == 2 and p.shape[1] % 32 == 0)
    rest = sum(p.numel() for p in whole) - matrices
    assert matrices > 10 * rest > 0
    for kind in ("F32", "F16", "Q8_0", "Q4_1"):
        numbers, width = BLOCKS[kind]
        counted = matrices if numbers > 1 else sum(p.numel() for p in whole if p.dim() == 2)
        left = sum(p.numel() for p in whole) - counted
        assert in_blocks(model, kind)[1] == counted * width // numbers + 4 * left


def test_float32_changes_nothing_fewer_bits_more_and_the_model_itself_is_left_alone(model):
    ids = torch.arange(20)[None]
    before = model(ids)[0].detach().clone()
    gaps = [float((in_blocks(model, kind)[0](ids)[0] - before).abs().max())
            for kind in ("F32", "F16", "Q8_0", "Q4_0")]
    assert gaps[0] == 0 < gaps[1] < gaps[2] < gaps[3]
    assert torch.equal(model(ids)[0], before)


def test_every_token_but_the_first_counts_once_with_half_a_context(model):
    ids = torch.randint(64, (53,), generator=torch.Generator().manual_seed(1)).tolist()
    want = 0.0
    for counted in range(1, 53, 8):
        begin, end = max(0, counted - 8), min(counted + 8, 53)
        logits = model(torch.tensor([ids[begin:end - 1]]))[0][0, counted - 1 - begin:]
        want += float(F.cross_entropy(logits, torch.tensor(ids[counted:end]), reduction="sum"))
    assert math.isclose(total_nats(model, ids, 16), want, rel_tol=1e-5)


def test_a_row_for_each_kind_beside_float32(model):
    rows = table_of(model, list(range(40)), 100, ("F32", "Q8_0"))
    assert [row["bits"] for row in rows] == [32, 8.5]
    assert rows[0]["ratio"] == 1 and rows[1]["megabytes"] < rows[0]["megabytes"] / 3
