"""Number formats, model families and LoRA: what the statements say in passing, asked for."""

import math
import struct

import numpy as np
import pytest
import torch

import quantisation
from lora import LoRALinear
from model_families import halves_from_pairs, llama3_factors

torch.set_num_threads(1)
RNG = np.random.default_rng(0)


@pytest.mark.exercise("4.31")
@pytest.mark.parametrize("rows, width", [(1, 1), (3, 2), (2, 16), (0, 16), (2, 20)])
def test_nibbles_of_any_size(rows, width):
    packed = RNG.integers(0, 256, (rows, width)).astype(np.uint8)
    got = quantisation.nibbles(packed)
    assert got.shape == (rows, 2 * width) and got.dtype.kind in "iu", f"integers, not {got.dtype}"
    for n in range(rows):
        want = [int(b) % 16 for b in packed[n]] + [int(b) // 16 for b in packed[n]]
        assert got[n].tolist() == want, f"row {n}: the low halves, then the high ones"


def plain_nibbles(packed):
    """Exercise 4.31, right."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def blocks_of(kind, rows=4):
    """Random blocks with a scale (and a minimum) of their own each, as bytes and as numbers."""
    heads, quants = [], RNG.integers(0, 256, (rows, 16)).astype(np.uint8)
    for n in range(rows):
        heads.append([0.25 * (n + 1) * (-1) ** n] + [float(n) - 1.5] * (kind == "Q4_1"))
    raw = np.stack([np.frombuffer(struct.pack(f"<{len(h)}e", *h) + q.tobytes(), np.uint8)
                    for h, q in zip(heads, quants)])
    want = [[h[0] * (x - 8 if kind == "Q4_0" else x) + (h[1] if kind == "Q4_1" else 0)
             for x in [int(b) % 16 for b in q] + [int(b) // 16 for b in q]]
            for h, q in zip(heads, quants)]
    return raw, want


@pytest.mark.parametrize("kind", [pytest.param("Q4_0", marks=pytest.mark.exercise("4.32")),
                                  pytest.param("Q4_1", marks=pytest.mark.exercise("4.33"))])
@pytest.mark.parametrize("rows", [1, 4])
def test_each_block_has_its_own_scale(kind, rows, monkeypatch):
    monkeypatch.setattr(quantisation, "nibbles", plain_nibbles)
    raw, want = blocks_of(kind, rows)
    got = getattr(quantisation, f"dequantise_{kind.lower()}")(raw)
    assert got.dtype == np.float32 and got.shape == (rows, 32), f"{got.dtype} {got.shape}"
    for n in range(rows):
        assert got[n].tolist() == pytest.approx(want[n], abs=1e-6), f"block {n} of {rows}"


@pytest.mark.exercise("4.34")
@pytest.mark.parametrize("seed", [0, 1])
def test_q8_0_of_random_blocks_number_by_number(seed):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(5, 32)) * 10.0 ** rng.integers(-3, 3, (5, 1))).astype(np.float32)
    blocks = quantisation.quantise_q8_0(x)
    for row, block in zip(x, blocks):
        d = np.float32(abs(row).max()) / np.float32(127)
        assert block[:2].tobytes() == struct.pack("<e", d), f"d is {d}, as a 16-bit float"
        q = block[2:].view(np.int8)
        steps = row.astype(np.float64) / d
        away = np.sign(steps) * np.floor(np.abs(steps) + 0.5)
        near_half = np.abs(np.abs(steps) % 1 - 0.5) < 1e-4
        assert (q == away)[~near_half].all(), "each number by its own block's d"


@pytest.mark.exercise("4.35")
@pytest.mark.parametrize("seed", [0, 1])
def test_q4_0_of_random_blocks_number_by_number(seed):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(5, 32)) * 10.0 ** rng.integers(-2, 3, (5, 1))).astype(np.float32)
    blocks = quantisation.quantise_q4_0(x)
    assert blocks.shape == (5, 18)
    for row, block in zip(x, blocks):
        d = row[np.abs(row).argmax()] / np.float32(-8)
        assert block[:2].tobytes() == struct.pack("<e", d), f"d is {d}, with its sign"
        q = [int(b) % 16 for b in block[2:]] + [int(b) // 16 for b in block[2:]]
        steps = row.astype(np.float64) / d + 8
        clear = np.abs(steps % 1 - 0.5) > 1e-4
        want = np.minimum(15, np.floor(steps + 0.5))
        assert (np.array(q) == want)[clear].all(), "nearest step, at most 15; byte i: i and i + 16"


@pytest.mark.exercise("4.36")
@pytest.mark.parametrize("heads, size", [(1, 4), (3, 2), (2, 8)])
def test_halves_from_pairs_row_by_row(heads, size):
    rows = torch.arange(heads * size * 3.0).view(heads * size, 3)
    got = halves_from_pairs(rows, heads)
    for h in range(heads):
        for i in range(size // 2):
            at = h * size
            assert torch.equal(got[at + i], rows[at + 2 * i]), f"head {h}, row {2 * i}"
            assert torch.equal(got[at + i + size // 2], rows[at + 2 * i + 1]), f"head {h}"


@pytest.mark.exercise("4.37")
@pytest.mark.parametrize("size, base, factor, low, high, original", [
    (8, 500_000.0, 8.0, 1.0, 4.0, 8192), (16, 10_000.0, 32.0, 1.0, 4.0, 8192),
    (12, 1000.0, 3.0, 0.5, 10.0, 700), (4, 100.0, 2.0, 2.0, 3.0, 64)])
def test_llama3_factors_with_any_settings(size, base, factor, low, high, original):
    got = llama3_factors(size, base, factor, low, high, original)
    assert len(got) == size // 2
    for i, value in enumerate(got):
        turns = original / (2 * math.pi * base ** (2 * i / size))
        share = min(1.0, max(0.0, (turns - low) / (high - low)))
        speed = (1 - share) / factor + share
        assert value == pytest.approx(1 / speed), f"pair {i}, {turns:.2f} turns"


@pytest.mark.exercise("4.38")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rank, alpha", [(1, 3.0), (4, 2.0)])
def test_the_correction_of_every_token(bias, rank, alpha):
    g = torch.Generator().manual_seed(0)
    layer = LoRALinear(torch.nn.Linear(3, 5, bias=bias), rank, alpha)
    with torch.no_grad():
        layer.A.copy_(torch.randn(rank, 3, generator=g))
        layer.B.copy_(torch.randn(5, rank, generator=g))
        x = torch.randn(2, 4, 3, generator=g)
        whole = layer.base.weight + alpha / rank * layer.B @ layer.A
        want = x @ whole.T + (layer.base.bias if bias else 0)
        assert (layer(x) - want).abs().max() < 1e-5, "x W^T + b + alpha / rank (x A^T) B^T"


@pytest.mark.parametrize("read, parts", [
    pytest.param(lambda b: quantisation.dequantise_q4_0(b), 1, marks=pytest.mark.exercise("4.32")),
    pytest.param(lambda b: quantisation.dequantise_q4_1(b), 2, marks=pytest.mark.exercise("4.33"))])
@pytest.mark.parametrize("blocks", [0, 1, 4])
def test_blocks_are_read_in_32_bits_however_many(read, parts, blocks, monkeypatch):
    monkeypatch.setattr(quantisation, "nibbles", lambda p: np.hstack([p % 16, p // 16]))    # 4.31
    rng = np.random.default_rng(0)
    scales = rng.normal(size=(blocks, parts)).astype("<f2")
    packed = rng.integers(0, 256, (blocks, 16)).astype(np.uint8)
    got = read(np.hstack([scales.view(np.uint8), packed]))
    q = np.hstack([packed % 16, packed // 16]).astype(np.float32)
    d = scales.astype(np.float32)
    want = d * (q - 8) if parts == 1 else d[:, :1] * q + d[:, 1:]
    assert got.shape == (blocks, 32) and got.dtype == np.float32, f"{got.shape} of {got.dtype}"
    assert np.allclose(got, want, rtol=1e-6, atol=1e-6), "the product needs more than 16 bits"


@pytest.mark.parametrize("write, steps", [
    pytest.param(lambda x: quantisation.quantise_q8_0(x), 127, marks=pytest.mark.exercise("4.34")),
    pytest.param(lambda x: quantisation.quantise_q4_0(x), -8, marks=pytest.mark.exercise("4.35"))])
def test_d_is_rounded_only_when_it_is_stored_and_small_blocks_are_blocks_too(write, steps):
    d = np.float32(1 + 2 ** -11 * 0.9)          # 16 bits make it 1
    x = np.zeros((2, 32), np.float32)
    x[0, :2] = d * np.float32(steps), 3.5003    # 3.4988 d: 3 steps
    x[1] = x[0] * np.float32(1e-7)
    for block in write(x):
        q = block[2:].view(np.int8)[:2].tolist() if steps > 0 else [int(b) % 16 - 8
                                                                   for b in block[2:4]]
        assert q == [steps, 3], f"x / d is [{steps}, 3.4988], stored as {q}"
    assert write(x)[0, :2].tobytes() == struct.pack("<e", 1.0)


@pytest.mark.exercise("4.35")
def test_of_two_largest_sizes_the_first_counts_whatever_its_sign():
    for first in (16, -16):
        x = np.zeros((1, 32), np.float32)
        x[0, 5], x[0, 20] = first, -first
        block = quantisation.quantise_q4_0(x)[0]
        assert block[:2].tobytes() == struct.pack("<e", first / -8), f"the first one is {first}"
        assert int(block[2 + 5]) % 16 == 0 and int(block[2 + 4]) // 16 == 15


@pytest.mark.exercise("4.36")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_square_and_transposed_matrices_have_rows_too(dtype):
    for columns in (8, 5):
        rows = torch.arange(8.0 * columns).view(columns, 8).to(dtype).T     # not contiguous
        got = halves_from_pairs(rows, 2)
        assert got.dtype == dtype and torch.equal(got, rows[[0, 2, 1, 3, 4, 6, 5, 7]])


@pytest.mark.exercise("4.34")
def test_a_block_of_zeros_beside_another_divides_by_nothing():
    x = np.zeros((2, 32), np.float32)
    x[1, 3] = 127
    with np.errstate(divide="raise", invalid="raise"):
        got = quantisation.quantise_q8_0(x)
    assert not got[0].any() and got[1, 2 + 3] == 127
