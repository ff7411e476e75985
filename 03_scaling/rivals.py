"""Transformer against LSTM: the same bytes, the same loop, each at its own best learning rate.

    python 03_scaling/rivals.py              about 10 minutes on 2 cores: 3 seeds
    python 03_scaling/rivals.py --recorded   read the recorded runs instead

Trains both at several sizes on the bytes of the documentation, writes out/03_scaling/rivals.csv
(loss, and loss by position in the context), fits loss against size for each family with
intervals, and says where the curves cross. But: sizes of 25 thousand to 220 thousand parameters,
a context of 256 bytes; the published curves start where these end.
"""

import argparse
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from artifacts import BadInput, command, need, out, record_claim, shown, write_json
from batches import Shard
from bpe import Tokenizer
from flops import parameters, training_flops
from gpt import GPT, GPTConfig
from lstm import LSTM, LSTMConfig, lstm_flops, parameters_of
from model_shapes import model_of
from log_lines import PowerLaw, fit_power_law
from run_table import COLUMNS, measured_here, read_rows
from scaling_figures import draw_rivals
from sweep import run_jobs
from training_loop import NonFinite, Recipe, train

POSITIONS = (0, 4, 16, 64, 128, 256)        # edges of the ranges of context that are told apart
EXTRA = tuple(f"loss_{a}_{b}" for a, b in zip(POSITIONS, POSITIONS[1:]))
SIZES = {"gpt": (32, 64, 96), "lstm": (56, 112, 166)}       # widths of like parameters
# (optimizer, rates to try): AdamW for both, and Muon for both.
TRIALS = {"gpt": (("muon", (0.02,)), ("adamw", (3e-3, 8e-3))),
          "lstm": (("muon", (0.02,)), ("adamw", (8e-3, 1.6e-2, 3.2e-2)))}
RECORDED = Path(__file__).parent / "recorded" / "rivals.csv"
ROWS = 4        # small batches: the LSTM needs many updates more than it needs steady ones


def windows(text: np.ndarray, T: int, rows: int, seed: int):
    """batches(step) -> (ids, targets), (rows, T): windows of the text at seeded places."""
    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([seed, step])
        starts = rng.integers(0, len(text) - T - 1, rows)
        piece = torch.from_numpy(np.stack([text[s:s + T + 1] for s in starts]).astype(np.int64))
        return piece[:, :-1], piece[:, 1:]
    return batch


@torch.no_grad()
def loss_by_position(model: torch.nn.Module, text: np.ndarray, T: int, count: int) -> np.ndarray:
    """Mean loss at each of T positions of the context, over `count` rows of held-out text."""
    model.eval()
    rows = torch.from_numpy(text[:count * (T + 1)].astype(np.int64).reshape(count, T + 1))
    total = torch.zeros(T)
    for part in rows.split(16):
        logits, _ = model(part[:, :-1])
        total += torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), part[:, 1:], reduction="none").sum(0)
    return (total / count).numpy()


