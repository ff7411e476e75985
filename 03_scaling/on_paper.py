"""The same dial for machines we do not have: FLOPs from GPUs and days, and the model they buy.

    python 03_scaling/plan.py --gpus 10000 --days 30 --gpu h100 --mfu 0.4
    python 03_scaling/plan.py --flops 5.76e23

Three answers stand side by side: the refit of Chinchilla's published points, LLaMA 3's published
law, and, where it must be served afterwards, the inference-aware optimum. But: laws fitted below
1e22 FLOPs are stretched here, to 1e25 by a factor of a thousand, and they assume text without end.
"""

import json
import math
from pathlib import Path

import numpy as np

from artifacts import BadInput, record_claim
from inference_aware import PUBLISHED, cheapest
from power_laws import ParametricFit, optimal_allocation, predict

# Dense 16-bit tensor-core peak, FLOP/s: the makers' data sheets (without sparsity).
GPU_PEAK = {"v100": 125e12, "a100": 312e12, "h100": 989e12, "h200": 989e12, "b200": 2250e12,
            "mi300x": 1307e12}
# Published runs to check against: FLOPs, parameters, tokens, and where the numbers stand.
CHINCHILLA = {"flops": 5.76e23, "N": 70e9, "D": 1.4e12, "source": "Hoffmann et al. 2022"}
LLAMA3 = {"flops": 3.8e25, "N": 402e9, "D": 16.55e12, "exponent": 0.53,
          "source": "Llama 3 report, 2024, section 3.2.1; 405B on 15.6T was trained"}
REFIT = Path(__file__).parent / "recorded" / "chinchilla_refit.json"


def gpu_flops(gpus: float, days: float, gpu: str = "h100", mfu: float = 0.4) -> float:
    """FLOPs that go into the model: gpus x days x peak x the share of it that training reaches.

    10,000 H100 for 30 days at 40 %: 1.03e25. BadInput for an unknown GPU or a share not in (0, 1].
    """
    if gpu not in GPU_PEAK:
        raise BadInput(f"--gpu {gpu} is not known: choose from {', '.join(GPU_PEAK)}")
    if not (0 < mfu <= 1 and 0 < gpus < math.inf and 0 < days < math.inf):
        raise BadInput(f"--gpus {gpus:g} --days {days:g} --mfu {mfu:g}: the first two must be "
                       "positive, mfu in (0, 1]")
    return gpus * days * 86_400 * GPU_PEAK[gpu] * mfu


def published_law() -> ParametricFit:
    """The refit of Chinchilla's points, with our bootstrap samples of it for intervals."""
    samples = np.zeros((0, 5))
    if REFIT.exists():
        samples = np.array(json.loads(REFIT.read_text(encoding="utf-8"))["samples"])
    return ParametricFit(*PUBLISHED, samples=samples)


