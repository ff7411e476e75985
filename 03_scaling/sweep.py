"""Train many small models at several compute budgets, and fit the law that forecasts a large one.

    python 03_scaling/sweep.py              about 5 minutes on 2 cores
    python 03_scaling/sweep.py --quick      25 seconds, a coarser law
    python 03_scaling/sweep.py --full       more sizes, budgets and three seeds: an hour

Reads out/02_data; trains chapter 4's model with chapter 4's loop, one process per core, one
thread each; writes out/03_scaling/runs.csv (a line per finished run), laws.json, and figures. A
stopped sweep goes on where it was. Where it would take over twice --minutes, its budgets are
halved. But: one seed each by default, and one recipe; another recipe needs another sweep.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Callable

import numpy as np
import torch
from tqdm import tqdm

from artifacts import BadInput, CommandLine, Job, command, out, read_json, shown, within, write_json
from batches import PackedBatches, Shard
from copying import SayTwice
from data_limited import effective_tokens, fit_half_life
from flops import parameters, training_flops
from forecast import NOISE, fit_laws, law_of, summary
from gpt import GPT, GPTConfig
from machine_speed import Trial, in_turns, promising
from model_shapes import model_of, parts_of, steps_for
from on_paper import claim_twenty
from power_laws import ParametricFit, predict
from run_table import COLUMNS, load_points, read_rows, write_rows
from scaling_figures import draw_isoflop, draw_parametric
from training_loop import Recipe, mean_loss, train

# Budget in FLOPs -> widths, with the best between them: measured 26 at 1.2e11, 48 at 4e11 and at
# 6.5e11, so that budgets halved for a slow machine show it too. Narrow models cost more time.
GRIDS = {
    "quick": {0.6e11: (32, 48, 64), 1.8e11: (32, 48, 64, 96)},
    "default": {1.2e11: (12, 20, 28, 40), 4e11: (24, 32, 48, 64), 1.3e12: (32, 48, 64, 96)},
    "full": {3e11: (32, 48, 64), 9e11: (32, 48, 64, 96, 128), 2.7e12: (48, 64, 96, 128, 192),
             8e12: (64, 96, 128, 192, 256)},
}
EVALUATION_ROWS = 8


def train_one(job: dict) -> dict:
    """Train and measure one model in a process of its own; gives its line of runs.csv.

    `job`: data, config (GPTConfig fields), recipe, steps, rows, seed, precision, budget, run,
    evaluation_tokens, whole (also measure on all of the held-out text), epochs (over the first
    rows of the run, read again; absent: none is read twice).
    """
    torch.set_num_threads(1)
    torch.manual_seed(job["seed"])
    config = GPTConfig(**job["config"])
    T, recipe, began = config.sequence_length, Recipe(**job["recipe"]), time.monotonic()
    tokens, shard = job["steps"] * job["rows"] * T, Shard(job["data"], "train")
    batches = SayTwice(PackedBatches(shard, T, job["rows"], job["seed"]), recipe.said_twice)
    fresh_steps = max(1, job["steps"] // job.get("epochs", 1))
    model = GPT(config)     # a second epoch is the same rows again, drawn from all documents
    train(model, lambda step: batches(step % fresh_steps), job["steps"], recipe,
          precision=job["precision"], accumulate=parts_of(job["rows"], T))
    # The same held-out documents, packed the same way, as in chapter 4's final evaluation; but
    # only every k-th batch of them, since a sweep evaluates often.
    held_out = PackedBatches(Shard(job["data"], "val"), T, EVALUATION_ROWS, shuffle=False,
                             use_mixture=False)
    every = max(1, round(len(held_out) * EVALUATION_ROWS * T / job["evaluation_tokens"]))
    chosen = range(every // 2, len(held_out), every)
    loss = mean_loss(model, lambda i: held_out(chosen[i]), len(chosen), job["precision"])
    whole = mean_loss(model, held_out, len(held_out), job["precision"]) if job["whole"] else None
    count = parameters(config)
    return {"run": job["run"], "family": "repeat" if job.get("epochs") else "gpt",
            "budget_flops": job["budget"],
            "params_non_embedding": count["non_embedding"], "params": count["total"],
            "params_products": count["products"],
            "tokens": tokens, "flops": training_flops(config, tokens), "loss": loss,
            "seed": job["seed"], "learning_rate": recipe.learning_rate,
            "seconds": time.monotonic() - began, "width": config.width, "layers": config.layers,
            "whole_loss": whole, "unique_tokens": fresh_steps * job["rows"] * T
            if job.get("epochs") else int(shard.length.sum())}


def speeds(config: GPTConfig, rounds: int = 3, rows: int = 4) -> dict[str, float]:
    """{precision: training FLOPs per second of this model} on one thread, by its own clock: what
    other programs take is left out. A precision that loses at once is not measured further."""
    trials = [Trial(config, 1, precision) for precision in ("fp32", "bf16")]
    in_turns(promising(trials, rows), rounds)
    return {t.precision: t.speed(rows) * training_flops(config, 1) for t in trials}


def make_jobs(args: argparse.Namespace, vocab_size: int, scale: float, precision: str
              ) -> list[dict]:
    """The sweep as a list of jobs, largest first, so that no core ends up with a long last one."""
    grid = GRIDS["quick" if args.quick else "full" if args.full else "default"]
    seeds = range(args.seed, args.seed + (3 if args.full else 1))
    # A run of few updates is not yet part of the law; a slow machine has to make do with fewer.
    fewest, jobs = 20 if args.quick else max(20, 80 * scale), []
    for budget, widths in grid.items():
        for width in widths:
            config = model_of(width, vocab_size, args.sequence_length)
            steps, rows = steps_for(config, budget * scale)
            if steps < fewest:
                continue
            jobs += [{"run": f"gpt-{budget * scale:.3g}-{width}-{seed}", "seed": seed,
                      "data": str(args.data), "config": asdict(config), "steps": steps,
                      "rows": rows, "precision": precision, "budget": budget * scale,
                      "recipe": asdict(Recipe()), "whole": False,
                      "evaluation_tokens": 12_000 if args.quick else 150_000} for seed in seeds]
    if len(jobs) < 5:
        raise BadInput(f"{len(jobs)} models have enough updates within the budgets of this sweep: "
                       "give it more --minutes")
    # One good model is measured on all held-out text too: the part is easier or harder than it.
    largest = [job for job in jobs if job["budget"] == jobs[-1]["budget"]]
    largest[len(largest) // 2]["whole"] = True
    # And one of a smaller budget reads half as much text twice: what is a second epoch worth?
    below = max((job for job in jobs if job["budget"] < largest[0]["budget"]),
                key=lambda job: (job["budget"], -job["config"]["width"]), default=jobs[0])
    jobs.append(below | {"run": below["run"].replace("gpt", "repeat"), "epochs": 2,
                         "whole": False})
    return sorted(jobs, key=lambda job: -job["budget"])


def fit_to_time(args: argparse.Namespace, vocab_size: int, workers: int) -> tuple[float, str]:
    """(scale, precision): budgets are halved where the sweep would take over twice --minutes.

    Not sooner: minutes are cheaper than a law that reaches too far. With the budgets halved on a
    busy machine the law put the run that it forecast 7 % too low, and chose twice the best width.
    """
    config = model_of(48 if args.quick else 64, vocab_size, args.sequence_length)
    found = speeds(config)
    precision = max(found, key=found.get)
    grid = GRIDS["quick" if args.quick else "full" if args.full else "default"]
    work = sum(budget * len(widths) for budget, widths in grid.items()) * (3 if args.full else 1)
    scale, allowed = 1.0, found[precision] * workers * args.minutes * 60
    # Never below what a law can be fitted on: then the sweep takes longer than it may.
    smallest = 1 / 2 if args.quick else 1 / 8
    while work * scale > 2 * allowed and scale > smallest:
        scale /= 2
    print(f"{found[precision] / 1e9:.0f} GFLOP/s per core in {precision}, {workers} processes: "
          f"about {work * scale / found[precision] / workers / 60:.1f} minutes"
          + (f" with budgets scaled by {scale:g}" if scale < 1 else ""))
    return scale, precision


def keep_runs_of(data: Path | str, path: Path) -> None:
    """Put the runs in the csv at `path` aside if they read other shards than those in `data`: a run
    is known by its settings alone, and would be taken for one of today's."""
    shard, note = Shard(data, "train"), path.with_suffix(".data.json")
    now = {"tokenizer_sha256": shard.tokenizer_sha256, "corpus_sha256": shard.corpus_sha256}
    if path.exists() and note.exists() and read_json(note, "03_scaling/sweep.py") != now:
        aside = path.with_suffix(".other.csv")
        os.replace(path, aside)
        print(f"{shown(path)} holds runs on other data: kept as {shown(aside)}, these begin anew")
    write_json(note, now)


