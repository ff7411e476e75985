"""The annotator: looks at two answers and says which is better, rightly more often than not.

People disagree with themselves, so the label is noisy on purpose: between answers whose gold
points differ by d, the better one is named with probability s(sharpness d), the logistic function.
That is the Bradley-Terry model, and it makes the best possible accuracy on such labels computable:
the ceiling, printed beside every reward model.
"""

import math
import random

from gold_rule import gold_scores


def preference_probability(difference: float, sharpness: float = 1.5) -> float:
    """P(the first is named better) when its points exceed the second's by `difference`.

    1 / (1 + exp(-sharpness difference)); difference 0 -> 0.5; 1 -> 0.818 at sharpness 1.5.
    """
    return 1 / (1 + math.exp(-sharpness * difference))


def label_pairs(questions: list[str], firsts: list[str], seconds: list[str],
                ended: list[tuple[bool, bool]], seed: int,
                sharpness: float = 1.5) -> list[dict | None]:
    """A label for every pair of answers, or None where the annotator sees no difference.

    Each label is {"first_wins": bool, "ceiling": float}: ceiling is the probability of the more
    likely label, so that the mean of the ceilings is the best accuracy that anyone can reach on
    these labels. Equal answers and answers with equal points get no label.
    The same seed labels the same pairs the same way, in whatever order of noise they come.
    """
    n = len(questions)
    both = gold_scores(questions * 2, firsts + seconds,
                       [e[0] for e in ended] + [e[1] for e in ended])
    rng, labels = random.Random(seed), []
    for i in range(n):
        draw, difference = rng.random(), both[i] - both[n + i]
        if firsts[i] == seconds[i] or abs(difference) < 1e-9:
            labels.append(None)
            continue
        p = preference_probability(difference, sharpness)
        labels.append({"first_wins": draw < p, "ceiling": max(p, 1 - p)})
    return labels
