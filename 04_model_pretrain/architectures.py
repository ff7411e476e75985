"""Two experiments on small models: do architectures matter, and what is the recipe worth?

    python 04_model_pretrain/architectures.py                 about 6 minutes on one core
    python 04_model_pretrain/architectures.py --quick         one minute, a coarser answer

First, equal tokens: sensible architectures under one recipe, beside treatments of the data; the
claim `architecture-least` says that the second spread is the wider one. Then, equal CPU seconds:
this chapter's recipe against nanoGPT's (GPT-2's choices, AdamW at the best of several rates,
cosine). Reads out/02_data; writes out/04_model_pretrain/architectures.json. One seed, small
models, short runs: larger ones may order architectures otherwise.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from artifacts import command, is_current, mark_made, out, record_claim, shown, write_json
from batches import PackedBatches, Shard
from gpt import GPT, GPT2, GPTConfig
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


def verdict_of(architectures: dict, treatments: dict) -> tuple[str, float, float]:
    """The verdict on `architecture-least`, and the two spreads (worst over best, less one)."""
    spread = [max(group.values()) / min(group.values()) - 1 for group in
              (architectures, treatments)]
    verdict = ("holds" if spread[1] > 1.5 * spread[0] else
               "holds in part" if spread[1] > spread[0] else "does not hold here")
    return verdict, spread[0], spread[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=out("02_data"))
    parser.add_argument("--out", default=out("04_model_pretrain", "architectures.json"))
    parser.add_argument("--tokens", type=int, default=300_000, help="for each run")
    parser.add_argument("--seconds", type=float, default=40, help="of CPU, for each recipe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="60,000 tokens, 5 seconds")
    parser.add_argument("--fresh", action="store_true")
    args = parser.parse_args()
    inputs = [Path(args.data) / name for name in ("train.bin", "val.bin", "index.json")]
    if not args.fresh and is_current(args.out, inputs, vars(args)):
        print(f"{shown(args.out)} is up to date (--fresh makes it again)")
        return
    torch.set_num_threads(1)
    tokens, seconds = (60_000, 5) if args.quick else (args.tokens, args.seconds)
    bench, recipe = Bench(Path(args.data), tokens, args.seed), Recipe()
    treatments = data_treatments(bench.shard, tokens)
    result = {"architectures": {}, "data": {}, "recipes": {}, "tokens": tokens,
              "seconds": seconds, "seed": args.seed}
    bar = tqdm(total=len(ARCHITECTURES) + len(treatments) + len(RATES) + 1, unit="run")
    for name, change in ARCHITECTURES.items():
        result["architectures"][name] = bench.run(replace(bench.base, **change), recipe)
        bar.update()
    for name, shard in treatments.items():
        result["data"][name] = bench.run(bench.base, recipe, shard)
        bar.update()
    nano = replace(bench.base, **GPT2)
    ours = replace(bench.base, ngram_rows=32_768)
    recipes = {"ours": (ours, recipe)} | {f"nanoGPT at {rate:g}": (nano, Recipe(
        optimizer="adamw", learning_rate=rate, schedule="cosine", warmup=0.05, weight_decay=0.1,
        betas=(0.9, 0.95))) for rate in RATES}
    for name, (config, its_recipe) in recipes.items():
        steps = bench.steps_in(seconds, config, its_recipe)
        began = time.process_time()
        bits = bench.run(config, its_recipe, steps=steps)
        result["recipes"][name] = {"bits_per_byte": bits, "steps": steps,
                                   "cpu_seconds": round(time.process_time() - began, 1)}
        bar.update()
    bar.close()
    best = min(r["bits_per_byte"] for n, r in result["recipes"].items() if n != "ours")
    result["saved_against_nanogpt"] = round(1 - result["recipes"]["ours"]["bits_per_byte"] / best,
                                            4)
    verdict, of_architecture, of_data = verdict_of(result["architectures"], result["data"])
    write_json(args.out, result)
    record_claim(
        "architecture-least", verdict=verdict, value={"architecture": round(of_architecture, 4),
                                                      "data": round(of_data, 4)},
        measured=f"at {tokens:,} tokens, {len(ARCHITECTURES)} architectures lie within "
                 f"{of_architecture:.1%} of the best one's bits per byte, "
                 f"{len(treatments)} treatments of the data within {of_data:.1%}",
        expected="the spread among data treatments is clearly wider (1.5 times)",
        command="python 04_model_pretrain/architectures.py", details=result)
    print(json.dumps(result, indent=1))
    print(f"architecture-least: {verdict} ({of_architecture:.1%} against {of_data:.1%}); "
          f"{result['saved_against_nanogpt']:.1%} fewer bits per byte than nanoGPT's recipe at "
          f"equal CPU time\nwrote {shown(args.out)}")
    mark_made(args.out, inputs, vars(args))


if __name__ == "__main__":
    command(main)