def run_jobs(jobs: list[dict], path: Path, workers: int, work: Callable[[dict], dict] = train_one,
             columns: tuple[str, ...] = COLUMNS) -> list[dict]:
    """Run what is not in the csv at `path` yet; each finished run is written at once."""
    done = {row["run"]: row for row in (read_rows(path) if path.exists() else [])}
    waiting = [job for job in jobs if job["run"] not in done]
    bar = tqdm(total=sum(int(j["budget"] / 1e6) for j in waiting), desc="sweep",     # whole MFLOP
               bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}",
               disable=not waiting)
    context = get_context("spawn")
    with ProcessPoolExecutor(min(workers, max(1, len(waiting))), mp_context=context) as pool:
        futures = {pool.submit(work, job): job for job in waiting}
        try:
            for future in as_completed(futures):
                row = future.result()
                done[row["run"]] = row
                write_rows(path, [done[j["run"]] for j in jobs if j["run"] in done],
                           columns)
                bar.update(int(futures[future]["budget"] / 1e6))
                bar.set_postfix_str(f"width {row['width']}, {row['tokens']:,} tokens: "
                                    f"loss {row['loss']:.3f}")
        except BaseException:
            for process in list(pool._processes.values()):
                process.terminate()
            raise
    bar.close()
    return [done[job["run"]] for job in jobs]


