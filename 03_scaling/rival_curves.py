"""What the race of transformer and LSTM says: curves with intervals, their crossing, the verdict.

    found = compare(read_rows("rivals.csv"))
    found["gpt"].exponent, found["slope_difference"], found["crossing"]

A straight line in logarithms is fitted to each family's losses. But: over a factor of nine in size
every curve looks straight; where lines cross far outside the sizes tried, only a bound is meant.
"""

import argparse

import numpy as np

from artifacts import BadInput, record_claim
from log_lines import PowerLaw, fit_power_law

POSITIONS = (0, 4, 16, 64, 128, 256, 512)   # edges of the ranges of context that are told apart
EXTRA = tuple(f"loss_{a}_{b}" for a, b in zip(POSITIONS, POSITIONS[1:]))


def compare(rows: list[dict], size: str = "params_non_embedding") -> dict:
    """Fitted curves and what they say: {"gpt", "lstm": PowerLaw of loss against `size` (a column:
    parameters or flops), "crossing": (size, low, high), "slope_difference": (value, low, high),
    "losses", "positions"}.

    Intervals are 95 %: what is left of each run beside its line is drawn again, so that they
    hold the scatter of the seeds and the bend of the curve alike.
    """
    table = {}
    for family in ("gpt", "lstm"):
        mine = [r for r in rows if r["family"] == family]
        by_size = {}
        for r in mine:
            by_size.setdefault(float(r[size]), []).append(float(r["loss"]))
        if len(by_size) < 2:
            raise BadInput(f"only {len(by_size)} sizes of {family} are in the runs: at least two "
                           "are needed")
        table[family] = by_size
    rng, draws = np.random.default_rng(0), []
    points = {f: np.array([(N, L) for N, losses in t.items() for L in losses]).T
              for f, t in table.items()}
    laws = {f: fit_power_law(N, L) for f, (N, L) in points.items()}
    # A line takes up two degrees of freedom: residuals look too small by that much.
    left = {f: np.log(L / laws[f](N)) * np.sqrt(len(L) / max(1, len(L) - 2))
            for f, (N, L) in points.items()}
    for _ in range(400):
        drawn = {f: fit_power_law(N, laws[f](N) * np.exp(rng.choice(left[f], len(N))))
                 for f, (N, _) in points.items()}
        draws.append([drawn["gpt"].exponent, drawn["lstm"].exponent, crossing(drawn)])
    low, high = np.nanpercentile(np.array(draws), [2.5, 97.5], axis=0)
    difference = np.array(draws)[:, 0] - np.array(draws)[:, 1]
    return {"gpt": laws["gpt"], "lstm": laws["lstm"],
            "intervals": {"gpt": (low[0], high[0]), "lstm": (low[1], high[1])},
            "slope_difference": (laws["gpt"].exponent - laws["lstm"].exponent,
                                 *np.percentile(difference, [2.5, 97.5])),
            "crossing": (crossing(laws), low[2], high[2]), "losses": table,
            "positions": {f: by_position(rows, f) for f in ("gpt", "lstm")}}


def crossing(laws: dict[str, PowerLaw]) -> float:
    """Parameters at which both laws give the same loss; NaN where they run parallel."""
    slope = laws["gpt"].exponent - laws["lstm"].exponent
    if abs(slope) < 1e-9:
        return float("nan")
    return float(np.exp(np.clip(np.log(laws["lstm"].constant / laws["gpt"].constant) / slope,
                                0, 100)))


def by_position(rows: list[dict], family: str) -> dict[str, float]:
    """Loss at each range of positions in the context, mean over the seeds of the largest size."""
    mine = [r for r in rows if r["family"] == family]
    top = max(float(r["params_non_embedding"]) for r in mine)
    largest = [r for r in mine if float(r["params_non_embedding"]) == top]
    ranges = [name for name in largest[0] if name.startswith("loss_")]
    return {name.removeprefix("loss_"): float(np.mean([float(r[name]) for r in largest]))
            for name in ranges}


def beyond(tried: list[dict], family: str) -> list[tuple[int, str, float]]:
    """(width, optimizer, rate) of the trials still missing: one step of 2 beyond each best rate
    that is the largest or the smallest tried at its width with its optimizer."""
    mine, missing = [r for r in tried if r["family"] == family], []
    for width in sorted({int(r["width"]) for r in mine}):
        here = [r for r in mine if int(r["width"]) == width]
        best = min(here, key=lambda r: float(r["loss"]))
        rate, rates = float(best["learning_rate"]), [
            float(r["learning_rate"]) for r in here if r["optimizer"] == best["optimizer"]]
        for edge, next_rate in ((max(rates), 2 * rate), (min(rates), rate / 2)):
            if rate == edge:
                missing.append((width, best["optimizer"], next_rate))
    return missing


def ladder(rows: list[dict]) -> dict[str, float]:
    """Nats per byte of all that read the same bytes, counting models first, best size of each."""
    families = [f for f in dict.fromkeys(r["family"] for r in rows) if f.endswith("-gram")]
    return {f: min(np.mean([float(r["loss"]) for r in rows if r["family"] == f
                            and r.get("width") == width])
                   for width in {r.get("width") for r in rows if r["family"] == f})
            for f in [*sorted(families), "lstm", "gpt"]}


def claim(found: dict, args: argparse.Namespace, rows: list[dict], untuned: bool = False) -> str:
    """Record the claim and put it into words; the verdict follows from slopes and last sizes.

    `untuned`: the LSTM's best rate was the last one tried, so that it may still be too good for
    the transformer: then the claim holds in part at most.
    """
    slope, low, high = found["slope_difference"]
    last = {f: np.mean(found["losses"][f][max(found["losses"][f])]) for f in ("gpt", "lstm")}
    steeper, ahead = high < 0, last["gpt"] < last["lstm"]
    verdict = ("holds" if steeper and ahead and not untuned else "holds in part" if steeper or ahead
               else "does not hold here")
    where, from_, to = found["crossing"]
    flops = compare(rows, "flops") if "flops" in rows[0] else found
    measured = (f"loss ~ N^{found['gpt'].exponent:.3f} for the transformer and "
                f"N^{found['lstm'].exponent:.3f} for the LSTM (difference {slope:+.3f}, 95 % "
                f"[{low:+.3f}, {high:+.3f}]); at the largest size {last['gpt']:.3f} against "
                f"{last['lstm']:.3f} nats per byte; the lines cross at {where:.2g} parameters "
                f"[{from_:.2g}, {to:.2g}]; against FLOPs the exponents are "
                f"{flops['gpt'].exponent:.3f} and {flops['lstm'].exponent:.3f}, the crossing "
                f"{flops['crossing'][0]:.2g} [{flops['crossing'][1]:.2g}, "
                f"{flops['crossing'][2]:.2g}]")
    record_claim("transformer-vs-lstm", measured=measured, value=slope, interval=(low, high),
                 expected="the transformer has a better constant and slope", verdict=verdict,
                 command="python 03_scaling/rivals.py" + (" --recorded" if args.recorded else ""),
                 details={"runs": len(rows), "positions": found["positions"],
                          "ladder": ladder(rows), "lstm_rate_at_edge": untuned})
    return (f"{measured}\nverdict: {verdict}"
            + (" (the LSTM's best rate is at the edge of those tried)" if untuned else ""))
