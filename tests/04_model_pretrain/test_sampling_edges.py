"""Prompts of any kind, contexts of one token, logits that are no numbers; 64 bits at any scale."""

import math

import numpy as np
import pytest
import torch

from artifacts import BadInput
from batch_generation import generate_batch
from generate import choose, generate
from gpt import GPT, GPTConfig
from optimizers import orthogonalise
from training_loop import Recipe, SpikeGuard, rate_at

torch.set_num_threads(1)
MODEL = GPT(GPTConfig(vocab_size=32, layers=1, width=16, heads=2, sequence_length=8)).eval()


@pytest.mark.parametrize("prompt", [[3, 1, 4], (3, 1, 4), np.array([3, 1, 4]),
                                    torch.tensor([3, 1, 4])])
def test_a_prompt_may_be_any_sequence(prompt):
    assert list(generate(MODEL, prompt, 3, 0)) == list(generate(MODEL, [3, 1, 4], 3, 0))


def test_no_prompts_have_no_continuations():
    assert generate_batch(MODEL, [], 3) == [] and generate_batch(
        MODEL, [], 3, return_logprobs=True) == ([], [])


def test_a_context_of_one_token_goes_on():
    small = GPT(GPTConfig(vocab_size=32, layers=1, width=16, heads=2, sequence_length=1)).eval()
    assert len(list(generate(small, [3], 3, 0))) == 3


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_said_and_not_drawn(bad, temperature):
    with pytest.raises(BadInput, match="no numbers"):
        choose(torch.tensor([[0.0, bad, 1.0]]), torch.tensor([[0]]), temperature=temperature)
    forbidden = torch.tensor([[1.0, -math.inf, -math.inf]])
    assert choose(forbidden, torch.tensor([[1]]), temperature=temperature) == 0


@pytest.mark.parametrize("options", [dict(temperature=math.inf), dict(temperature=math.nan),
                                     dict(repetition_penalty=math.inf), dict(top_p=math.nan),
                                     dict(min_p=math.nan)])
def test_infinite_settings_are_refused(options):
    with pytest.raises(ValueError):
        choose(torch.zeros(1, 3), torch.tensor([[0]]), **options)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1.0, 1e200])
def test_orthogonalise_keeps_the_range_of_64_bits(size):
    matrix = torch.randn(8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    same = orthogonalise(matrix, dtype=torch.float64)
    assert torch.allclose(orthogonalise(matrix * size, dtype=torch.float64), same, atol=1e-6), (
        "a matrix of any size gives the same")


def test_an_unknown_schedule_and_the_first_loss_of_a_small_window():
    with pytest.raises(ValueError, match="wsd"):
        rate_at(0, 10, Recipe(schedule="wsd"))
    assert not SpikeGuard(window=1).is_spike(5.0)