def parse() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("--data", type=Path, default=out("02_data"), help="folder of the shards")
    parser.add_argument("--out", type=Path, default=out("03_scaling"), help="folder for results")
    parser.add_argument("--sequence-length", type=within(int, low=2), default=256, help="tokens")
    parser.add_argument("--minutes", type=within(above=0),
                        help="for all runs (default 3; quick 0.3; "
                        "full 60)")
    parser.add_argument("--workers", type=within(int, low=1), default=os.cpu_count(),
                        help="processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bootstrap", type=within(int, low=0), default=400,
                        help="resamples for intervals")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true", help="more sizes and budgets, hours")
    parser.add_argument("--fresh", action="store_true", help="train again what is already made")
    args = parser.parse_args()
    args.minutes = args.minutes or (0.3 if args.quick else 60 if args.full else 3)
    return args


def half_life_of(rows: list[dict], law: ParametricFit) -> tuple[float, list[float] | None]:
    """R* of this recipe, from the sweep's run that read half of its text twice, and its 95 %
    interval: the law might be another (its resamples; without any: None), and the run's loss is
    one draw."""
    twice = [row for row in rows if row["family"] == "repeat"]
    N, D, U, L = (np.array([float(row[name]) for row in twice]) for name in
                  ("params_products", "tokens", "unique_tokens", "loss"))
    noise = np.exp(NOISE * np.random.default_rng(0).normal(size=len(law.samples)))
    draws = [fit_half_life(draw, N, D, U, L * by) for draw, by in zip(law.draws(), noise)]
    interval = np.percentile(draws, [2.5, 97.5]).tolist() if draws else None
    return fit_half_life(law, N, D, U, L), interval


