"""One model, one set of questions, thirty scores: six prompt formats times five scorers.

    rows = format_study(model, tokenizer, questions, shots)

Why LLaMA-65B scored 0.637 and 0.488 on the same 14,042 questions (June 2023), read from the code
that made the numbers: HELM let the model write the letter and gave 0.637; the original program
compared the probabilities of " A" .. " D" and gave 0.636. The evaluation harness of January 2023
printed the same options under a line "Choices:", but then compared the probability of the answer's
TEXT, without its letter, summed over its tokens: 0.488. A strong model knows which letter it means;
asked for the text, it must also prefer the wording. Weak models show the reverse, because they
cannot bind letters yet. Many retellings say that the harness scored letter and text together, and
that it normalised by tokens; its code did neither (the normalised variant divides by characters).
"""

import math
from typing import Callable, Sequence

import numpy as np

from mmlu import (SCORERS, STYLES, Question, score_all, shuffle_options, unconditional_scores)

# Same weights, five shots; June 2023 leaderboard discussion (huggingface.co/blog), three programs.
PUBLISHED = {"LLaMA-65B": (0.637, 0.488, 0.636), "Falcon-40B": (0.571, 0.527, 0.558),
             "LLaMA-30B": (0.583, 0.457, 0.584), "LLaMA-13B": (0.471, 0.377, 0.470),
             "LLaMA-7B": (0.339, 0.342, 0.351), "Falcon-7B": (0.278, 0.350, 0.254),
             "RedPajama-7B": (0.275, 0.340, 0.269), "GPT-NeoX-20B": (0.256, 0.333, 0.262)}
PUBLISHED_PROGRAMS = ("HELM", "Harness, January 2023", "Original")


def format_study(model, tokenizer, questions: Sequence[Question],
                 shots: dict[str, list[Question]] | None = None, ks: Sequence[int] = (0,),
                 styles: Sequence[str] = STYLES, scorers: Sequence[str] = SCORERS, seed: int = 0,
                 progress: Callable = lambda items, **_: items) -> list[dict]:
    """One row per style, scorer and number of shots: the keys of `mmlu.summarise`, without lists,
    `right` ("1" or "0" for each question) and `shuffled`, the accuracy with the options in another
    order (for the fewest shots of `ks`).
    """
    alone = unconditional_scores(model, tokenizer, questions)
    mixed = list(shuffle_options(questions, seed))
    # The control asks the same questions, so the option scores alone move with their options.
    moved = np.array([[alone[i, q.options.index(option)] for option in m.options]
                      for i, (q, m) in enumerate(zip(questions, mixed))])
    rows, gold = [], np.array([q.answer for q in questions])
    for k, style in progress([(k, style) for k in ks for style in styles], desc="formats",
                             unit=" formats"):
        plain = score_all(model, tokenizer, questions, style, scorers, shots, k, alone)
        control = (score_all(model, tokenizer, mixed, style, scorers, shots, k, moved)
                   if k == min(ks) else {})
        for scorer, summary in plain.items():
            row = {key: value for key, value in summary.items()
                   if key not in ("predictions", "confidence")}
            right = "".join("01"[int(ok)] for ok in np.array(summary["predictions"]) == gold)
            rows.append({"style": style, "scorer": scorer, "k": k, **row, "right": right,
                         "shuffled": control[scorer]["accuracy"] if control else None})
    return rows


def spread(rows: Sequence[dict]) -> dict:
    """The best and the worst cell, and how far apart they are where nobody chose them.

    The highest and the lowest of thirty noisy numbers lie apart even if all thirty ways are equally
    good. So both cells are chosen on one half of the questions (every second one) and measured on
    the other, each half in its turn: each question gives one difference, 1, 0 or -1. "spread" is
    their mean, low and high its normal 95 % interval; with one question 0, -1 and 1.
    rows: "accuracy", and "right", one "1" or "0" a question. Keys: best, worst (rows, over all
    questions), chosen (the distance of those two), spread, low, high.
    Example: "right" of "1110" and "0000" -> chosen 0.75, spread 0.75: both halves choose the first,
    and it is better on questions 0, 1 and 2.
    """
    # One row a cell, one column a question.
    right = np.array([[c == "1" for c in row["right"]] for row in rows], dtype=float)
    gaps = np.zeros(right.shape[1])
    for half in (slice(0, None, 2), slice(1, None, 2)):
        # The questions that may not choose are the ones that may measure.
        other = np.ones(right.shape[1], dtype=bool)
        other[half] = False
        if not other.any() or other.all():
            continue            # one question cannot be halved
        # Choose the two cells on this half, then take their difference on every other question.
        shares = right[:, half].mean(axis=1)
        gaps[other] = right[shares.argmax(), other] - right[shares.argmin(), other]
    # The differences of one pair of cells on the same questions: a paired interval.
    half = 1.96 * gaps.std(ddof=1) / math.sqrt(len(gaps)) if len(gaps) > 1 else 1.0
    best = max(rows, key=lambda row: row["accuracy"])
    worst = min(rows, key=lambda row: row["accuracy"])
    return {"best": best, "worst": worst, "chosen": best["accuracy"] - worst["accuracy"],
            "spread": float(gaps.mean()), "low": float(gaps.mean() - half),
            "high": float(gaps.mean() + half)}
