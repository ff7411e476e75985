"""Tune small, extrapolate: the best learning rate by size, fitted on small models, checked on a
larger one; and muP's rules, under which the best rate does not move at all.

    python 03_scaling/hyperparameters.py             about 3 minutes on 2 cores
    python 03_scaling/hyperparameters.py --recorded  read the recorded runs instead

Reads the shards, trains the sweep's models at several peak rates, writes rates.csv, rates.json
and rates.png in out/03_scaling, and measures how far one update moves a model of each width with
and without muP. But: one seed, short runs, and only the rate; batch size and schedule follow fixed
rules (model_shapes.py).
"""

import argparse
import math
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from artifacts import BadInput, CommandLine, command, out, record_claim, shown, within, write_json
from batches import Shard
from gpt import GPT, GPTConfig
from model_shapes import model_of
from optimizers import AdamW
from log_lines import fit_power_law
from run_table import measured_here, read_rows
from scaling_figures import draw_rates
from sweep import keep_runs_of, run_jobs, train_one
from training_loop import Recipe

RECORDED = Path(__file__).parent / "recorded" / "rates.csv"
RATES = (0.005, 0.01, 0.02, 0.04, 0.08)
WIDTHS = (32, 48, 64, 128)                  # the last one is not fitted on: it is the check


def best_rate(rates, losses) -> tuple[float, float]:
    """The rate of lowest loss, between the tried ones, and the loss there.

    rates, losses (n,), n >= 3 -> the minimum of the parabola in log rate through the best rate
    tried and its two neighbours. A loss that is not finite means that this rate diverged: it is
    left out. Losses of equal rates (several seeds) count as their mean. ValueError if the best
    one left is the smallest or largest: then the optimum lies outside; for a rate that is not
    above zero, and for lists of two lengths.
    best_rate([0.01, 0.1, 1], [2, 1, 2]) is (0.1, 1).
    """
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    if rates.shape != losses.shape:
        raise ValueError(f"{rates.size} rates and {losses.size} losses: one loss for each rate")
    # A NaN would be the smallest loss for argmin, and the only one for a mean.
    good = np.isfinite(losses)
    tried, which = np.unique(rates[good], return_inverse=True)
    # Ascending rates, and one loss for each.
    x = np.log(tried)
    y = np.bincount(which, losses[good]) / np.bincount(which)
    if not len(x) or not np.isfinite(x).all():
        raise ValueError("no rate above zero has a finite loss")
    at = int(np.argmin(y))
    if at in (0, len(x) - 1):
        lost = "" if good.all() else f" ({np.sum(~good)} rates diverged)"
        raise ValueError(f"the best rate tried, {np.exp(x[at]):g}, is the "
                         f"{'smallest' if at == 0 else 'largest'}{lost}: try more beyond it")
    # Far from the optimum the curve is no parabola: only the three points around it count.
    c2, c1, c0 = np.polyfit(x[at - 1:at + 2] - x[at], y[at - 1:at + 2], 2)
    bottom = -c1 / (2 * c2)
    return float(np.exp(x[at] + bottom)), float(c0 - c1 ** 2 / (4 * c2))


def mup_rates(rate: float, width: int, base_width: int) -> dict[str, float]:
    """Adam's rate for each kind of parameter at `width`, if `rate` was tuned at `base_width`.

    {"embedding", "vector", "matrix", "head"}: what has one side that grows with the width
    (matrices inside, and the head, which reads the width) gets rate * base_width / width; tables
    and vectors keep `rate`. At width = base_width nothing changes. ValueError unless all three are
    finite and above zero.
    Source: Yang et al. 2022 (Tensor Programs V), table 8.
    """
    if not all(0 < number < math.inf for number in (rate, width, base_width)):
        raise ValueError(f"rate {rate}, width {width} and base width {base_width} must be above 0")
    # A neuron adds up `width` inputs, each moved by one step in a correlated way: the sum of
    # all those moves must not grow, so each one shrinks.
    # What does not read the width (a table's row, a vector) has nothing to add up.
    slower = rate * base_width / width
    return {"embedding": rate, "vector": rate, "matrix": slower, "head": slower}


def rate_groups(model: GPT, rate: float, base_width: int | None) -> list[dict]:
    """Parameter groups for Adam: one rate for all, or muP's if a base width is given."""
    width = model.config.width
    rates = mup_rates(rate, width, base_width or width)
    groups = []
    for name, p in model.named_parameters():
        kind = ("vector" if p.dim() < 2 else "embedding" if "embedding" in name
                else "head" if "lm_head" in name else "matrix")
        groups.append({"params": [p], "lr": rates[kind]})
    return groups


