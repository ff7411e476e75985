"""When the tokens run out: what repeated epochs are worth, and the best plan without new text.

    from data_limited import effective_tokens
    effective_tokens(4e9, unique=1e9)       # 3.73e9: four epochs are almost four times the text

The law is Muennighoff et al.'s (2023). But: their second constant, for parameters beyond what
the data can feed, is left out; the models here are small beside their data.
"""

import numpy as np

from power_laws import ParametricFit, predict
from run_checks import checked_runs

HALF_LIFE = 15.39           # R*: repetitions after which 1 - 1/e of what repeating gives is had


def effective_tokens(tokens, unique, half_life: float = HALF_LIFE):
    """How many fresh tokens are worth as much as `tokens` tokens drawn from `unique` ones.

    D' = U + U R* (1 - exp(-R / R*)) with R = D / U - 1 repetitions; D' = D while D <= U. Numbers
    or arrays, R* too: with a large R* a repeated token is worth as much as a fresh one, D' = D, and
    so with an infinite one. However often repeated, a text is never worth more than U (1 + R*)
    tokens. ValueError unless `unique` and R* are above zero and `tokens` is not below.
    Source: Muennighoff et al. 2023, equation 5; R* = 15.39 there.
    """
    tokens, unique = np.asarray(tokens, float), np.asarray(unique, float)
    if not (np.all(unique > 0) and np.all(np.asarray(half_life) > 0)):
        raise ValueError("there must be some unique tokens, and R* must be above zero")
    if not np.all(tokens >= 0):
        raise ValueError(f"{tokens} tokens: a number of tokens is not below zero")
    # Repetitions after the first reading; none if the text is not even read once.
    repeats = np.maximum(tokens / unique - 1, 0)
    # What repeating adds runs out: each further reading is worth a fixed share less.
    # expm1: next to 1 the exponential of a small number loses its digits, at R* = 1e17 all of them.
    with np.errstate(invalid="ignore"):
        worth = unique - unique * half_life * np.expm1(-repeats / half_life)
    worth = np.where(np.isinf(half_life), tokens, worth)
    return np.where(tokens <= unique, tokens, worth)


def limited_loss(fit: ParametricFit, N, D, unique, half_life: float = HALF_LIFE):
    """The law's loss after D tokens of which only `unique` are different."""
    return predict(fit, N, effective_tokens(D, unique, half_life))


def limited_allocation(fit: ParametricFit, C: float, unique: float,
                       half_life: float = HALF_LIFE) -> tuple[float, float]:
    """The N and D of lowest loss with 6 N D = C when there are only `unique` tokens.

    With text in plenty this is `optimal_allocation`. Without, N is larger and D smaller: part of
    the compute moves from stale tokens to parameters. ValueError for a C below the 6 FLOPs of one
    parameter that reads one token.
    """
    if not 6 <= C < np.inf:
        raise ValueError(f"{C} FLOPs: no model can be trained for that")
    # One valley in log N (both terms are convex in it): search it by golden section.
    low, high = np.log(C / 6) - 60, np.log(C / 6)
    low = max(low, 0.0)                                 # at least one parameter
    for _ in range(200):
        a, b = high - 0.618034 * (high - low), low + 0.618034 * (high - low)
        left, right = (float(limited_loss(fit, np.exp(x), C / 6 / np.exp(x), unique, half_life))
                       for x in (a, b))
        low, high = (low, b) if left < right else (a, high)
    N = float(np.exp((low + high) / 2))
    return N, C / 6 / N


def fit_half_life(fit: ParametricFit, N, D, unique, L) -> float:
    """R* from runs that repeat their data: least squares of their log-loss, R* in 0.01 to 300.

    N, D, unique, L (n,): runs with D > unique. The rest of the law stays as it is in `fit`. An
    answer at 0.01 or 300 says only that R* lies beyond. ValueError if no run repeats its text.
    """
    N, D, L = checked_runs(N=N, D=D, L=L)
    N, unique = checked_runs(N=N, unique=np.broadcast_to(unique, N.shape))
    if not (D > unique).any():
        raise ValueError("no run reads any text twice: R* cannot be known from them")
    candidates = np.exp(np.linspace(np.log(0.01), np.log(300), 2000))[:, None]
    predicted = limited_loss(fit, np.asarray(N), np.asarray(D), np.asarray(unique), candidates)
    errors = ((np.log(predicted) - np.log(np.asarray(L))) ** 2).sum(axis=1)
    return float(candidates[np.argmin(errors), 0])


def epochs_at_price(price: float = 0.1, half_life: float = HALF_LIFE) -> float:
    """Epochs after which a repeated token is worth `price` times less than a fresh one.

    The marginal worth of token D is exp(-R / R*): a tenth is lost after 0.1 R* repetitions or so.
    epochs_at_price(0.1) is 2.6; 4 epochs have cost 7 % of all tokens' worth so far.
    """
    if not 0 <= price < 1 or not half_life > 0:
        raise ValueError(f"price {price:g}: a share of a token's worth, 0 to below 1; and R* is "
                         f"above zero, not {half_life:g}")
    return 1 - half_life * np.log(1 - price)
