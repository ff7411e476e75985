"""Transformer against LSTM: the same bytes, the same loop, each at its own best learning rate.

    python 03_scaling/rivals.py              about 5 minutes on 2 cores: 3 seeds
    python 03_scaling/rivals.py --recorded   read the recorded runs instead

Reads the corpus, trains both at four sizes on 400,000 bytes of it, in many small updates, each
family at the best of the rates tried at two sizes. Writes out/03_scaling/rivals.csv (loss, and loss
by position in the context), fits loss against size and against FLOPs for each family with
intervals, and says where the curves cross. But: 25 thousand to 220 thousand parameters and a
context of 512 bytes; the published curves start where these end.
"""

import argparse
import math
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from artifacts import CommandLine, command, need, out, shown, within, write_json
from batches import Shard
from bpe import Tokenizer
from flops import parameters, training_flops
from gpt import GPT, GPTConfig
from lstm import LSTM, LSTMConfig, lstm_flops, parameters_of
from model_shapes import model_of
from ngram import NgramModel
from rival_curves import EXTRA, POSITIONS, beyond, claim, compare, ladder
from run_table import COLUMNS, measured_here, read_rows, write_rows
from scaling_figures import draw_rivals
from sweep import keep_runs_of, run_jobs
from training_loop import NonFinite, Recipe, train

SIZES = {"gpt": (32, 48, 64, 96), "lstm": (56, 84, 112, 166)}       # widths of like parameters
TUNED_AT = (1, 3)       # the rates are tried at these two sizes; the others take the nearer one's
TRIALS = {"gpt": (("muon", (0.01, 0.02, 0.04)), ("adamw", (8e-3,))),
          "lstm": (("muon", (0.01, 0.02, 0.04)), ("adamw", (8e-3, 1.6e-2, 3.2e-2, 6.4e-2)))}
RECORDED = Path(__file__).parent / "recorded" / "rivals.csv"
ROWS = 2        # small batches: the LSTM needs many updates more than it needs steady ones


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
        train(model, windows(text, T, ROWS, job["seed"]), job["tokens"] // (ROWS * T), recipe,
              precision=job["precision"])
        losses = loss_by_position(model, held_out, T, len(held_out) // (T + 1))
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
             args: argparse.Namespace) -> dict:
    """One run of the race, as plain values for another process."""
    T = POSITIONS[-1]
    config = (model_of(width, 256, T, ngram_rows=0) if family == "gpt"
              else LSTMConfig(256, T, 1, width))
    return {"run": f"{family}-{width}-{tokens}-{optimizer}-{rate:g}-{seed}", "family": family,
            "config": asdict(config), "tokens": tokens, "optimizer": optimizer,
            "learning_rate": rate, "seed": seed, "bytes": str(args.out),
            "precision": args.precision if family == "gpt" else "fp32",
            "budget": float(width * width * tokens)}


def counting_rows(args: argparse.Namespace) -> list[dict]:
    """What models that only count make of the bytes of seed 0: rows of families "1-gram", ..."""
    T = POSITIONS[-1]
    text, held_out = (np.fromfile(args.out / f"{split}.bytes", np.uint8)
                      for split in ("train", "val"))
    batch = windows(text, T, ROWS, 0)
    read = torch.cat([batch(step)[1].flatten() for step in range(args.tokens // (ROWS * T))])
    rows = []
    for order in (1, 2, 5, 8):
        p = NgramModel(read.numpy(), 256, order).log_probabilities(held_out.astype(np.int64))
        rows.append({"run": f"{order}-gram", "family": f"{order}-gram", "width": order,
                     "tokens": len(read), "loss": float(-p.mean()), "seed": 0})
    return rows


def write_bytes(args: argparse.Namespace) -> None:
    """Both splits as plain bytes beside the results: a vocabulary of 256 keeps the models small."""
    tokenizer = Tokenizer.load(need(args.tokenizer, "01_tokenizer/train_tokenizer.py"))
    for split, most in (("train", 1_500_000), ("val", 60_000)):
        tokens = Shard(args.data, split).tokens[:most]
        text = tokenizer.decode(tokens.tolist()).replace("<|endoftext|>", "\n\0\n")
        np.frombuffer(text.encode(), np.uint8).tofile(args.out / f"{split}.bytes")


def parse() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("--data", type=Path, default=out("02_data"))
    parser.add_argument("--tokenizer", default=out("01_tokenizer", "tokenizer.json"))
    parser.add_argument("--out", type=Path, default=out("03_scaling"))
    parser.add_argument("--tokens", type=within(int, low=1), default=400_000,
                        help="bytes to train on")
    parser.add_argument("--seeds", type=within(int, low=1), default=3)
    parser.add_argument("--workers", type=within(int, low=1), default=os.cpu_count())
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32",
                        help="of the transformer; the LSTM gains no time from 16 bits")
    parser.add_argument("--recorded", action="store_true", help="use the recorded runs")
    return parser.parse_args()


def trial_jobs(args: argparse.Namespace) -> list[dict]:
    """Every rate of every optimizer at the two tuned sizes, on half of the bytes."""
    return [make_job(family, SIZES[family][at], args.tokens // 2, optimizer, rate, 0, args)
            for at in TUNED_AT for family, ways in TRIALS.items()
            for optimizer, rates in ways for rate in rates]


def tuned(args: argparse.Namespace, path: Path, columns: tuple[str, ...]) -> list[dict]:
    """The trials, and one more beyond the edge for as long as a best rate is the last one tried."""
    jobs = trial_jobs(args)
    for _ in range(4):
        tried = run_jobs(jobs, path, args.workers, race_one, columns)
        more = [make_job(family, width, args.tokens // 2, optimizer, rate, 0, args)
                for family in SIZES for width, optimizer, rate in beyond(tried, family)]
        if not more:
            break
        jobs += more
    return tried


def race_jobs(args: argparse.Namespace, tried: list[dict]) -> list[dict]:
    """The race itself: each size with the optimizer and rate that were best at the nearer trial."""
    jobs = []
    for seed in range(args.seeds):
        for family, widths in SIZES.items():
            for width in reversed(widths):
                near = min((SIZES[family][at] for at in TUNED_AT),
                           key=lambda w: abs(math.log(w / width)))
                best = min((r for r in tried if r["family"] == family
                            and int(r["width"]) == near), key=lambda r: float(r["loss"]))
                jobs.append(make_job(family, width, args.tokens, best["optimizer"],
                                     float(best["learning_rate"]), seed, args))
    return jobs


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
        for file in (path, args.out / "rivals_rates.csv"):
            keep_runs_of(args.data, file)
        tried = tuned(args, args.out / "rivals_rates.csv", columns)
        rows = run_jobs(race_jobs(args, tried), path, args.workers, race_one, columns)
        rows += counting_rows(args)
        write_rows(path, rows, columns)
    found = compare(rows)
    print(claim(found, args, rows, bool(beyond(tried, "lstm"))))
    for name in found["positions"]["gpt"]:
        ours, theirs = (found["positions"][f][name] for f in ("gpt", "lstm"))
        print(f"  bytes {name.replace('_', ' to ')}: transformer {ours:.3f}, LSTM {theirs:.3f}")
    print("nats per byte on the same bytes: " + ", ".join(
        f"{family} {loss:.3f}" for family, loss in ladder(rows).items()))
    draw_rivals(args.out / "rivals.png", found)
    write_json(args.out / "rivals.json", {"slope_difference": found["slope_difference"],
                                          "crossing": found["crossing"],
                                          "positions": found["positions"]})
    print(f"wrote {shown(args.out / 'rivals.png')}")


if __name__ == "__main__":
    command(main)
