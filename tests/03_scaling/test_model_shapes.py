"""The rules from a width to a run, and that every shape is one the GPT accepts."""

import pytest

from flops import training_flops
from model_shapes import WIDTHS, batch_rows, model_of, steps_for


def test_every_width_makes_a_model_that_grows():
    costs = [training_flops(model_of(w, 4096, 256), 1) for w in WIDTHS]
    assert costs == sorted(costs)
    for width in WIDTHS:
        config = model_of(width, 4096, 256)
        assert width % (2 * config.heads) == 0 and config.layers >= 2
        assert config.heads >= 2 and config.late_keys, "one head of two is late, so it can copy"


@pytest.mark.parametrize("tokens, rows", [(1e4, 4), (3e5, 4), (1e6, 8), (4.5e6, 16), (1e9, 16)])
def test_batches_grow_with_the_tokens(tokens, rows):
    assert batch_rows(tokens, 256) == rows


def test_steps_spend_the_budget():
    for width in (32, 96, 192):
        config = model_of(width, 4096, 256)
        steps, rows = steps_for(config, 1e12)
        assert training_flops(config, steps * rows * 256) == pytest.approx(1e12, rel=0.02)