def movement(width: int, rate: float, base_width: int | None, steps: int = 4) -> dict[str, float]:
    """How far a few Adam updates move a model of this width: {"hidden", "logits"} RMS change.

    With muP (`base_width` given) the head also starts smaller: its scale falls as 1 / width.
    The same fixed batch for every width. Source: Yang et al. 2022, appendix D.1 (coordinate check).
    """
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=256, sequence_length=32, layers=2, width=width,
                          heads=width // 32))
    if base_width:
        with torch.no_grad():
            model.lm_head.weight.mul_((base_width / width) ** 0.5)
    optimizer = AdamW(rate_groups(model, rate, base_width))
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(256, (4, 33), generator=generator)
    with torch.no_grad():
        before = model.hidden(ids[:, :-1])
        logits_before = model.head(before)
    for _ in range(steps):
        model(ids[:, :-1], ids[:, 1:])[1].backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        after = model.hidden(ids[:, :-1])
        moved = {"hidden": after - before, "logits": model.head(after) - logits_before}
    return {name: float(change.square().mean().sqrt()) for name, change in moved.items()}


def coordinate_check(rate: float = 0.002, widths: tuple[int, ...] = (32, 64, 128, 256)) -> dict:
    """Exponent of the movement of the logits against width, without and with muP."""
    found = {}
    for name, base in (("one rate", None), ("muP", widths[0])):
        moves = [movement(width, rate, base)["logits"] for width in widths]
        found[name] = {"moves": moves, "exponent": fit_power_law(widths, moves).exponent}
    return found


def study(rows: list[dict]) -> dict:
    """Optimum per width, the law through all but the largest, and what it says about that one."""
    curves = {}
    for row in rows:
        curves.setdefault(int(row["width"]), []).append((float(row["learning_rate"]),
                                                         float(row["loss"])))
    widths = sorted(curves)
    if len(widths) < 3:
        raise BadInput(f"rates of {len(widths)} widths are too few: two to fit and one to check")
    optimum = {w: best_rate(*zip(*curves[w])) for w in widths}
    law = fit_power_law(widths[:-1], [optimum[w][0] for w in widths[:-1]])
    largest = widths[-1]
    rates, losses = (np.array(v) for v in zip(*sorted(curves[largest])))
    predicted = float(law(largest))
    # The largest model's loss at the predicted rate, read off its own curve.
    inside = float(np.clip(predicted, rates[0], rates[-1]))
    there = float(np.interp(np.log(inside), np.log(rates), losses))
    there = min(there, losses.max())
    return {"optimum": {w: optimum[w][0] for w in widths}, "exponent": law.exponent,
            "predicted": predicted, "measured": optimum[largest][0], "largest": largest,
            "regret": max(0.0, there / optimum[largest][1] - 1),
            "curves": {w: sorted(curves[w]) for w in widths}}


def parse() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("--data", type=Path, default=out("02_data"))
    parser.add_argument("--out", type=Path, default=out("03_scaling"))
    parser.add_argument("--tokens", type=within(int, low=1), default=100_000, help="per run")
    parser.add_argument("--workers", type=within(int, low=1), default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recorded", action="store_true", help="use the recorded runs")
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.recorded and measured_here("tune-small"):
        print("tune-small: measured here, the recorded runs are not needed")
        return
    if args.recorded:
        rows = read_rows(RECORDED)
    else:
        vocab_size, jobs = Shard(args.data, "train").vocab_size, []
        for width in reversed(WIDTHS):
            for rate in RATES:
                jobs.append({"run": f"rate-{width}-{args.tokens}-{rate:g}-{args.seed}",
                             "data": str(args.data), "seed": args.seed, "rows": 4,
                             "config": asdict(model_of(width, vocab_size, 256, ngram_rows=0)),
                             "recipe": asdict(replace(Recipe(), learning_rate=rate)),
                             "steps": args.tokens // 1024, "precision": "fp32", "whole": False,
                             "budget": float(width * args.tokens), "evaluation_tokens": 30_000})
        keep_runs_of(args.data, args.out / "rates.csv")
        rows = run_jobs(jobs, args.out / "rates.csv", args.workers, train_one)
    try:
        found = study(rows)
    except ValueError as why:
        raise BadInput(f"the rates tried do not hold an optimum: {why}") from why
    check = coordinate_check()
    print("best rate by width: " + ", ".join(f"{w}: {r:.4f}"
                                             for w, r in found["optimum"].items()))
    words = (f"best rate ~ width^{found['exponent']:.2f} on widths up to "
             f"{sorted(found['optimum'])[-2]}; predicted for width {found['largest']}: "
             f"{found['predicted']:.4f}, measured {found['measured']:.4f}; using the prediction "
             f"costs {found['regret']:.2%} of loss")
    print(words)
    for name, row in check.items():
        print(f"  {name:9s}logits move as width^{row['exponent']:.2f} in four updates: "
              + " ".join(f"{m:.3f}" for m in row["moves"]))
    draw_rates(args.out / "rates.png", found)
    write_json(args.out / "rates.json", found | {"coordinate_check": check})
    record_claim("tune-small", measured=words, value=found["regret"],
                 expected="settings tuned on small models extrapolate to large ones",
                 verdict="holds" if found["regret"] < 0.01 else "holds in part"
                 if found["regret"] < 0.03 else "does not hold here",
                 command="python 03_scaling/hyperparameters.py"
                 + (" --recorded" if args.recorded else ""),
                 details={"optimum": found["optimum"],
                          "coordinate_check": {k: v["exponent"] for k, v in check.items()}})
    print(f"wrote {shown(args.out / 'rates.json')}, {shown(args.out / 'rates.png')}")


if __name__ == "__main__":
    command(main)
