"""A judge instead of voters: pairwise in both orders, win rates, length control, three attacks.

    from judge import compare, length_controlled_win_rate
    verdicts = compare(judge, questions, answers, baseline_answers)

A judge is any function judge(question, first, second) -> P(first is the better answer), in [0, 1].
Ready-made ones (reward model, likelihood, an address) are in `judge_models.py`.
Length control follows AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475): a logistic model of the
preference in which the length term is then set to zero. It leaves out their cross-validated L1
penalty: a stated ridge takes its place, so that the numbers can be worked out by hand.
"""

import math
from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np

from arena import logistic_fit
from artifacts import BadInput

Judge = Callable[[str, str, str], float]


@dataclass(frozen=True)
class Verdicts:
    """Pairwise verdicts on n questions: P(model better), order consistency, lengths."""

    preferences: np.ndarray       # (n,) mean of both orders, 0.5 = no preference
    consistent: np.ndarray        # (n,) bool: the same side wins in both orders
    first_wins: float             # share of all single verdicts won by the answer shown first
    lengths: np.ndarray           # (n,) characters of the model's answers
    baseline_lengths: np.ndarray  # (n,) characters of the baseline's answers
    failed: int                   # questions on which the judge failed; they are left out


def judge_both_orders(judge: Judge, question: str, answer: str, other: str) -> tuple[float, bool]:
    """(P(answer better), consistent): the judge asked twice, each answer shown first once.

    The two verdicts are averaged, so that a judge who always likes what comes first says 0.5;
    `consistent`: both orders name the same winner, or both call it a draw (0.5).
    A verdict that is not a number in [0, 1] raises ValueError.
    Example: a judge that says 0.8 whatever it sees -> (0.5, False).
    """
    shown_first = float(judge(question, answer, other))
    shown_second = float(judge(question, other, answer))
    for verdict in (shown_first, shown_second):
        if not 0.0 <= verdict <= 1.0:
            raise ValueError(f"the judge said {verdict}, which is no probability")
    # Both verdicts must be turned to speak of the same answer before they are compared.
    # In the second order the judge's number speaks for the other answer.
    mirrored = 1.0 - shown_second
    consistent = (shown_first - 0.5) * (mirrored - 0.5) > 0 or shown_first == mirrored == 0.5
    return (shown_first + mirrored) / 2.0, consistent


def compare(judge: Judge, questions: Sequence[str], answers: Sequence[str],
            others: Sequence[str]) -> Verdicts:
    """Verdicts of `judge` on every question, both orders; failed questions are counted, left out.

    A judge fails on a question by raising ValueError, TimeoutError or OSError. One that fails on
    the first five, or on all of fewer, is not asked again: BadInput gives its last words.
    """
    kept, preferences, consistent, first_wins, last_error = [], [], [], [], ""
    for i, (question, answer, other) in enumerate(zip(questions, answers, others, strict=True)):
        seen: list[float] = []

        def watched(*shown: str) -> float:
            seen.append(float(judge(*shown)))
            return seen[-1]

        try:
            preference, same = judge_both_orders(watched, question, answer, other)
        except (ValueError, TimeoutError, OSError) as error:
            last_error = str(error)
            if not kept and i == 4:
                break           # a dead address would cost its time limit on every question
            continue
        kept.append(i)
        preferences.append(preference)
        consistent.append(same)
        first_wins += [float(p > 0.5) + 0.5 * (p == 0.5) for p in seen]
    if questions and not kept:
        raise BadInput(f"the judge failed on each of the first {min(5, len(questions))} questions; "
                       f"the last time: {last_error}")
    return Verdicts(np.array(preferences), np.array(consistent, dtype=bool),
                    float(np.mean(first_wins)) if first_wins else math.nan,
                    np.array([len(answers[i]) for i in kept], dtype=float),
                    np.array([len(others[i]) for i in kept], dtype=float),
                    len(questions) - len(kept))


