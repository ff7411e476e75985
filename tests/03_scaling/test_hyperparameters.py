"""The best rate of known curves, muP's table, and muP at work on a real model."""

import numpy as np
import pytest
import torch

import hyperparameters
from artifacts import BadInput

torch.set_num_threads(1)


@pytest.mark.exercise("3.14")
def test_the_minimum_of_an_exact_curve_in_any_order():
    rates = np.array([0.08, 0.005, 0.04, 0.01, 0.02])
    losses = 3.0 + 0.1 * np.log(rates / 0.025) ** 2
    rate, loss = hyperparameters.best_rate(rates, losses)
    assert rate == pytest.approx(0.025, rel=1e-6), f"minimum at {rate}, planted 0.025: log rate?"
    assert loss == pytest.approx(3.0)


@pytest.mark.exercise("3.14")
def test_a_rate_that_explodes_far_away_does_not_move_the_minimum():
    rates = np.array([0.005, 0.01, 0.02, 0.04, 0.08])
    losses = 3.0 + 0.1 * np.log(rates / 0.02) ** 2
    losses[-1] = 9.0
    rate, _ = hyperparameters.best_rate(rates, losses)
    assert rate == pytest.approx(0.02, rel=1e-6), f"only the neighbours count: {rate}"


@pytest.mark.exercise("3.14")
@pytest.mark.parametrize("losses", [[1, 2, 3], [3, 2, 1]], ids=["smallest", "largest"])
def test_an_optimum_at_the_edge_is_refused(losses):
    with pytest.raises(ValueError):
        hyperparameters.best_rate([0.01, 0.02, 0.04], losses)


@pytest.mark.exercise("3.15")
def test_mup_rates_by_hand():
    got = hyperparameters.mup_rates(0.01, width=256, base_width=64)
    want = {"embedding": 0.01, "vector": 0.01, "matrix": 0.0025, "head": 0.0025}
    for kind, rate in want.items():
        assert got[kind] == pytest.approx(rate), f"{kind}: {got[kind]}, by the paper's table {rate}"
    same = hyperparameters.mup_rates(0.01, 64, 64)
    assert set(same.values()) == {0.01}, f"at the base width nothing changes: {same}"


def test_with_mup_the_logits_move_alike_at_every_width_and_without_they_do_not():
    found = hyperparameters.coordinate_check(widths=(32, 64, 128))
    assert abs(found["muP"]["exponent"]) < 0.2, found["muP"]
    assert found["one rate"]["exponent"] > 0.35, found["one rate"]


def rows_of(exponent: float) -> list[dict]:
    """Curves whose best rate is 0.02 (width / 64)^exponent."""
    return [{"width": w, "learning_rate": r,
             "loss": 3 + 0.05 * np.log(r / (0.02 * (w / 64) ** exponent)) ** 2}
            for w in (32, 64, 128, 256) for r in np.geomspace(0.002, 0.2, 7)]


@pytest.mark.parametrize("exponent", [0.0, -0.5])
def test_the_planted_exponent_is_found_and_extrapolates(exponent):
    found = hyperparameters.study(rows_of(exponent))
    assert found["exponent"] == pytest.approx(exponent, abs=1e-6)
    assert found["predicted"] == pytest.approx(found["measured"], rel=1e-6)
    assert found["regret"] < 0.02


def test_too_few_widths_are_refused():
    with pytest.raises(BadInput, match="too few"):
        hyperparameters.study([r for r in rows_of(0.0) if r["width"] < 100])


@pytest.mark.exercise("3.14")
@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_rate_that_diverged_is_left_out_and_seeds_are_averaged(lost):
    rates = np.array([0.16, 0.005, 0.04, 0.01, 0.02, 0.08])
    losses = 3.0 + 0.1 * np.log(rates / 0.025) ** 2
    losses[0] = lost
    rate, loss = hyperparameters.best_rate(rates, losses)
    assert rate == pytest.approx(0.025) and loss == pytest.approx(3.0), "the best of the others"
    two = hyperparameters.best_rate(np.tile(rates, 2), np.append(losses - 0.1, losses + 0.1))
    assert two == pytest.approx((rate, loss)), f"two seeds of each rate count as their mean: {two}"
    with pytest.raises(ValueError):
        hyperparameters.best_rate(rates[:1], losses[:1])


def test_the_only_neighbour_diverged_is_said():
    with pytest.raises(ValueError, match="largest.*1 rates diverged"):
        hyperparameters.best_rate([0.01, 0.02, 0.04], [3.0, 2.0, np.nan])


def test_runs_on_other_data_are_put_aside(tmp_path, monkeypatch, capsys):
    from types import SimpleNamespace
    import sweep
    path = tmp_path / "rates.csv"
    path.write_text("run,loss\nrate-32,1\n", encoding="utf-8")
    for corpus, there in (("a", True), ("a", True), ("b", False)):
        monkeypatch.setattr(sweep, "Shard", lambda *_: SimpleNamespace(
            tokenizer_sha256="t", corpus_sha256=corpus))
        sweep.keep_runs_of(tmp_path, path)
        assert path.exists() == there, f"runs on corpus a, now {corpus}"
    assert (tmp_path / "rates.other.csv").exists() and "other data" in capsys.readouterr().out
