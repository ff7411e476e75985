"""The cheapest model for its whole life: training once, then answering D_inf tokens.

    python 03_scaling/inference_aware.py                 published law, by demand
    python 03_scaling/inference_aware.py --loss 2.0      another quality to reach

Chinchilla's 20 tokens per parameter is the cheapest way to TRAIN to a loss. A smaller model
trained longer reaches the same loss and is cheaper to serve; the more it is asked, the smaller
it should be (Sardana et al. 2024). This prints the best ratio by demand, and the demand at which
150 tokens per parameter is right. But: one price per FLOP. Serving uses chips worse than
training does (--inference-price), and latency and memory are not counted.
"""

import math

import numpy as np

from artifacts import CommandLine, BadInput, command, out, record_claim, write_json
from power_laws import ParametricFit, optimal_allocation, predict

# Besiroglu et al. 2024: the refit of Chinchilla's points. Ours is in out/03_scaling/laws.json.
PUBLISHED = ParametricFit(1.817, 482.0, 2085.4, 0.348, 0.366)


def tokens_to_reach(fit: ParametricFit, loss: float, N):
    """Training tokens with which N parameters reach `loss`; infinity if they never do.

    Solves loss = E + A / N^alpha + B / D^beta for D. N a number or an array. ValueError for a loss
    that is nan or a model without parameters.
    """
    E, A, B, alpha, beta = fit
    if math.isnan(loss) or not np.all(np.greater(N, 0)):
        raise ValueError(f"loss {loss} at {N} parameters: a number, and more than none")
    # What is left for the data term; none left: the model is too small for this loss.
    left = loss - E - A / np.asarray(N, float) ** alpha
    # The data term alone must make up the rest: turn B / D^beta = left round.
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(left > 0, (B / np.maximum(left, 1e-300)) ** (1 / beta), np.inf)


def cheapest(fit: ParametricFit, loss: float, demand: float, price: float = 1.0
             ) -> tuple[float, float]:
    """The N and D of lowest lifetime cost 6 N D + price * 2 N demand that reach `loss`.

    `demand`: tokens to be read and written in the model's life; `price`: of an inference FLOP in
    training FLOPs. demand = 0 gives the training optimum. N to a part in 100,000. ValueError if no
    model reaches `loss`, for a demand or price that is below zero or not finite, or a law of which
    alpha, beta, A or B is not above zero.
    Source: Sardana et al. 2024, equation 3.
    """
    E, A, B, alpha, beta = fit
    if not min(A, B, alpha, beta) > 0:
        raise ValueError(f"a law with A {A:g}, B {B:g}, alpha {alpha:g}, beta {beta:g} does not "
                         "fall with size and data: all four must be above zero")
    if not (0 <= demand < np.inf and 0 <= price < np.inf):
        raise ValueError(f"demand {demand:g} and price {price:g} must be finite and not negative")
    if not E < loss < np.inf:
        raise ValueError(f"no model of this law reaches {loss}: its floor is {E:.3f}")
    # The smallest model that could reach the loss with endless data, and a very large one.
    smallest = (A / (loss - E)) ** (1 / alpha)
    low, high = np.log(smallest) + 1e-9, np.log(smallest) + 30

    def cost(log_N: float) -> float:
        N = np.exp(log_N)
        with np.errstate(over="ignore"):
            return float(np.log(6 * N * tokens_to_reach(fit, loss, N) + price * 2 * N * demand))

    # Log cost has one valley in log N: golden section.
    for _ in range(200):
        a, b = high - 0.618034 * (high - low), low + 0.618034 * (high - low)
        low, high = (low, b) if cost(a) < cost(b) else (a, high)
    N = float(np.exp((low + high) / 2))
    return N, float(tokens_to_reach(fit, loss, N))


def demand_for_ratio(fit: ParametricFit, loss: float, ratio: float, price: float = 1.0) -> float:
    """Inference tokens at which the cheapest model has `ratio` training tokens per parameter.

    0 if the training optimum is beyond that ratio already; ValueError if no demand below e^80
    reaches it, or for a ratio that is not above zero. In the answer's neighbourhood, more
    demand means a smaller model with more tokens, so bisection finds it.
    """
    def best_ratio(demand: float) -> float:
        N, D = cheapest(fit, loss, demand, price)
        return D / N
    if not ratio > 0:
        raise ValueError(f"{ratio} tokens per parameter: a ratio is above zero")
    if best_ratio(0.0) >= ratio:
        return 0.0
    low, high = 0.0, 80.0                               # log of the demand
    if not best_ratio(np.exp(high)) >= ratio:
        raise ValueError(f"no demand makes {ratio:g} tokens per parameter the best ratio")
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if best_ratio(np.exp(middle)) < ratio else (low, middle)
    return float(np.exp((low + high) / 2))


