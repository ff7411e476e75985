"""What makes a small model copy, and what does it cost? One step at a time, equal tokens.

    python 04_model_pretrain/copying_experiment.py              about 9 minutes on one core
    python 04_model_pretrain/copying_experiment.py --quick      2 minutes, half the tokens, one seed
    python 04_model_pretrain/copying_experiment.py --recorded   the committed run, at once

Trains the same small model (2 layers, width 64, 2 heads, 32,768 n-gram rows) four times for each
seed, each with one more part of the recipe, and prints bits per byte of held-out text beside the
loss on random tokens said twice (copying.py) and the CPU seconds. Reads out/02_data; writes
out/04_model_pretrain/copying.json. But: 120,000 tokens; the walk's model reads fifty times more.
"""

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from artifacts import CommandLine, Job, command, out, read_json, shown, within, write_json
from batches import PackedBatches, Shard
from copying import SayTwice, copying_loss
from gpt import GPT, GPTConfig
from held_out import LN2
from training_loop import Recipe, make_optimizers, mean_loss, training_steps

T, ROWS = 128, 4
# name: what it changes in the model, and the share of rows that say something twice
LADDER = {
    "before": ({}, 0.0),
    "tied head": (dict(tied=True), 0.0),
    "late keys": (dict(tied=True, late_keys=True), 0.0),
    "said twice": (dict(tied=True, late_keys=True), 0.05),
}
RECORDED = Path(__file__).parent / "recorded" / "copying.json"


def run(data: Path, change: dict, share: float, tokens: int, seed: int) -> dict:
    """Train one model of the ladder and measure it: {"seed", "bits_per_byte", "cpu_seconds",
    "curve": copying_loss with the step, eight times on the way}."""
    shard, held_out = Shard(data, "train"), Shard(data, "val")
    torch.manual_seed(seed)
    model = GPT(GPTConfig(vocab_size=shard.vocab_size, sequence_length=T, layers=2, width=64,
                          heads=2, ngram_rows=32_768, **change))
    batches, steps = PackedBatches(shard, T, ROWS, seed), tokens // (ROWS * T)
    recipe, spent, curve, began = Recipe(), 0.0, [], time.process_time()
    for record in training_steps(model, make_optimizers(model, recipe),
                                 SayTwice(batches, share), steps, recipe):
        if record["step"] % max(1, steps // 8) == 0:
            spent += time.process_time() - began        # measuring is not training
            curve.append({"step": record["step"]} | copying_loss(model))
            began = time.process_time()
    spent += time.process_time() - began
    judge = PackedBatches(held_out, T, 8, shuffle=False, use_mixture=False)
    every = max(1, len(judge) // 60)
    loss = mean_loss(model, lambda i: judge(i * every), len(judge) // every)
    bits = loss / LN2 * float(held_out.length.sum() / held_out.bytes.sum())
    return {"seed": seed, "bits_per_byte": round(bits, 4), "cpu_seconds": round(spent, 1),
            "curve": curve}


def show(result: dict) -> None:
    """Print the ladder: means over the seeds of each rung."""
    print(f"{result['tokens']:,} tokens each: bits per byte, random tokens the first and the "
          "second time (nats), CPU seconds")
    first = None
    for name, rows in result["ladder"].items():
        bits = float(np.mean([row["bits_per_byte"] for row in rows]))
        ends = [row["curve"][-1] for row in rows]
        first = first or bits
        print(f"  {name:12} {bits:.4f} ({bits / first:.3f})  "
              f"{np.mean([e['copy_first'] for e in ends]):5.2f} / "
              f"{np.mean([e['copy_second'] for e in ends]):5.2f}  "
              f"{np.mean([row['cpu_seconds'] for row in rows]):4.0f} s, {len(rows)} seed(s)")


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--data", default=out("02_data"))
    parser.add_argument("--out", default=out("04_model_pretrain", "copying.json"))
    parser.add_argument("--tokens", type=within(int, low=1024), default=120_000,
                        help="for each run")
    parser.add_argument("--seeds", type=within(int, low=1), default=3, help="runs of each rung")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--quick", action="store_true", help="half the tokens, one seed")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--recorded", action="store_true", help="show the committed run")
    args = parser.parse_args()
    if args.recorded:
        show(read_json(RECORDED, "04_model_pretrain/copying_experiment.py"))
        return
    if args.quick:
        args.tokens, args.seeds = args.tokens // 2, 1
    inputs = [Path(args.data) / name for name in ("train.bin", "val.bin", "index.json")]
    job = Job(__file__, vars(args), reads=inputs, writes=[args.out])
    if job.up_to_date():
        return
    torch.set_num_threads(1)
    result = {"tokens": args.tokens, "recipe": asdict(Recipe()), "ladder": {}}
    bar = tqdm(total=args.seeds * len(LADDER), unit="run")
    for seed in range(args.seed, args.seed + args.seeds):
        for name, (change, share) in LADDER.items():
            row = run(Path(args.data), change, share, args.tokens, seed)
            result["ladder"].setdefault(name, []).append(row)
            bar.update()
    bar.close()
    show(result)
    write_json(args.out, result)
    print(f"wrote {shown(args.out)}")
    job.done()


if __name__ == "__main__":
    command(main)
