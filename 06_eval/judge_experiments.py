"""What can be proved about judges only where the truth is planted: simulations, in seconds.

    judge_against_arena(models=8, noise=0.2, seed=0)
    planted_length_bias(lengths, other_lengths, seed=0)

Both are used by `evaluate.py` for the claims judge-98 and judge-length.
"""

import math
from typing import Sequence

import numpy as np

from arena import bradley_terry
from judge import length_controlled_win_rate, rank_correlation


def judge_against_arena(models: int, votes: int = 20_000, prompts: int = 805,
                        noise: float = 0.3, spread: float = 100.0, seed: int = 0) -> float:
    """Spearman's correlation between an arena's ranking and a judge's win rates, simulated.

    True ratings are normal with `spread` points. The arena holds honest votes; the judge compares
    every model with one baseline on `prompts` questions, and sees each model's log odds shifted by
    a taste of its own, normal with `noise` times the spread of the models.
    """
    rng = np.random.default_rng(seed)
    truth = rng.normal(0.0, spread, models) / 400 * math.log(10)        # natural log odds
    first = rng.integers(0, models, votes)
    second = (first + rng.integers(1, models, votes)) % models
    won = rng.random(votes) < 1 / (1 + np.exp(truth[second] - truth[first]))
    names = [f"model {i:03d}" for i in range(models)]
    ratings = bradley_terry([(names[a], names[b], "a" if w else "b") for a, b, w in
                             zip(first.tolist(), second.tolist(), won.tolist())])
    seen = truth + rng.normal(0.0, noise * truth.std(), models)
    rates = rng.binomial(prompts, 1 / (1 + np.exp(truth.mean() - seen))) / prompts
    return rank_correlation([ratings[name] for name in names], rates)


def correlation_by_models(sizes: Sequence[int] = (4, 6, 8, 12, 20, 40), rounds: int = 20,
                          noise: float = 0.2, seed: int = 0) -> list[dict]:
    """Median and 5 to 95 percent range of `judge_against_arena` by number of models.

    The same judge, the same noise: with few models the correlation scatters so widely that 0.98
    can be luck. Rows: models, median, low, high.
    """
    rows = []
    for models in sizes:
        values = [judge_against_arena(models, votes=3000, noise=noise, seed=seed * 1000 + r)
                  for r in range(rounds)]
        low, median, high = np.percentile(values, [5, 50, 95])
        rows.append({"models": models, "median": float(median), "low": float(low),
                     "high": float(high)})
    return rows


def planted_length_bias(lengths: np.ndarray, other_lengths: np.ndarray, bias: float = 1.0,
                        quality: float = 0.0, questions: int = 800, seed: int = 0) -> dict:
    """A judge who likes length by a known amount, on real answer lengths, before and after control.

    Two models of equal quality (or `quality` log odds apart) answer `questions` questions with
    lengths drawn from the two samples (characters); the first is padded to up to double length, by
    a random amount. The judge's log odds are quality, normal question noise, and
    bias * ln(length ratio): not the form that length control assumes, as no real judge's would be.
    Returns truth (the win rate without bias), raw, controlled, unbiased_judge (control where there
    is nothing to remove), and mean characters. If the longer answers were truly better, `raw`
    would be the truth and `controlled` too low: no regression can tell the two cases apart.
    """
    rng = np.random.default_rng(seed)
    ours = rng.choice(np.maximum(lengths, 5), questions) * rng.uniform(1.0, 2.0, questions)
    theirs = rng.choice(np.maximum(other_lengths, 5), questions)
    noise = rng.normal(0.0, 1.0, questions)

    def chance(logits: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-logits))

    ratio = np.log(ours / theirs)
    fair, biased = chance(quality + noise), chance(quality + noise + bias * ratio)
    return {"truth": float(fair.mean()), "raw": float(biased.mean()),
            "controlled": length_controlled_win_rate(biased, ours, theirs),
            "unbiased_judge": length_controlled_win_rate(fair, ours, theirs),
            "characters": [float(ours.mean()), float(theirs.mean())]}