def table(fit: ParametricFit, loss: float, price: float) -> list[dict]:
    """One row per demand: the cheapest model, its ratio, and what Chinchilla's would cost."""
    N0, D0 = cheapest(fit, loss, 0.0)
    rows = []
    for share in (0, 0.1, 1, 3, 10, 30, 100, 1000):
        demand = share * D0
        N, D = cheapest(fit, loss, demand, price)
        cost = 6 * N * D + price * 2 * N * demand
        rows.append({"demand": demand, "demand_per_training_token": share, "N": N, "D": D,
                     "ratio": D / N,
                     "saving": 1 - cost / (6 * N0 * D0 + price * 2 * N0 * demand)})
    return rows


def claim_150(fit: ParametricFit = PUBLISHED, loss: float | None = None, price: float = 1.0) -> str:
    """Record inference-150: the demand at which 150 tokens per parameter are right."""
    loss = loss if loss is not None else float(predict(fit, *optimal_allocation(fit, 5.76e23)))
    crossing = demand_for_ratio(fit, loss, 150, price)
    (N0, D0), (N, D) = (cheapest(fit, loss, d, price) for d in (0.0, crossing))
    saving = 1 - ((6 * N * D + price * 2 * N * crossing)
                  / (6 * N0 * D0 + price * 2 * N0 * crossing))
    record_claim(
        "inference-150", value=crossing,
        measured=f"on the published law at loss {loss:.3f} the cheapest model over its life passes "
                 f"150 tokens per parameter at {crossing:.2g} inference tokens, "
                 f"{crossing / D0:.0f} times Chinchilla's training tokens; it saves {saving:.0%}",
        expected="beyond 150 tokens per parameter once inference is paid for",
        verdict="holds" if 0 < crossing < 1e3 * D0 else "does not hold here",
        command="python 03_scaling/inference_aware.py",
        details={"training_optimum_ratio": D0 / N0, "demand_over_training_tokens": crossing / D0,
                 "saving_there": saving})
    return (f"150 tokens per parameter is right for {crossing:.3g} inference tokens "
            f"({crossing / D0:.0f} times Chinchilla's training tokens); {D0 / N0:.0f} for none")


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--loss", type=float, help="to reach, nats per token "
                        "(default: that of the best model for Chinchilla's 5.76e23 FLOPs)")
    parser.add_argument("--inference-price", type=float, default=1.0,
                        help="of one inference FLOP in training FLOPs")
    parser.add_argument("--constants", type=float, nargs=5, metavar=("E", "A", "B", "ALPHA",
                        "BETA"), default=list(PUBLISHED), help="of the law")
    parser.add_argument("--out", default=out("03_scaling", "inference_aware.json"))
    args = parser.parse_args()
    fit = ParametricFit(*args.constants)
    try:
        loss = args.loss if args.loss is not None else float(
            predict(fit, *optimal_allocation(fit, 5.76e23)))
    except ValueError as why:
        raise BadInput(f"--constants: {why}") from why
    try:
        rows = table(fit, loss, args.inference_price)
    except ValueError as why:
        raise BadInput(f"--loss {loss}: {why}") from why
    print(f"cheapest model of loss {loss:.3f}, by the tokens it will read and write:")
    print("  inference tokens   parameters   training tokens   ratio   saved")
    for r in rows:
        print(f"  {r['demand']:16.3g}   {r['N']:10.3g}   {r['D']:15.3g}   {r['ratio']:5.0f}   "
              f"{r['saving']:5.1%}")
    print(claim_150(fit, loss, args.inference_price))
    write_json(args.out, {"loss": loss, "rows": rows, "constants": list(fit),
                          "crossing_150": demand_for_ratio(fit, loss, 150, args.inference_price)})


if __name__ == "__main__":
    command(main)
