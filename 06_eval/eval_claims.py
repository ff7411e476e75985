"""Six claims of the article, each judged from what was measured: a verdict is computed, not typed.

`evaluate.py` calls `record_all(results)`; each claim becomes out/claims/<id>.json. A verdict says
"holds in part" when the direction is right but the interval, or the size, falls short.
"""

import math
from typing import Any

import numpy as np

from arena import bradley_terry, simulate_votes, votes_needed
from artifacts import out, record_claim
from format_study import PUBLISHED
from judge import rank_correlation
from judge_experiments import correlation_by_models, planted_length_bias

COMMAND = "python 06_eval/evaluate.py"


def verdict(full: bool, part: bool) -> str:
    """The word for a claim: `full` holds, else `part` holds in part, else it does not."""
    return "holds" if full else "holds in part" if part else "does not hold here"


def perplexity_choices(results: dict, log: list[dict] | None = None) -> dict[str, Any]:
    """Is perplexity the number of tokens the model hesitates between? Compared with the entropy of
    its own guesses: exp(mean entropy) is the number of equally likely tokens that would leave it
    as unsure. They agree when the model knows how unsure it should be."""
    name = "base" if "base" in results["perplexity"] else next(iter(results["perplexity"]))
    report = results["perplexity"][name]
    ratio = report["effective_choices"] / report["perplexity"]
    unsure = ("; it is surer than it should be" if ratio < 0.9 else
              "; it is less sure than it could be" if ratio > 1.1 else "")
    course = [math.exp(row["val_loss"]) for row in log or [] if "val_loss" in row]
    fell = (f"; while it trained, perplexity fell from {course[0]:.0f} to {course[-1]:.0f}"
            if len(course) > 1 else "")
    return {"measured": f"{name} model: perplexity {report['perplexity']:.1f}, and the entropy of "
            f"its own guesses is that of {report['effective_choices']:.1f} equally likely tokens"
            f"{unsure}{fell}", "value": {"perplexity": report["perplexity"],
                                 "effective_choices": report["effective_choices"]},
            "expected": "the two numbers agree (within 10 %); the best models went from about 70 "
            "in 2017 to under 10 in 2023",
            "verdict": verdict(abs(math.log(ratio)) < 0.1, abs(math.log(ratio)) < 0.3),
            "details": {"by_position": report["by_position"], "over_training": course}}


def perplexity_breaks(results: dict) -> dict[str, Any] | None:
    """Does perplexity stop meaning anything after alignment? It should then rank models otherwise
    than voters do."""
    ratings = {m: r["rating"] for m, r in results["arena"]["bradley_terry"].items()}
    bits = {m: r["bits_per_byte"] for m, r in results["perplexity"].items()}
    aligned = [m for m in ratings if m != "base" and m in bits]
    if "base" not in ratings or not aligned:
        return None
    best = max(aligned, key=lambda m: ratings[m])
    worse = bits[best] > results["perplexity"]["base"]["interval"][1]
    # Low bits are good and high ratings are good: agreement would be a correlation of +1.
    names = sorted(ratings)
    rho = rank_correlation([-bits[m] for m in names], [ratings[m] for m in names])
    preferred = ratings[best] > ratings["base"]
    gap = ratings[best] - ratings["base"]
    return {"measured": f"{best.upper()} is preferred to base by {gap:.0f} rating points, and "
            f"predicts raw text worse: {bits[best]:.2f} bits per byte against "
            f"{bits['base']:.2f}; rank correlation of perplexity with the voters {rho:+.2f}",
            "value": {"rank_correlation": rho, "bits_per_byte": bits, "ratings": ratings},
            "expected": "the models that people prefer have the higher perplexity, or no relation",
            "verdict": verdict(worse and preferred and rho < 0.5, preferred and rho < 0.9)}


def prompt_format(results: dict) -> dict[str, Any]:
    """How much does one model's score depend on how it is asked?"""
    gap = results["formats_spread"]
    published = PUBLISHED["LLaMA-65B"][0] - PUBLISHED["LLaMA-65B"][1]
    best, worst = gap["best"], gap["worst"]
    return {"measured": f"one model, {best['n']} questions ({results['formats_of']}): "
            f"{worst['accuracy']:.3f} ({worst['style']}, {worst['scorer']}) to "
            f"{best['accuracy']:.3f} ({best['style']}, {best['scorer']}); best and worst chosen on "
            f"one half of the questions are {gap['spread']:.3f} apart on the other half "
            f"({gap['low']:.3f} to {gap['high']:.3f})",
            "value": gap["spread"], "interval": (gap["low"], gap["high"]),
            "expected": f"a spread like the published 0.637 - 0.488 = {published:.3f} (LLaMA-65B)",
            # A wide spread on too few questions may be chance: that is no verdict on the claim.
            "verdict": "not measurable at this scale" if gap["low"] <= 0 and
            gap["spread"] >= published else verdict(gap["spread"] >= published, gap["low"] > 0)}


