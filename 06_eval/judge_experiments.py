"""What can be proved about votes and judges only where the truth is planted, in five seconds.

    python 06_eval/judge_experiments.py                  # needs no model and no data
    python 06_eval/judge_experiments.py --figure FILE    # also draws the lesson's figure

Used by `evaluate.py` for the claims judge-98 and judge-length, with lengths of real answers.
"""

import math
from pathlib import Path
from typing import Sequence

import numpy as np

from arena import bradley_terry, elo, simulate_votes
from artifacts import CommandLine, command, shown, whole
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


def elo_order(votes: int = 600, shuffles: int = 100, seed: int = 0) -> dict[int, dict]:
    """{K: {"sd", "leader_found"}}: what the order of the same votes does to Elo ratings.

    Four models, 40 points apart; `sd` is the standard deviation of a final rating over shuffles,
    "leader_found" the share of shuffles in which the truly best model came out first.
    """
    truth = {"a": 1060.0, "b": 1020.0, "c": 980.0, "d": 940.0}
    battles = simulate_votes(truth, votes, seed, ties=0.0)
    rng = np.random.default_rng(seed)
    result = {}
    for k in (4, 16, 32):
        rounds = [elo([battles[i] for i in rng.permutation(votes)], k=k) for _ in range(shuffles)]
        result[k] = {"sd": float(np.mean([np.std([r[m] for r in rounds]) for m in truth])),
                     "leader_found": float(np.mean([max(r, key=r.get) == "a" for r in rounds]))}
    return result


def draw(rows: Sequence[dict], path: Path) -> None:
    """The lesson's figure: agreement of a good judge with the arena, by number of models."""
    import matplotlib
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "06"
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(6.4, 3.4), layout="constrained")
    models = [row["models"] for row in rows]
    axes.fill_between(models, [r["low"] for r in rows], [r["high"] for r in rows], alpha=0.22,
                      color="#315f9c", label="5 to 95 % of simulated arenas")
    axes.plot(models, [r["median"] for r in rows], color="#315f9c", marker="o", label="median")
    axes.axhline(0.98, color="#c2532f", linestyle="--", linewidth=1.2, label="published: 0.98")
    axes.set(xscale="log", xlabel="models on the board", ylabel="Spearman, judge and arena",
             xticks=models, xticklabels=models)
    axes.minorticks_off()
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    with whole(path, "wb") as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150, metadata={"Date": None}
                       if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--figure", type=Path, help="a .svg or .png file to draw into")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("1. the same 600 votes in 100 orders: how far does an Elo rating move?")
    for k, row in elo_order(seed=args.seed).items():
        print(f"   K = {k:2}: standard deviation {row['sd']:4.1f} points; the best model leads in "
              f"{row['leader_found']:.0%}")
    battles = simulate_votes({"a": 1060, "b": 1020, "c": 980, "d": 940}, 600, args.seed, ties=0.0)
    fit = bradley_terry(battles)
    print("   Bradley-Terry, any order: " + ", ".join(
        f"{m} {fit[m]:.0f} ({fit.low[m]:.0f} to {fit.high[m]:.0f})" for m in fit))
    lengths = np.random.default_rng(args.seed).gamma(4.0, 20.0, 400)
    bias = planted_length_bias(lengths, lengths, seed=args.seed)
    print("2. equal models, one padded, a judge who likes length: win rate "
          f"{bias['raw']:.3f}; length-controlled {bias['controlled']:.3f}; truth "
          f"{bias['truth']:.3f}")
    rows = correlation_by_models(seed=args.seed)
    print("3. one good judge against the arena, by number of models: " + ", ".join(
        f"{r['models']}: {r['low']:.2f} to {r['high']:.2f}" for r in rows))
    if args.figure:
        draw(rows, args.figure)
        print(f"wrote {shown(args.figure)}")


if __name__ == "__main__":
    command(main)