def interval(fit: ParametricFit, C: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % intervals of N_opt and D_opt at C FLOPs, from the law's bootstrap samples."""
    if not len(fit.samples):
        return (math.nan, math.nan), (math.nan, math.nan)
    E, A, B, alpha, beta = fit.samples.T
    N, D = optimal_allocation(ParametricFit(E, A, B, alpha, beta), C)
    return tuple(np.percentile(N, [2.5, 97.5])), tuple(np.percentile(D, [2.5, 97.5]))


def llama3_allocation(C: float) -> tuple[float, float]:
    """N and D by LLaMA 3's law D_opt ~ C^0.53, through its published point at 3.8e25 FLOPs.

    The report's own constants (0.29 C^0.53) are rounded too far to give its own 16.55T tokens.
    """
    D = LLAMA3["D"] * (C / LLAMA3["flops"]) ** LLAMA3["exponent"]
    return C / 6 / D, D


def tokens_per_parameter(fit: ParametricFit, C: float) -> tuple[float, float, float]:
    """The law's best D / N at C FLOPs, and its 95 % interval from the bootstrap samples."""
    N, D = optimal_allocation(fit, C)
    E, A, B, alpha, beta = fit.samples.T
    n, d = optimal_allocation(ParametricFit(E, A, B, alpha, beta), C)
    low, high = np.percentile(d / n, [2.5, 97.5]) if len(n) else (math.nan, math.nan)
    return float(D / N), float(low), float(high)


def claim_twenty(laws: dict, own: ParametricFit) -> str:
    """Record chinchilla-20: tokens per parameter on the published points and on our sweep.

    Our own is taken at the largest budget of the sweep, N being all that a token is multiplied
    with. It holds if 20 is inside the published interval, in part if our own sweep disagrees.
    """
    value, low, high = tokens_per_parameter(published_law(), CHINCHILLA["flops"])
    mine, mine_low, mine_high = tokens_per_parameter(own, laws["largest_flops"])
    known, agrees = low <= 20 <= high, mine_low <= 20 <= mine_high
    measured = (f"{value:.0f} tokens per parameter [{low:.0f}, {high:.0f}] at Chinchilla's compute "
                f"on its published points; {mine:.1f} [{mine_low:.1f}, {mine_high:.1f}] on our "
                f"sweep at {laws['largest_flops']:.1g} FLOPs")
    record_claim("chinchilla-20", measured=measured, value=value, interval=(low, high),
                 expected="about 20 training tokens per parameter",
                 verdict="holds" if known and agrees else "holds in part" if known or agrees
                 else "does not hold here", command="python 03_scaling/sweep.py",
                 details={"own_sweep": [mine, mine_low, mine_high],
                          "exponents": laws["exponents"]})
    return measured


def answer(C: float, demand: float | None = None) -> dict:
    """The models that C FLOPs buy: {"chinchilla", "llama3", "served"}, each N, D, ratio, loss.

    `demand`: tokens to be served; None: three times the training tokens. "served" reaches the
    same loss as the best model for C, and is the cheapest over training and serving.
    """
    fit = published_law()
    N, D = (float(x) for x in optimal_allocation(fit, C))
    loss = float(predict(fit, N, D))
    demand = 3 * D if demand is None else demand
    small_N, small_D = cheapest(fit, loss, demand)
    n_range, d_range = interval(fit, C)
    found = {"chinchilla": (N, D), "llama3": llama3_allocation(C), "served": (small_N, small_D)}
    result = {name: {"N": n, "D": d, "ratio": d / n, "flops": 6 * n * d,
                     "loss": float(predict(fit, n, d))} for name, (n, d) in found.items()}
    result["chinchilla"] |= {"N_interval": n_range, "D_interval": d_range}
    result["served"]["demand"] = demand
    return result


def claim_gpus() -> None:
    """Record ten-thousand-gpus: 10,000 H100 for 30 days at 40 % of their peak."""
    C = gpu_flops(10_000, 30, "h100", 0.4)
    found = answer(C)
    ours, other = found["chinchilla"], found["llama3"]
    record_claim(
        "ten-thousand-gpus", value=ours["N"], interval=ours["N_interval"],
        measured=f"{C:.3g} FLOPs at 40 % of peak: {ours['N']:.3g} parameters on {ours['D']:.3g} "
                 f"tokens by Chinchilla's points, {other['N']:.3g} on {other['D']:.3g} by LLaMA "
                 "3's law",
        expected="a scaling law names one model for 10,000 GPUs and a month",
        verdict="holds" if ours["N_interval"][0] <= other["N"] <= ours["N_interval"][1]
        else "holds in part" if 0.5 < other["N"] / ours["N"] < 2 else "does not hold here",
        command="python 03_scaling/plan.py --gpus 10000 --days 30", details=found)


def checks() -> list[dict]:
    """What the laws say about two runs whose answer is published."""
    fit, rows = published_law(), []
    for name, run in (("Chinchilla", CHINCHILLA), ("LLaMA 3", LLAMA3)):
        N, D = (float(x) for x in optimal_allocation(fit, run["flops"]))
        rows.append({"run": name, "flops": run["flops"], "N": N, "D": D, "published_N": run["N"],
                     "published_D": run["D"], "ratio_N": N / run["N"], "source": run["source"]})
    return rows


def text(C: float, found: dict) -> str:
    """The answer in words, with its assumptions."""
    def line(name: str, row: dict) -> str:
        return (f"  {name:34s}{row['N'] / 1e9:9.3g} B parameters {row['D'] / 1e12:9.3g} T tokens"
                f"   {row['ratio']:5.0f} tokens per parameter")
    (n_low, n_high), (d_low, d_high) = (found["chinchilla"][k] for k in ("N_interval",
                                                                          "D_interval"))
    return "\n".join([
        f"{C:.3g} FLOPs buy, with text without end:",
        line("Chinchilla's points, refit", found["chinchilla"]),
        f"    95 % interval {n_low / 1e9:.3g} to {n_high / 1e9:.3g} B, "
        f"{d_low / 1e12:.3g} to {d_high / 1e12:.3g} T",
        line("LLaMA 3's law", found["llama3"]),
        line(f"same loss, serving {found['served']['demand']:.2g} tokens", found["served"]),
        f"    (training it costs {found['served']['flops'] / C:.2f} times the budget)",
        "checks, law against published run:",
        *(f"  {r['run']:12s}{r['flops']:.3g} FLOPs: {r['N'] / 1e9:.0f} B, {r['D'] / 1e12:.3g} T; "
          f"published {r['published_N'] / 1e9:.0f} B, {r['published_D'] / 1e12:.4g} T"
          for r in checks())])
