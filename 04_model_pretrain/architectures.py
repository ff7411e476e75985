"""Two experiments on small models: do architectures matter, and what is the recipe worth?

    python 04_model_pretrain/architectures.py               about 9 minutes on one core, 3 seeds
    python 04_model_pretrain/architectures.py --quick       one minute, one seed, a coarser answer
    python 04_model_pretrain/architectures.py --recorded    a committed run of the first, at once

First, equal tokens: sensible architectures under one recipe, beside treatments of the data; the
claim `architecture-least` says that the second spread is the wider one. Then, equal CPU seconds:
this chapter's recipe against nanoGPT's (GPT-2's choices, AdamW at the best of several rates,
cosine). Reads out/02_data; writes out/04_model_pretrain/architectures.json. But: small models and
short runs; larger ones may order architectures otherwise.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from artifacts import (CommandLine, Job, command, out, read_json, record_claim, shown, within,
                       write_json)
from batches import PackedBatches, Shard
from gpt import GPT, GPT2, GPTConfig
from run_table import measured_here
from training_loop import Recipe, make_optimizers, mean_loss, train, training_steps
from verdicts import bits_per_byte

ARCHITECTURES = {
    "ours": {}, "LayerNorm": dict(norm="layer"), "GELU": dict(mlp="gelu"),
    "SwiGLU": dict(mlp="swiglu"), "learned positions": dict(positions="learned"),
    "no QK-norm": dict(qk_norm=False), "no previous token": dict(mix_previous=False),
    "grouped queries": dict(kv_heads=1), "tied head": dict(tied=True),
    "deeper, narrower": dict(layers=4, width=48, heads=2),
    "shallower, wider": dict(layers=1, width=80, heads=2),
}
CLAIM, COMMAND = "architecture-least", "python 04_model_pretrain/architectures.py"
RECORDED = Path(__file__).parent / "recorded" / "architectures.json"
RATES = (1e-3, 2e-3, 4e-3, 8e-3)        # nanoGPT's AdamW: the best one counts


def data_treatments(shard: Shard, tokens: int) -> dict[str, Shard]:
    """The training data as chapter 2 left it, and as it might have been.

    Repeated: so few documents that each is read about 4 or 16 times, as in a crawl full of
    copies. One domain: only the largest domain's documents, or everything but it.
    """
    total = shard.length.cumsum(0)
    few = {times: total <= max(tokens / times, shard.length[0]) for times in (4, 16)}
    largest = torch.bincount(torch.as_tensor(shard.domain), torch.as_tensor(shard.length)).argmax()
    treatments = {"as chapter 2 left it": shard, "each document 4 times": shard.part(few[4]),
                  "each document 16 times": shard.part(few[16])}
    for name, keep in (("only the largest domain", shard.domain == int(largest)),
                       ("without the largest domain", shard.domain != int(largest))):
        if keep.any():
            treatments[name] = shard.part(keep)
    return treatments


class Bench:
    """Trains a small model and measures bits per byte on a fixed part of the held-out text."""

    def __init__(self, data: Path, tokens: int, seed: int) -> None:
        self.shard, self.held_out = Shard(data, "train"), Shard(data, "val")
        self.tokens, self.seed, self.rows, self.T = tokens, seed, 8, 128
        self.base = GPTConfig(vocab_size=self.shard.vocab_size, sequence_length=self.T, layers=2,
                              width=64, heads=2)
        self.batches = PackedBatches(self.held_out, self.T, 16, shuffle=False, use_mixture=False)

    def score(self, model: GPT) -> float:
        """Bits per byte on every k-th batch of the held-out documents, 40 batches in all."""
        every = max(1, len(self.batches) // 40)
        loss = mean_loss(model, lambda i: self.batches(i * every), len(self.batches) // every)
        share = self.held_out.length.sum() / self.held_out.bytes.sum()
        return round(bits_per_byte(loss * float(share), 1), 4)

    def run(self, config: GPTConfig, recipe: Recipe, shard: Shard | None = None,
            steps: int | None = None) -> float:
        """Bits per byte after training on `tokens` tokens (or `steps` updates)."""
        torch.manual_seed(self.seed)
        model = GPT(config)
        data = PackedBatches(shard or self.shard, self.T, self.rows, self.seed, use_mixture=False)
        train(model, data, steps or self.tokens // (self.rows * self.T), recipe)
        return self.score(model)

    def steps_in(self, seconds: float, config: GPTConfig, recipe: Recipe) -> int:
        """How many updates fit into `seconds` of CPU time, measured on a few."""
        torch.manual_seed(self.seed)
        model, data = GPT(config), PackedBatches(self.shard, self.T, self.rows, self.seed)
        loop = training_steps(model, make_optimizers(model, recipe), data, 12, recipe)
        next(loop), next(loop)                          # the first updates allocate memory
        began = time.process_time()
        updates = len(list(loop))
        return int(seconds * updates / (time.process_time() - began))


def verdict_of(architectures: dict, treatments: dict) -> tuple[str, dict[str, float]]:
    """The verdict on `architecture-least`, and the spreads (worst over best, less one) of
    {"architecture", "data", "fresh data": treatments without the repeated documents}.

    Each value is a name's bits per byte, a number or one for each seed (then their mean counts).
    "holds" if data spread 1.5 times as wide even without repeats, "holds in part" if with them.
    """
    fresh = {name: bits for name, bits in treatments.items() if "times" not in name}
    spread = {}
    for kind, group in (("architecture", architectures), ("data", treatments),
                        ("fresh data", fresh)):
        means = [float(np.mean(bits)) for bits in group.values()]
        spread[kind] = max(means) / min(means) - 1
    wide = [spread[kind] > 1.5 * spread["architecture"] for kind in ("fresh data", "data")]
    return ("holds" if all(wide) else "holds in part" if any(wide) else
            "does not hold here"), spread


def measure(data: Path, tokens: int, seconds: float, seeds: list[int]) -> dict:
    """Train everything: {"architectures", "data": {name: [bits per byte of each seed]}, "recipes":
    {name: {"bits_per_byte", "steps", "cpu_seconds"}}, ...}; recipes with the first seed alone."""
    result = {"architectures": {}, "data": {}, "recipes": {}, "tokens": tokens,
              "seconds": seconds, "seeds": seeds}
    recipe, bar = Recipe(), None
    for seed in seeds:
        bench = Bench(data, tokens, seed)
        treatments = data_treatments(bench.shard, tokens)
        bar = bar or tqdm(total=len(seeds) * (len(ARCHITECTURES) + len(treatments))
                          + len(RATES) + 1, unit="run")
        for name, change in ARCHITECTURES.items():
            bits = bench.run(replace(bench.base, **change), recipe)
            result["architectures"].setdefault(name, []).append(bits)
            bar.update()
        for name, shard in treatments.items():
            result["data"].setdefault(name, []).append(bench.run(bench.base, recipe, shard))
            bar.update()
    bench = Bench(data, tokens, seeds[0])
    nano = replace(bench.base, **GPT2)
    ours = replace(bench.base, ngram_rows=32_768, tied=True, late_keys=True)
    recipes = {"ours": (ours, recipe)} | {
        f"nanoGPT at {rate:g}": (nano, Recipe(
            optimizer="adamw", learning_rate=rate, schedule="cosine", warmup=0.05,
            weight_decay=0.1, betas=(0.9, 0.95))) for rate in RATES}
    for name, (config, its_recipe) in recipes.items():
        steps = bench.steps_in(seconds, config, its_recipe)
        began = time.process_time()
        bits = bench.run(config, its_recipe, steps=steps)
        result["recipes"][name] = {"bits_per_byte": bits, "steps": steps,
                                   "cpu_seconds": round(time.process_time() - began, 1)}
        bar.update()
    bar.close()
    best = min(r["bits_per_byte"] for n, r in result["recipes"].items() if n != "ours")
    return result | {"saved_against_nanogpt":
                     round(1 - result["recipes"]["ours"]["bits_per_byte"] / best, 4)}


def show(result: dict, path: Path | str, flag: str = "") -> None:
    """Print the measurements, write them, and record the claim with its verdict."""
    for group in ("architectures", "data"):
        print(f"{group}, bits per byte (mean and standard deviation of {len(result['seeds'])})")
        for name, bits in sorted(result[group].items(), key=lambda item: np.mean(item[1])):
            print(f"  {name:28} {np.mean(bits):.4f} +- {np.std(bits):.4f}")
    print(f"recipes, {result['seconds']:g} CPU seconds each")
    for name, row in result["recipes"].items():
        print(f"  {name:28} {row['bits_per_byte']:.4f} after {row['steps']:,} updates")
    verdict, spread = verdict_of(result["architectures"], result["data"])
    words = (f"{len(result['architectures'])} architectures lie within "
             f"{spread['architecture']:.1%} of the best one's bits per byte, "
             f"{len(result['data'])} treatments of the data within {spread['data']:.0%}, and "
             f"those that repeat no document within {spread['fresh data']:.1%}")
    write_json(path, result)
    record_claim(
        CLAIM, verdict=verdict, value={kind: round(wide, 4) for kind, wide in spread.items()},
        measured=("a recorded run: " if flag else "") + f"at {result['tokens']:,} tokens and "
                 f"{len(result['seeds'])} seed(s), {words}",
        expected="the spread among data treatments is clearly wider (1.5 times)",
        command=COMMAND + flag, details=result)
    print(f"{words}\n{CLAIM}: {verdict}; {result['saved_against_nanogpt']:.1%} fewer bits per byte "
          f"than nanoGPT's recipe at equal CPU time\nwrote {shown(path)}")


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--data", default=out("02_data"))
    parser.add_argument("--out", default=out("04_model_pretrain", "architectures.json"))
    parser.add_argument("--tokens", type=within(int, low=1), default=150_000, help="for each run")
    parser.add_argument("--seconds", type=within(above=0), default=20,
                        help="of CPU, for each recipe")
    parser.add_argument("--seeds", type=within(int, low=1), default=3)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--quick", action="store_true", help="60,000 tokens, 5 seconds, one seed")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--recorded", action="store_true", help="show the committed run")
    args = parser.parse_args()
    if args.recorded:
        if measured_here(CLAIM):
            print(f"{CLAIM}: measured here, the recorded run is not needed")
        else:
            show(read_json(RECORDED, "04_model_pretrain/architectures.py"), args.out, " --recorded")
        return
    if args.quick:
        args.tokens, args.seconds = min(args.tokens, 60_000), min(args.seconds, 5)
        args.seeds = 1
    inputs = [Path(args.data) / name for name in ("train.bin", "val.bin", "index.json")]
    job = Job(__file__, vars(args), reads=inputs, writes=[args.out])
    if job.up_to_date():
        return
    torch.set_num_threads(1)
    seeds = list(range(args.seed, args.seed + args.seeds))
    show(measure(Path(args.data), args.tokens, args.seconds, seeds), args.out)
    job.done()


if __name__ == "__main__":
    command(main)
