"""How good is a reward model? Accuracy against its ceiling, calibration, and a taste for length.

    numbers = examine(model, val, val_pairs, pad)       # what reward_model.py prints and writes

Labels are noisy, so the best possible accuracy is known and below one: the mean of the pairs'
ceilings (annotator.py).
"""

import numpy as np

from responses import score_rows


def share_right(differences: np.ndarray) -> np.ndarray:
    """1 where the chosen answer scores higher, 0 where lower, a half where the scores are equal: an
    untrained head, whose scores are all 0, guesses; it is not always wrong."""
    return np.heaviside(differences, 0.5)


def calibration(differences: np.ndarray, bins: int = 5) -> tuple[list[dict], float]:
    """Is "80 % sure" right in 80 % of pairs? differences (P,): score of chosen minus rejected.

    Confidence is s(|difference|), right is difference > 0, a difference of 0 half right. Returns
    equal-mass bins {"confidence", "accuracy", "pairs"} and the expected calibration error, the mean
    gap; equal confidences share a bin, so that the order of the pairs does not matter. No pairs
    give no bins and an error of 0. ValueError for a difference that is no number.
    """
    differences = np.asarray(differences, dtype=float)
    if np.isnan(differences).any():
        raise ValueError("a score is nan: it is neither right nor wrong")
    if not len(differences):
        return [], 0.0
    confidence, right = 1 / (1 + np.exp(-np.abs(differences))), share_right(differences)
    groups = np.array_split(np.sort(confidence), min(bins, len(differences)))
    edges = sorted({(low[-1] + high[0]) / 2 for low, high in zip(groups, groups[1:])})
    place = np.searchsorted(edges, confidence)      # a cut between equal ones moves behind them
    parts = [np.flatnonzero(place == i) for i in np.unique(place)]
    table = [{"confidence": float(confidence[p].mean()), "accuracy": float(right[p].mean()),
              "pairs": len(p)} for p in parts]
    gaps = [abs(row["confidence"] - row["accuracy"]) * row["pairs"] for row in table]
    return table, sum(gaps) / len(differences)


def longer_preferred(differences: np.ndarray, lengths: np.ndarray) -> dict[str, float]:
    """How often the longer answer of a pair is preferred: by the labels, and by the model.

    differences (P,): score of chosen minus rejected; lengths (P, 2): tokens of chosen, rejected.
    Pairs of equal length do not count; none left gives 0.5 for both. A model that likes length more
    than its labels do has a bias; one that agrees with them has learned what they say.
    [1, -1] with lengths [[3, 2], [4, 5]] -> {"labels": 0.5, "model": 1.0}. A difference of 0
    prefers neither: a half.
    """
    unequal = lengths[:, 0] != lengths[:, 1]
    if not unequal.any():
        return {"labels": 0.5, "model": 0.5}
    longer = lengths[unequal, 0] > lengths[unequal, 1]      # is the chosen one the longer one?
    right = share_right(differences[unequal])
    return {"labels": float(longer.mean()),
            "model": float(np.where(longer, right, 1 - right).mean())}


def examine(model, val: list[tuple], val_pairs: list[dict], pad: int) -> dict:
    """Accuracy against its ceiling, calibration, and what the score has to do with length."""
    rows = [row for pair in val for row in pair]
    scores = score_rows(model.raw_score, rows, pad).numpy()
    differences = scores[0::2] - scores[1::2]
    table, error = calibration(differences)
    lengths = np.array([sum(mask) for _, mask in rows])
    ceilings = [p["ceiling"] for p in val_pairs if "ceiling" in p]
    return {"accuracy": float(share_right(differences).mean()), "pairs": len(differences),
            "ceiling": float(np.mean(ceilings)) if ceilings else None,
            "calibration": table, "calibration_error": error,
            # Answers of one length have no correlation with it.
            "length_correlation": float(np.corrcoef(scores, lengths)[0, 1])
            if scores.std() > 0 and lengths.std() > 0 else 0.0,
            "longer_preferred": longer_preferred(differences, lengths.reshape(-1, 2))}