def settle(args: argparse.Namespace, shard: Shard, path: Path) -> tuple[float, str]:
    """(scale, precision) for this sweep; runs of another recipe, corpus or code are set aside.

    The choice is kept beside the runs, so that a stopped sweep goes on with the same budgets.
    """
    notes = args.out / "sweep.json"
    mine = {"tokenizer_sha256": shard.tokenizer_sha256, "corpus_sha256": shard.corpus_sha256,
            "recipe": asdict(Recipe()), "sequence_length": args.sequence_length,
            "preset": "quick" if args.quick else "full" if args.full else "default",
            "minutes": args.minutes, "seed": args.seed,
            "model": asdict(model_of(64, shard.vocab_size, args.sequence_length))}
    mine = {name: list(v) if isinstance(v, tuple) else v for name, v in mine.items()}
    mine["recipe"]["betas"] = list(mine["recipe"]["betas"])
    if notes.exists() and path.exists() and not args.fresh:
        kept = read_json(notes, "03_scaling/sweep.py")
        if {k: v for k, v in kept.items() if k not in ("scale", "precision")} == mine:
            return kept["scale"], kept["precision"]
    path.unlink(missing_ok=True)
    scale, precision = fit_to_time(args, shard.vocab_size, args.workers)
    write_json(notes, mine | {"scale": scale, "precision": precision})
    return scale, precision


def main() -> None:
    args = parse()
    path, inputs = args.out / "runs.csv", [args.data / "index.json", args.data / "train.bin"]
    job = Job(__file__, vars(args), reads=inputs, writes=[
        args.out / name for name in ("laws.json", "runs.csv", "isoflop.png", "parametric.png")])
    if job.up_to_date():
        return
    shard = Shard(args.data, "train")
    scale, precision = settle(args, shard, path)
    rows = run_jobs(make_jobs(args, shard.vocab_size, scale, precision), path, args.workers)
    N, D, L = load_points(path, fewest=5)
    fresh = [row for row in rows if row["family"] == "gpt"]
    budgets = np.array([float(row["budget_flops"]) for row in fresh])
    laws = fit_laws(N, D, L, budgets, args.bootstrap, args.seed)
    law = law_of(laws)
    laws["half_life"], laws["half_life_interval"] = half_life_of(rows, law)
    both = [(float(r["whole_loss"]), float(r["loss"])) for r in rows if r.get("whole_loss")]
    laws |= {"format": 1, "tokenizer_sha256": shard.tokenizer_sha256,
             "corpus_sha256": shard.corpus_sha256, "sequence_length": args.sequence_length,
             "recipe": asdict(Recipe()), "vocab_size": shard.vocab_size,
             "whole_over_part": both[0][0] / both[0][1] if both else 1.0}
    write_json(args.out / "laws.json", laws)
    draw_isoflop(args.out / "isoflop.png", laws, budgets, N, L)
    draw_parametric(args.out / "parametric.png", law, partial(predict, law), N, D, L)
    again, *between = (f"{float(effective_tokens(2, 1, R)) - 1:.0%}" for R in
                       (laws["half_life"], *(laws["half_life_interval"] or ())))
    print(summary(laws, len(fresh)) + "\n  " + claim_twenty(laws, law))
    print(f"  a second epoch is worth {again} [{' to '.join(between) or 'no resamples'}] of fresh "
          f"text (R* = {laws['half_life']:.2g})")
    print("wrote " + ", ".join(shown(args.out / name) for name in
                               ("runs.csv", "laws.json", "isoflop.png", "parametric.png")))
    job.done()


if __name__ == "__main__":
    command(main)
