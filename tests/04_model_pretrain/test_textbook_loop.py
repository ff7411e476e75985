"""textbook_loop.py is rung 1: its losses are those of the loop for long runs, and it runs alone."""

import copy

import pytest
import torch

import textbook_loop
import training_loop
from gpt import GPT, GPTConfig

torch.set_num_threads(1)


def batches(step: int):
    rows = torch.randint(0, 40, (4, 17), generator=torch.Generator().manual_seed(step))
    return rows[:, :-1], rows[:, 1:].clone()


@pytest.mark.parametrize("steps", [1, 7, 60])
def test_the_plain_loop_gives_the_very_losses_of_the_long_one(steps):
    torch.manual_seed(0)
    plain = GPT(GPTConfig(vocab_size=40, sequence_length=16, layers=2, width=32, heads=2))
    long = copy.deepcopy(plain)
    losses = textbook_loop.train(plain, batches, steps, 0.01)
    recipe = training_loop.Recipe(optimizer="adamw", learning_rate=0.01)
    assert losses == training_loop.train(long, batches, steps, recipe)
    for (name, a), b in zip(plain.named_parameters(), long.parameters()):
        assert torch.equal(a, b), f"{name} differs after {steps} updates"


def test_it_learns_to_spell():
    model = textbook_loop.learn_bytes(b"the cat sat on the mat. " * 60, steps=60)
    text = textbook_loop.continue_text(model, b"the cat ", 72)
    assert b"the cat sat on the mat. " in text, text
