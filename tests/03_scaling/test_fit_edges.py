"""What a law cannot answer is refused in words; a table's faults are named by the line."""

import math

import numpy as np
import pytest

from artifacts import BadInput
from data_limited import effective_tokens, limited_allocation
from hyperparameters import best_rate, mup_rates
from inference_aware import demand_for_ratio
from on_paper import gpu_flops
from power_laws import ParametricFit, fit_parametric, optimal_allocation, predict
from run_table import load_points

LAW = ParametricFit(1.8, 400, 400, 0.34, 0.28)
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
    lambda: fit_parametric(np.repeat([1e6, 3e6, 1e7], 3), np.tile([1e8, 1e9, 1e10], 3),
                           np.full(9, 3.0))])
def test_no_answer_is_a_nan(asked):
    with pytest.raises((ValueError, BadInput)):
        asked()


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
