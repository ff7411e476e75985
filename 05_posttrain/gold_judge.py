"""The gold rule as a judge of whole policies: reward, win rate with an interval, distance walked.

Only commands that measure import this module; nothing that trains does (a test holds it).
"""

import numpy as np
import torch

from gold_rule import gold_scores, points, relevance
from measure_policy import form, raw_bits_per_byte
from responses import collate, in_order_of_length, response_logprobs
from rollouts import Answer, sample_rounds


def gold_of(answers: list[Answer]) -> np.ndarray:
    """The gold reward of every answer, judged together: a stock answer is seen as such."""
    return np.array(gold_scores([a.question for a in answers], [a.text for a in answers],
                                [a.ended for a in answers]))


def label_accuracy(pairs: list[dict], without: tuple[str, ...] = ()) -> float:
    """How often the preferred answer of a pair has more points, a draw counting half, if the
    points named in `without` are not given: what a reward model blind to them could reach."""
    def total(pair: dict, side: str) -> float:
        given = points(pair["prompt"], pair[side], pair.get(f"{side}_ended", True))
        return sum(value for name, value in given.items() if name not in without)
    gaps = np.array([total(pair, "chosen") - total(pair, "rejected") for pair in pairs])
    return float(np.mean((gaps > 1e-9) + 0.5 * (np.abs(gaps) <= 1e-9)))


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of n, inside 0 and 1 and never of zero width: 3 of 3 is
    (0.44, 1). Source: Wilson 1927."""
    middle = share + z * z / (2 * n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    low, high = ((middle + side) / (1 + z * z / n) for side in (-half, half))
    return max(0.0, low), min(1.0, high)


def win_rate(mine: np.ndarray, theirs: np.ndarray, seed: int = 0, rounds: int = 1000
             ) -> tuple[float, tuple[float, float]]:
    """Share of questions on which `mine` earns more, draws counting half, with the 95 % interval
    of a bootstrap over questions. mine, theirs: (Q,) or (Q, samples)."""
    points = ((mine > theirs) + 0.5 * (mine == theirs)).reshape(len(mine), -1).mean(1)
    if points.min() == points.max():        # no draw would differ: Wilson's interval, not a point
        return float(points[0]), wilson(float(points[0]), len(points))
    draws = np.random.default_rng(seed).integers(0, len(points), (rounds, len(points)))
    low, high = np.quantile(points[draws].mean(1), [0.025, 0.975])
    return float(points.mean()), (float(low), float(high))


@torch.no_grad()
def kl_walked(policy, reference, answers: list[Answer], pad: int) -> float:
    """Mean KL of `policy` from `reference` in nats per answer, over the policy's own answers."""
    total = 0.0
    rows = [a.row for a in answers]
    for indices in in_order_of_length(rows, 64):
        ids, mask = collate([rows[i] for i in indices], pad)
        total += float((response_logprobs(policy, ids, mask)[0]
                        - response_logprobs(reference, ids, mask)[0]).sum())
    return total / len(answers)


def against(rows: dict[str, dict], name: str = "sft") -> dict[str, dict]:
    """The judged rows with "win_rate" and "interval" against the row `name` on the same questions;
    that row itself has .5 by definition."""
    theirs = rows[name]["gold_rewards"]
    for key, row in rows.items():
        row["win_rate"], row["interval"] = (0.5, (0.5, 0.5)) if key == name else win_rate(
            row["gold_rewards"], theirs)
    return rows


def judge_policy(policy, reference, tokenizer, questions: list[str], sft_gold: np.ndarray | None,
                 windows, pad: int, seed: int, samples: int = 2) -> dict:
    """Everything the central table says of one policy, from `samples` answers per question.

    sft_gold (Q, samples): the SFT model's gold rewards on the same questions, or None if this is
    the SFT model. The gold rewards themselves are returned under "gold_rewards".
    """
    rounds = sample_rounds(policy, tokenizer, questions, samples, seed=seed * 101)
    answers = [a for part in rounds for a in part]
    gold = np.stack([gold_of(part) for part in rounds], axis=1)
    rate, interval = (0.5, (0.5, 0.5)) if sft_gold is None else win_rate(gold, sft_gold)
    return {"gold": float(gold.mean()), "win_rate": rate, "interval": interval,
            "kl": kl_walked(policy, reference, answers, pad), **form(answers),
            "relevance": float(np.mean([relevance(a.question, a.text) for a in answers])),
            "raw_bits_per_byte": raw_bits_per_byte(policy, tokenizer, windows),
            "gold_rewards": gold, "answers": rounds[0]}
