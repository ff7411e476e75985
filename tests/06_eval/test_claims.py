"""Verdicts follow from the numbers; noise earns none; the judge's interval knows of the votes."""

import numpy as np
import pytest

from arena import simulate_votes
from eval_claims import judge_98, perplexity_breaks, perplexity_choices, prompt_format
from format_study import spread
from measurements import judge_table, rating_draws


def cells(chances, n, seed):
    """Rows of a format study whose cells answer rightly with these chances."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, chance in enumerate(chances):
        right = rng.random(n) < chance
        rows.append({"style": f"s{i}", "scorer": "sum", "accuracy": float(right.mean()), "n": n,
                     "right": "".join("01"[int(x)] for x in right)})
    return rows


@pytest.mark.exercise("6.24")
def test_thirty_equal_ways_are_no_spread():
    """Best minus worst of thirty guesses is 0.16 on 120 questions, though none is better."""
    gaps = [spread(cells([0.25] * 30, 120, seed)) for seed in range(60)]
    assert np.mean([g["chosen"] for g in gaps]) == pytest.approx(0.16, abs=0.02), (
        "the chosen extremes look like an effect")
    mean = np.mean([g["spread"] for g in gaps])
    assert abs(mean) < 0.02, (
        f"thirty equally good cells: choose on one half, measure on the other, and nothing is left "
        f"on average; got {mean:.3f}. Are the extremes measured where they were chosen?")
    seen = sum(g["low"] > 0 for g in gaps)
    assert seen <= 6, f"{seen} of 60 intervals at 95 % claim an effect of pure noise"
    assert not any(prompt_format({"formats_spread": g, "formats_of": "x"})["verdict"] == "holds"
                   for g in gaps), "noise earned the verdict 'holds'"


@pytest.mark.exercise("6.24")
def test_a_real_spread_is_found():
    gaps = [spread(cells([0.25] * 29 + [0.6], 120, seed)) for seed in range(40)]
    mean = np.mean([g["spread"] for g in gaps])
    assert mean == pytest.approx(0.35, abs=0.03), (
        f"one cell of thirty is 0.35 better: expected about 0.35, got {mean:.3f}. Does each half "
        "measure in its turn?")
    half = np.mean([g["high"] - g["low"] for g in gaps]) / 2
    expected = 1.96 * (0.6 * 0.4 + 0.25 * 0.75) ** 0.5 / 120 ** 0.5
    assert half == pytest.approx(expected, rel=0.15), (
        f"half the interval of a mean of 120 differences is {expected:.3f}, got {half:.3f}")
    covered = np.mean([g["low"] <= 0.35 <= g["high"] for g in gaps])
    assert covered >= 0.85, f"the interval holds the planted 0.35 in {covered:.0%}"
    assert prompt_format({"formats_spread": gaps[0], "formats_of": "x"})["verdict"] == "holds"


@pytest.mark.exercise("6.24")
def test_a_spread_by_hand():
    two = [{"accuracy": 0.5, "right": "1100"}, {"accuracy": 0.5, "right": "0011"}]
    assert spread(two)["spread"] == 0.0 and spread(two)["chosen"] == 0.0
    # Places 0 and 2 choose the first cell, which is 1 better at 1 and 0 at 3; 1 and 3 agree.
    uneven = [{"accuracy": 0.75, "right": "1110"}, {"accuracy": 0.0, "right": "0000"}]
    got = spread(uneven)
    assert got["spread"] == 0.75 and got["chosen"] == 0.75 and got["best"] is uneven[0], got
    one = spread([{"accuracy": 1.0, "right": "1"}, {"accuracy": 0.0, "right": "0"}])
    assert (one["spread"], one["low"], one["high"]) == (0.0, -1.0, 1.0), "one question: nothing"


@pytest.mark.parametrize("choices, verdict", [(33.0, "holds"), (28.0, "holds in part"),
                                              (21.3, "does not hold here")])
def test_perplexity_is_choices_only_of_a_model_that_knows_how_unsure_it_is(choices, verdict):
    got = perplexity_choices({"perplexity": {"base": {
        "perplexity": 33.0, "effective_choices": choices, "by_position": []}}})
    assert got["verdict"] == verdict


@pytest.mark.parametrize("interval, rho, verdict", [
    ([0.2, 1.0], 1.0, "not measurable at this scale"), (None, 1.0, "not measurable at this scale"),
    ([0.95, 1.0], 0.99, "holds"), ([0.6, 0.9], 0.8, "holds in part"),
    ([-0.1, 0.3], 0.1, "does not hold here")])
def test_a_judges_wide_interval_is_no_verdict(interval, rho, verdict):
    got = judge_98({"arena": {"bradley_terry": dict.fromkeys("abcd")}, "judges": {
        "reward model": {"spearman": rho, "spearman_interval": interval, "models": "abcd"}}})
    assert got["verdict"] == verdict


@pytest.mark.parametrize("bits, ratings, verdict", [
    ((1.7, 2.0, 2.1), (600, 1100, 1300), "holds"), ((1.7, 1.6, 1.5), (600, 1100, 1300),
                                                    "does not hold here"),
    ((1.7, 1.69, 2.1), (1100, 900, 1000), "does not hold here")])
def test_perplexity_breaks_where_voters_and_bits_disagree(bits, ratings, verdict):
    names = ("base", "sft", "dpo")
    got = perplexity_breaks({
        "arena": {"bradley_terry": {m: {"rating": r} for m, r in zip(names, ratings)}},
        "perplexity": {m: {"bits_per_byte": b, "interval": [b - 0.05, b + 0.05]}
                       for m, b in zip(names, bits)}})
    assert got["verdict"] == verdict, got["measured"]


def test_the_judges_interval_knows_that_votes_are_few():
    """Three models of almost equal answers: with 60 votes the arena's own order is a guess."""
    texts = ("Return the sorted list.", "Return the sorted lists.", "Return a sorted list.")
    answers = {name: [{"question": f"What does a.sort_{i} do?", "text": text, "ended": True}
                      for i in range(20)] for name, text in zip(("sft", "dpo", "ppo"), texts)}
    battles = [{"model_a": a, "model_b": b, "winner": w} for a, b, w in simulate_votes(
        {"sft": 1010, "dpo": 1000, "ppo": 990}, 60, seed=3)]
    row = judge_table({"length": lambda q, a, b: 0.5 + 0.001 * (len(a) - len(b))}, answers, battles,
                      "sft")["length"]
    low, high = row["spearman_interval"]
    assert low < 0 and low <= row["spearman"] <= high, (
        f"{row['spearman']} in {low} to {high}: the votes alone leave the order open")
    draws = rating_draws(battles, ["dpo", "ppo", "sft"])
    assert len(draws) == 200 and np.std([d[0] for d in draws]) > 5
    assert rating_draws([], ["a"]) == []