def race_one(job: dict) -> dict:
    """Train and measure one model of either family in a process of its own."""
    import time
    torch.set_num_threads(1)
    torch.manual_seed(job["seed"])
    began, T = time.monotonic(), POSITIONS[-1]
    if job["family"] == "gpt":
        config = GPTConfig(**job["config"])
        model, flops = GPT(config), training_flops(config, job["tokens"])
        count = parameters(config)
    else:
        config = LSTMConfig(**job["config"])
        model, flops = LSTM(config), lstm_flops(config, job["tokens"])
        count = parameters_of(config)
    text, held_out = (np.fromfile(Path(job["bytes"]) / f"{split}.bytes", np.uint8)
                      for split in ("train", "val"))
    recipe = Recipe(optimizer=job["optimizer"], learning_rate=job["learning_rate"])
    try:
        train(model, windows(text, T, ROWS, job["seed"]), job["tokens"] // (ROWS * T), recipe)
        losses = loss_by_position(model, held_out, T, min(256, len(held_out) // (T + 1)))
    except NonFinite:                   # too high a rate: the worst possible result, not a crash
        losses = np.full(T, 9.99)
    row = {"run": job["run"], "family": job["family"], "budget_flops": flops, "flops": flops,
           "params_non_embedding": count["non_embedding"], "params": count["total"],
           "tokens": job["tokens"], "loss": float(losses.mean()), "seed": job["seed"],
           "learning_rate": job["learning_rate"], "seconds": time.monotonic() - began,
           "width": config.width, "layers": config.layers, "optimizer": job["optimizer"]}
    return row | {name: float(losses[a:b].mean())
                  for name, a, b in zip(EXTRA, POSITIONS, POSITIONS[1:])}


def make_job(family: str, width: int, tokens: int, optimizer: str, rate: float, seed: int,
             folder: Path) -> dict:
    """One run of the race, as plain values for another process."""
    T = POSITIONS[-1]
    config = (model_of(width, 256, T, ngram_rows=0) if family == "gpt"
              else LSTMConfig(256, T, 1, width))
    return {"run": f"{family}-{width}-{tokens}-{optimizer}-{rate:g}-{seed}", "family": family,
            "config": asdict(config), "tokens": tokens, "optimizer": optimizer,
            "learning_rate": rate, "seed": seed, "bytes": str(folder),
            "budget": float(width * width * tokens)}


def write_bytes(args: argparse.Namespace) -> None:
    """Both splits as plain bytes beside the results: a vocabulary of 256 keeps the models small."""
    tokenizer = Tokenizer.load(need(args.tokenizer, "01_tokenizer/train_tokenizer.py"))
    for split, most in (("train", 1_500_000), ("val", 60_000)):
        tokens = Shard(args.data, split).tokens[:most]
        text = tokenizer.decode(tokens.tolist()).replace("<|endoftext|>", "\n\0\n")
        np.frombuffer(text.encode(), np.uint8).tofile(args.out / f"{split}.bytes")


def compare(rows: list[dict]) -> dict:
    """Fitted curves and what they say: {"gpt", "lstm": PowerLaw of loss against parameters,
    "crossing": (parameters, low, high), "slope_difference": (value, low, high), ...}.

    Intervals are 95 %: what is left of each run beside its line is drawn again, so that they
    hold the scatter of the seeds and the bend of the curve alike.
    """
    table = {}
    for family in ("gpt", "lstm"):
        mine = [r for r in rows if r["family"] == family]
        by_size = {}
        for r in mine:
            by_size.setdefault(float(r["params_non_embedding"]), []).append(float(r["loss"]))
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
            "positions": by_position(rows)}


def crossing(laws: dict[str, PowerLaw]) -> float:
    """Parameters at which both laws give the same loss; NaN where they run parallel."""
    slope = laws["gpt"].exponent - laws["lstm"].exponent
    if abs(slope) < 1e-9:
        return float("nan")
    return float(np.exp(np.clip(np.log(laws["lstm"].constant / laws["gpt"].constant) / slope,
                                0, 100)))


def by_position(rows: list[dict]) -> dict:
    """Loss of the LSTM minus the transformer's at each range of positions, largest size."""
    gaps = {}
    for name in EXTRA:
        ends = {}
        for family in ("gpt", "lstm"):
            mine = [r for r in rows if r["family"] == family]
            top = max(float(r["params_non_embedding"]) for r in mine)
            ends[family] = np.mean([float(r[name]) for r in mine
                                    if float(r["params_non_embedding"]) == top])
        gaps[name.removeprefix("loss_")] = float(ends["lstm"] - ends["gpt"])
    return gaps


def at_edge(tried: list[dict], family: str = "lstm") -> bool:
    """True if the best rate of a family was the largest or smallest tried with its optimizer."""
    mine = [r for r in tried if r["family"] == family]
    best = min(mine, key=lambda r: float(r["loss"]))
    rates = [float(r["learning_rate"]) for r in mine if r["optimizer"] == best["optimizer"]]
    return float(best["learning_rate"]) in (min(rates), max(rates))


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
    measured = (f"loss ~ N^{found['gpt'].exponent:.3f} for the transformer and "
                f"N^{found['lstm'].exponent:.3f} for the LSTM (difference {slope:+.3f}, 95 % "
                f"[{low:+.3f}, {high:+.3f}]); at the largest size {last['gpt']:.3f} against "
                f"{last['lstm']:.3f} nats per byte; the lines cross at {where:.2g} parameters "
                f"[{from_:.2g}, {to:.2g}]")
    record_claim("transformer-vs-lstm", measured=measured, value=slope, interval=(low, high),
                 expected="the transformer has a better constant and slope", verdict=verdict,
                 command="python 03_scaling/rivals.py" + (" --recorded" if args.recorded else ""),
                 details={"runs": len(rows), "positions": found["positions"],
                          "lstm_rate_at_edge": untuned})
    return (f"{measured}\nverdict: {verdict}"
            + (" (the LSTM's best rate is at the edge of those tried)" if untuned else ""))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=out("02_data"))
    parser.add_argument("--tokenizer", default=out("01_tokenizer", "tokenizer.json"))
    parser.add_argument("--out", type=Path, default=out("03_scaling"))
    parser.add_argument("--tokens", type=int, default=600_000, help="bytes to train on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--recorded", action="store_true", help="use the recorded runs")
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.recorded and measured_here("transformer-vs-lstm"):
        print("transformer-vs-lstm: measured here, the recorded runs are not needed")
        return
    path = RECORDED if args.recorded else args.out / "rivals.csv"
    if args.recorded:
        rows, tried = read_rows(path), read_rows(path.with_name("rivals_rates.csv"))
    else:
        args.out.mkdir(parents=True, exist_ok=True)
        write_bytes(args)
        columns = COLUMNS + ("optimizer",) + EXTRA
        trials = [make_job(family, SIZES[family][1], args.tokens // 2, optimizer, rate, 0, args.out)
                  for family, ways in TRIALS.items() for optimizer, rates in ways
                  for rate in rates]
        tried = run_jobs(trials, args.out / "rivals_rates.csv", args.workers, race_one, columns)
        best = {f: min((r for r in tried if r["family"] == f), key=lambda r: float(r["loss"]))
                for f in SIZES}
        for family, row in best.items():
            print(f"{family}: best with {row['optimizer']} at {float(row['learning_rate']):g}")
        jobs = [make_job(family, width, args.tokens, best[family]["optimizer"],
                         float(best[family]["learning_rate"]), seed, args.out)
                for seed in range(args.seeds) for family, widths in SIZES.items()
                for width in reversed(widths)]
        rows = run_jobs(jobs, path, args.workers, race_one, columns)
    found = compare(rows)
    print(claim(found, args, rows, at_edge(tried)))
    print("LSTM minus transformer by position: "
          + ", ".join(f"{k.replace('_', '-')} {v:+.3f}" for k, v in found["positions"].items()))
    draw_rivals(args.out / "rivals.png", found)
    write_json(args.out / "rivals.json", {"slope_difference": found["slope_difference"],
                                          "crossing": found["crossing"],
                                          "positions": found["positions"]})
    print(f"wrote {shown(args.out / 'rivals.png')}")


if __name__ == "__main__":
    command(main)
