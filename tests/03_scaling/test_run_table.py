"""Any csv of runs goes in; a bad one is one clear line."""

import numpy as np
import pytest

import run_table
from artifacts import BadInput


def write(path, header, rows):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_flops_stand_in_for_tokens(tmp_path):
    path = write(tmp_path / "a.csv", "Parameters,training_flops,Loss", ["1e6,6e15,3.5"] * 6)
    N, D, L = run_table.load_points(path)
    assert (N[0], D[0], L[0]) == (1e6, 1e9, 3.5), "D = C / (6 N)"


@pytest.mark.parametrize("header, rows, why", [
    ("params,loss", ["1,2"] * 6, "no column for D or C"),
    ("params,tokens,loss", ["1e6,1e8,nan"] * 6, "a.csv:2: loss is 'nan'"),
    ("params,tokens,loss", ["1e6,1e8,2"] * 5 + ["1e6,-3,2"], "a.csv:7: tokens"),
    ("params,tokens,loss", ["1e6,1e8,2", "1e6,x,2"], "a.csv:3"),
    ("params,tokens,loss", ["1e6,1e8,2"] * 3, "3 runs, and a law needs 6"),
    ("params,tokens,loss", [], "no rows")])
def test_bad_tables_say_what_and_where(tmp_path, header, rows, why):
    with pytest.raises(BadInput) as caught:
        run_table.load_points(write(tmp_path / "a.csv", header, rows))
    assert why in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_written_is_read_again(tmp_path):
    row = dict.fromkeys(run_table.COLUMNS, "")
    row |= {"params_products": 12345, "tokens": 1e9, "loss": 2.3456789}
    run_table.write_rows(tmp_path / "r.csv", [row] * 6)
    N, D, L = run_table.load_points(tmp_path / "r.csv")
    assert np.allclose([N[0], D[0], L[0]], [12345, 1e9, 2.345679], rtol=1e-9)


def test_runs_that_read_their_tokens_twice_are_no_part_of_a_law(tmp_path):
    path = write(tmp_path / "a.csv", "family,params,tokens,loss",
                 ["gpt,1e6,1e8,2"] * 6 + ["repeat,1e6,1e8,9"])
    assert list(run_table.load_points(path)[2]) == [2] * 6