def win_rate(preferences: np.ndarray) -> tuple[float, float, float]:
    """Mean preference with its 95 % interval: (rate, low, high), inside [0, 1].

    Wilson's interval with the preferences' own variance in the place of p (1 - p): the same for
    wins and losses, narrower for draws and soft verdicts, and never empty: four verdicts say very
    little, also when they agree. ValueError for none, or one that is not in [0, 1].
    Example: [1, 1, 0, 0] -> (0.5, 0.150, 0.850); [1, 1, 1] -> (1.0, 0.438, 1.0).
    """
    preferences = checked_preferences(preferences)
    rate, n, z = float(preferences.mean()), len(preferences), 1.96
    # The centre is pulled towards one half by z^2 verdicts that say nothing; they have the largest
    # variance there is, 1/4, and so keep the interval from closing where all verdicts agree.
    centre = (n * rate + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(n * float(preferences.var()) + z * z / 4)
    return rate, max(0.0, centre - half), min(1.0, centre + half)


def checked_preferences(preferences: Sequence[float], *columns: Sequence[float]) -> np.ndarray:
    """Preferences (n,) as an array; ValueError, naming the first one at fault, unless all are in
    [0, 1], there is at least one, and the columns beside them are finite and equally long."""
    preferences = np.asarray(preferences, dtype=float)
    if preferences.ndim != 1 or not len(preferences):
        raise ValueError("at least one preference is needed")
    wrong = np.flatnonzero(~((preferences >= 0) & (preferences <= 1)))
    if len(wrong):
        hint = ("; AlpacaEval's own scale runs from 1 to 2: subtract 1"
                if preferences.min() >= 1 and preferences.max() <= 2 else "")
        raise ValueError(f"preference {preferences[wrong[0]]:g} (number {wrong[0] + 1} of "
                         f"{len(preferences)}) is not in [0, 1]{hint}")
    for column in columns:
        column = np.asarray(column, dtype=float)
        if column.shape != preferences.shape or not np.isfinite(column).all():
            raise ValueError(f"a finite number for each of {len(preferences)} preferences is "
                             f"needed, not an array of shape {column.shape}")
    return preferences


def length_term(lengths: np.ndarray, baseline_lengths: np.ndarray) -> np.ndarray:
    """tanh(difference in characters / its standard deviation), one number per question.

    The deviation is taken over the questions (n - 1 below the line); where all differences are
    equal the term is 0. tanh: beyond a point, longer is no longer felt as longer.
    Example: differences (100, 0, -100) -> (tanh 1, 0, -tanh 1) = (0.7616, 0, -0.7616).
    Source: AlpacaEval's length-controlled model, section 3 of arXiv 2404.04475.
    """
    difference = np.asarray(lengths, dtype=float) - np.asarray(baseline_lengths, dtype=float)
    # Measured in its own deviation, the term means the same for any pair of models.
    deviation = difference.std(ddof=1) if len(difference) > 1 else 0.0
    # Equal lengths, or one question: nothing to control for, and nothing to divide by.
    return np.tanh(difference / deviation) if deviation > 0 else np.zeros_like(difference)


def length_controlled_win_rate(preferences: np.ndarray, lengths: np.ndarray,
                               baseline_lengths: np.ndarray, difficulty: np.ndarray | None = None,
                               ridge: float | None = None) -> float:
    """The win rate had both answers been equally long, in [0, 1].

    Fits logit P(model wins on x) = theta + phi * length_term_x + psi * difficulty_x on the soft
    preferences, then averages sigmoid(theta + psi * difficulty_x): the length term set to zero.
    `difficulty` is one number per question (AlpacaEval's gamma), left out when None. `ridge`
    penalises phi and psi (half the square); None: 0.015 for each question, which stands for
    AlpacaEval's own penalty (12 at its 805 questions). Where one side is nearly always longer,
    length and quality cannot be told apart: the larger the ridge, the nearer the raw rate.
    It assumes that length does not cause quality; where longer is better, it over-corrects.
    ValueError for no preferences, preferences outside of [0, 1], columns of another length, and a
    ridge that is below 0 or not finite.
    Example: preferences all 0.7 at any lengths -> 0.7.
    """
    preferences = checked_preferences(preferences, lengths, baseline_lengths,
                                      *([] if difficulty is None else [difficulty]))
    ridge = 0.015 * len(preferences) if ridge is None else ridge
    if not 0 <= ridge < math.inf:
        raise ValueError(f"ridge {ridge:g} must be finite and at least 0")
    # One column for the model, one for the length, one for the question; the first has no ridge.
    columns = [np.ones(len(preferences)), length_term(lengths, baseline_lengths)]
    if difficulty is not None:
        columns.append(np.asarray(difficulty, dtype=float))
    design = np.stack(columns, axis=1)
    beta, _ = logistic_fit(design, preferences,
                           np.array([1e-6, *[ridge] * (design.shape[1] - 1)]))
    # Two answers of the same length: the column of length is zero for every question.
    design[:, 1] = 0.0
    return float(np.mean(1.0 / (1.0 + np.exp(-(design @ beta)))))


def length_controlled_jointly(groups: Sequence[Verdicts]) -> list[float]:
    """Length-controlled win rates of several models or treatments under one judge.

    The judge's love of length, phi, is one number, fitted to all groups together; each group has
    its own theta. Where every answer of a group is longer by the same amount, the group alone
    could not say what length did; the others can. Lengths are scaled over all groups.
    """
    for group in groups:
        checked_preferences(group.preferences, group.lengths, group.baseline_lengths)
    sizes = [len(group.preferences) for group in groups]
    design = np.zeros((sum(sizes), len(groups) + 1))
    design[np.arange(sum(sizes)), np.repeat(np.arange(len(groups)), sizes)] = 1.0
    design[:, -1] = length_term(np.concatenate([g.lengths for g in groups]),
                                np.concatenate([g.baseline_lengths for g in groups]))
    beta, _ = logistic_fit(design, np.concatenate([g.preferences for g in groups]),
                           np.full(design.shape[1], 1e-3))
    return (1.0 / (1.0 + np.exp(-beta[:-1]))).tolist()


def pad_answer(answer: str) -> str:
    """The attack of empty words: the same answer between sentences that say nothing.

    The text grows by about 150 characters whatever the question; nothing is added to its meaning.
    """
    return ("Thank you for the question. Here is an answer. " + answer.rstrip()
            + " I hope that this answer is helpful. Please ask again if anything is still unclear.")


def repeat_answer(answer: str) -> str:
    """The attack of repetition: the answer said twice. Example: "Yes." -> "Yes. Yes."."""
    return f"{answer.rstrip()} {answer.strip()}"


def truncate_answer(answer: str) -> str:
    """The attack of brevity: only the first half of the words, at least one, then a full stop.

    Example: "Return the sorted array." -> "Return the.".
    """
    words = answer.split()
    return " ".join(words[:max(1, len(words) // 2)]).rstrip(".,;:") + "."


ATTACKS = {"pad": pad_answer, "repeat": repeat_answer, "truncate": truncate_answer}


def attack_table(judge: Judge, questions: Sequence[str], answers: Sequence[str],
                 others: Sequence[str]) -> list[dict]:
    """Win rate of `answers` over `others` as they are and under each attack, raw and controlled.

    One row a treatment: name, win_rate (and low, high), length_controlled, consistency, mean
    characters of the answers. A judge that measures content does not move.
    """
    treated = {name: compare(judge, questions, [change(a) for a in answers], others)
               for name, change in {"as written": str, **ATTACKS}.items()}
    rows = []
    for (name, verdicts), controlled in zip(treated.items(),
                                            length_controlled_jointly(list(treated.values()))):
        rate, low, high = win_rate(verdicts.preferences)
        rows.append({"attack": name, "win_rate": rate, "low": low, "high": high,
                     "length_controlled": controlled,
                     "consistency": float(verdicts.consistent.mean()),
                     "characters": float(verdicts.lengths.mean())})
    return rows


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's correlation: Pearson's on ranks, equal values sharing the mean of their ranks.

    Nan where a side is constant; ValueError for a nan in a side, or sides of two lengths. Infinity
    has a rank like any number, and nearly equal numbers are not equal.
    Example: (1, 2, 3) and (10, 30, 20) -> 0.5.
    """
    if len(first) != len(second) or np.isnan([*first, *second]).any():
        raise ValueError("two equally long lists of numbers are needed: a nan has no rank")

    def ranks(values: Sequence[float]) -> np.ndarray:
        values = np.asarray(values, dtype=float)
        # Rank = how many lie below, plus the middle of the equal ones: two at the top of four
        # share 3.5 each.
        below = (values[None, :] < values[:, None]).sum(axis=1)
        equal = (values[None, :] == values[:, None]).sum(axis=1)
        return below + (equal + 1) / 2.0

    a, b = ranks(first), ranks(second)
    # Pearson's correlation of the ranks: centred, divided by both lengths.
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 0 else math.nan