def arena_elo(results: dict, rounds: int = 100) -> dict[str, Any] | None:
    """Do blind votes order models? Planted strengths first, then our own models."""
    rows = results["arena"]["bradley_terry"]
    if len(rows) < 2:
        return None
    truth = {"a": 1100.0, "b": 1040.0, "c": 1000.0, "d": 960.0, "e": 900.0}
    covered = 0
    for seed in range(rounds):
        fit = bradley_terry(simulate_votes(truth, 300, seed, ties=0.0))
        covered += sum(fit.low[m] <= r <= fit.high[m] for m, r in truth.items())
    coverage = covered / (rounds * len(truth))
    ordered = sorted(rows, key=lambda m: -rows[m]["rating"])
    apart = rows[ordered[0]]["low"] > rows[ordered[-1]]["high"]
    gaps = [rows[a]["rating"] - rows[b]["rating"] for a, b in zip(ordered, ordered[1:])]
    needed = {f"{a} over {b}": votes_needed(max(g, 1.0)) for a, b, g in
              zip(ordered, ordered[1:], gaps)}
    return {"measured": f"{results['arena']['votes']} blind votes rank {' > '.join(ordered)}; in "
            f"simulation 95 % intervals hold the planted strength {coverage:.0%} of the time",
            "value": {"ratings": {m: rows[m]["rating"] for m in ordered}, "coverage": coverage},
            "expected": "intervals cover 90 to 99 % and the first is clearly above the last",
            "verdict": verdict(0.90 <= coverage <= 0.99 and apart, 0.90 <= coverage <= 0.99),
            "details": {"votes_needed": needed, "order_spread": results["arena"]["order_spread"]}}


def judge_98(results: dict) -> dict[str, Any] | None:
    """Does an automatic judge rank models as the arena does? With two models it cannot be said."""
    if len(results["arena"]["bradley_terry"]) < 3:
        return None
    name = "reward model" if "reward model" in results["judges"] else next(iter(results["judges"]))
    row = results["judges"][name]
    rho, interval = row["spearman"], row["spearman_interval"]
    simulated = correlation_by_models()
    few = simulated[0]
    low, high = interval or (-1.0, 1.0)
    return {"measured": f"the {name} and the arena rank our {len(row['models'])} models with "
            f"Spearman {rho:.2f} ({low:.2f} to {high:.2f} over votes and questions); in simulation "
            f"even a good judge of 4 models scatters from {few['low']:.2f} to {few['high']:.2f}",
            "value": rho, "interval": interval,
            "expected": "0.98 (AlpacaEval's length-controlled win rate, dozens of models)",
            # An interval over half the scale is no verdict on the claim.
            "verdict": "not measurable at this scale" if high - low > 0.5 else
            verdict(low >= 0.9 and rho >= 0.98, rho >= 0.7),
            "details": {"simulated": simulated,
                        "judges": {n: r["spearman"] for n, r in results["judges"].items()}}}


def judge_length(results: dict) -> dict[str, Any]:
    """Does a judge's love of length show, and can it be removed? Planted on our own answers."""
    name = "sft" if "sft" in results["answers"] else next(iter(results["answers"]))
    lengths = np.array([len(a["text"]) for a in results["answers"][name]], dtype=float)
    runs = [planted_length_bias(lengths, lengths, seed=seed) for seed in range(20)]
    mean = {key: float(np.mean([run[key] for run in runs]))
            for key in ("truth", "raw", "controlled", "unbiased_judge")}
    moved, left = mean["raw"] - mean["truth"], abs(mean["controlled"] - mean["truth"])
    real = {judge: {r["attack"]: r["win_rate"] for r in row["attacked"]["rows"]}
            for judge, row in results["judges"].items()}
    seen = "".join(f"; by the {judge} our padded answers win {rates['pad']:.2f} instead of "
                   f"{rates['as written']:.2f}" for judge, rates in real.items())
    return {"measured": f"a planted love of length lifts equal answers from {mean['truth']:.2f} to "
            f"{mean['raw']:.2f}; length control brings {mean['controlled']:.2f}{seen}",
            "value": mean,
            "expected": "the bias shows, and control removes at least half of it",
            "interval": tuple(np.percentile([r["controlled"] for r in runs], [2.5, 97.5]).tolist()),
            "verdict": verdict(moved > 0.02 and left < 0.5 * moved, moved > 0.02),
            "details": {"real_judges_under_attack": real}}


def record_all(results: dict, log: list[dict] | None = None) -> list[str]:
    """Judge and record every claim that these results can speak to; returns their ids."""
    claims = {"perplexity-choices": perplexity_choices(results, log),
              "perplexity-breaks": perplexity_breaks(results),
              "prompt-format": prompt_format(results), "arena-elo": arena_elo(results),
              "judge-98": judge_98(results), "judge-length": judge_length(results)}
    recorded = []
    for claim, fields in claims.items():
        if fields is not None:
            record_claim(claim, command=COMMAND + (" --quick" if results["quick"] else ""),
                         **fields)
            recorded.append(claim)
        else:
            out("claims", f"{claim}.json").unlink(missing_ok=True)
    return recorded
