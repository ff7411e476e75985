"""Sixteen bits: spacing from the format itself, a scaler that never lets an infinity in."""

import math

import pytest
import torch

import precision
from gpt import GPTConfig

torch.set_num_threads(1)


@pytest.mark.exercise("7.23")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [1.0, 1.5, 2.0, 3.0, 1000.0, 0.3])
def test_spacing_is_the_distance_to_the_next_number(dtype, value):
    value = torch.tensor(value).to(dtype)
    bits = {4: torch.int32, 2: torch.int16}[dtype.itemsize]
    following = (value.view(bits) + 1).view(dtype)          # the next bit pattern
    want = following.double().item() - value.double().item()
    got = precision.spacing(value.item(), dtype)
    assert got == want, f"next number after {value.item()} in {dtype}: {want} away, got {got}"


def test_a_small_adam_step_is_lost_in_bf16():
    weight = torch.tensor(1.0, dtype=torch.bfloat16)
    assert weight + 0.001 == weight and precision.spacing(1.0, torch.bfloat16) / 2 > 0.001


def stepped(scaler, grad, place=1):
    """One step of three weights of 1; `grad` is the gradient of one of them, the others' is 0."""
    weights = [torch.nn.Parameter(torch.tensor([1.0])) for _ in range(3)]
    optimizer = torch.optim.SGD([{"params": weights[:2]}, {"params": weights[2:]}], lr=1.0)
    for number, p in enumerate(weights):
        p.grad = torch.tensor([grad if number == place else 0.0])
    p = weights[place]
    return scaler.step(optimizer), p.item(), p.grad.item()


@pytest.mark.exercise("7.24")
def test_the_scaler_divides_before_the_update():
    scaler = precision.LossScaler(8.0)
    assert scaler.scale(torch.tensor(2.0)) == 16
    updated, weight, grad = stepped(scaler, 4.0)
    assert updated and weight == 0.5 and grad == 0.5, f"4 / 8 = 0.5; got weight {weight}, {grad}"


@pytest.mark.exercise("7.24")
@pytest.mark.parametrize("bad, place", [(math.inf, 0), (-math.inf, 1), (math.nan, 2)])
def test_an_overflow_skips_the_update_and_halves_the_factor(bad, place):
    scaler = precision.LossScaler(8.0, interval=2)
    stepped(scaler, 1.0)
    updated, weight, _ = stepped(scaler, bad, place)
    assert not updated and weight == 1.0, f"gradient {bad}: the weight must not move, is {weight}"
    assert scaler.factor == 4, f"factor 8 is halved, got {scaler.factor}"
    stepped(scaler, 1.0)
    assert scaler.factor == 4, "the count of good steps starts again after an overflow"
    stepped(scaler, 1.0)
    assert scaler.factor == 8, "two good steps in a row double it"
    stepped(scaler, 1.0)
    assert scaler.factor == 8, "and then two more are needed"


@pytest.mark.exercise("7.24")
def test_one_infinity_among_many_good_numbers_spoils_the_step():
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    p.grad, q.grad = torch.tensor([1.0, math.inf, 1.0]), torch.ones(3)
    scaler = precision.LossScaler(8.0, interval=1)
    assert not scaler.step(torch.optim.SGD([p, q], lr=1.0)), "one of six numbers is infinite"
    assert (p.tolist(), q.tolist()) == ([1.0] * 3, [1.0] * 3) and scaler.factor == 4
    for factor in (8, 16):
        stepped(scaler, 1.0)
        assert scaler.factor == factor, "with an interval of 1 every good step doubles it"


def test_every_way_trains_and_bytes_are_as_the_account_says():
    config = GPTConfig(vocab_size=32, layers=1, width=32, heads=2, sequence_length=64)
    rows = {row["way"]: row for row in precision.precision_rows(3, config, rows=4)}
    assert all(math.isfinite(row["losses"][-1]) for row in rows.values())
    full, auto, pure = (rows[w]["bytes"] for w in ("fp32", "bf16 autocast", "pure bf16"))
    assert all(auto[kind] == full[kind] for kind in ("weights", "gradients", "optimizer"))
    assert all(2 * pure[kind] == full[kind] for kind in ("weights", "gradients", "optimizer"))
    assert auto["activations"] < full["activations"]
