"""What a law cannot answer is refused in words; a table's faults are named by the line."""

import math

import numpy as np
import pytest

from artifacts import BadInput
from data_limited import effective_tokens, epochs_at_price, limited_allocation
from hyperparameters import best_rate, mup_rates
from inference_aware import cheapest, demand_for_ratio, tokens_to_reach
from isoflop import parabola_minimum
from on_paper import gpu_flops
from power_laws import ParametricFit, fit_parametric, optimal_allocation, predict
from run_table import load_points

LAW = ParametricFit(1.8, 400, 400, 0.34, 0.28)
GRID = np.repeat([1e6, 3e6, 1e7], 3), np.tile([1e8, 1e9, 1e10], 3)
ROWS = "\n".join(f"{n},{n * 20},{3 - 0.1 * i}" for i, n in enumerate(range(1000, 9000, 1000)))


@pytest.mark.parametrize("asked", [
    lambda: optimal_allocation(LAW, 0), lambda: optimal_allocation(LAW, -1e20),
    lambda: optimal_allocation(LAW, np.array([1e20, math.nan])),
    lambda: optimal_allocation(ParametricFit(1.8, 400, 400, math.inf, 0.28), 1e20),
    lambda: limited_allocation(LAW, 0, 1e9), lambda: limited_allocation(LAW, math.nan, 1e9),
    lambda: effective_tokens(-5, 1e9), lambda: effective_tokens([1e9, math.nan], 1e9),
    lambda: demand_for_ratio(LAW, 2.5, -3), lambda: demand_for_ratio(LAW, 2.5, math.nan),
    lambda: mup_rates(0.01, 0, 64), lambda: mup_rates(math.nan, 64, 64),
    lambda: gpu_flops(math.nan, 30), lambda: gpu_flops(8, math.inf),
    lambda: best_rate([0.01, 0.1, 1], [2, 1]), lambda: best_rate([math.nan, .01, .1], [0, 2, 1]),
    lambda: best_rate([-0.01, 0.1, 1, 10], [3, 2, 1, 2]), lambda: predict(LAW, 0, 1e9),
    lambda: predict(LAW, np.array([1e6, -5]), 1e9), lambda: predict(LAW, 1e6, math.nan),
    lambda: fit_parametric(*GRID, np.full(9, 3.0)),
    lambda: fit_parametric(*GRID, predict(LAW, *GRID), delta=0),
    lambda: fit_parametric(*GRID, predict(LAW, *GRID), delta=math.nan),
    lambda: fit_parametric(*GRID, predict(LAW, *GRID), -1),
    lambda: parabola_minimum(np.array([1e6, 2e6, 4e6, 8e6]), np.full(4, 2.3)),
    lambda: epochs_at_price(0.1, -3), lambda: epochs_at_price(0.1, math.nan),
    lambda: cheapest(ParametricFit(1.8, 400, 400, -0.3, 0.3), 2.0, 0),
    lambda: tokens_to_reach(LAW, math.nan, 1e9), lambda: tokens_to_reach(LAW, 2.0, 0),
    lambda: best_rate([0.1, 1, math.inf], [2, 1, 2])])
def test_no_answer_is_a_nan(asked):
    with pytest.raises((ValueError, BadInput)):
        asked()


@pytest.mark.parametrize("half_life", [1e9, 1e17, 1e30, math.inf])
def test_where_repeating_costs_nothing_a_token_is_a_token(half_life):
    got = float(effective_tokens(4e9, 1e9, half_life))
    assert abs(got / 4e9 - 1) < 1e-8, f"R* = {half_life:g}: four epochs are worth {got / 1e9} texts"
    assert effective_tokens(4e9, math.inf, half_life) == 4e9, "text without end is never repeated"


@pytest.mark.parametrize("text, line", [
    ("params,tokens,loss\n\n\n100,100,x\n", 4),
    ('run,params,tokens,loss\n"a\nb",1,1,3\nx,1,1,?\n', 4),
    (f"params,tokens,loss\n{ROWS}\n100,100,nan\n", 10), ('params,tokens,loss\n"1,000",100,3\n', 2)])
def test_the_line_of_a_bad_number_is_the_one_an_editor_shows(tmp_path, text, line):
    path = tmp_path / "runs.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=f"runs.csv:{line}: "):
        load_points(path)


def test_empty_lines_of_a_table_are_no_runs(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("﻿Params , Tokens, Loss\n\n" + ROWS.replace("\n", "\n\n"), encoding="utf-8")
    assert len(load_points(path)[0]) == 8
