"""The one dial: how long may the main run take? Measure this machine, ask the law, write the plan.

    python 03_scaling/plan.py --minutes 8           the model, tokens and forecast of chapter 4
    python 03_scaling/plan.py --flops 5.76e23       on paper: the best model for this compute
    python 03_scaling/plan.py --gpus 10000 --days 30 --gpu h100 --mfu 0.4

Reads out/03_scaling/laws.json and out/02_data/index.json; writes out/03_scaling/plan.json and
forecast.png in under a minute. Candidates are weighed by their measured tokens per second here,
not by FLOPs: a wide model gets more out of a core than a narrow one. But: it trusts that the
machine stays as fast, and as free, as it was in that minute.
"""

import argparse
import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from artifacts import BadInput, CommandLine, Job, command, out, read_json, shown, within, write_json
from data_limited import HALF_LIFE, epochs_at_price
from flops import parameters, training_flops
from forecast import forecast, law_of
from gpt import GPT, GPTConfig
from inference_aware import claim_150
from machine import fitted
from model_shapes import WIDTHS, batch_rows, model_of, parts_of
from on_paper import answer, claim_gpus, gpu_flops, text
from ranks import device_named
from run_table import read_rows
from scaling_figures import draw_forecast
from training_loop import Recipe, train


CPU = torch.device("cpu")


def tokens_per_second(config: GPTConfig, rows: int, threads: int, precision: str,
                      compiled: bool = False, seconds: float = 1.0,
                      device: torch.device = CPU) -> tuple[float, float]:
    """(training tokens per second, seconds of preparation) of this model on this machine.

    Real updates, optimizer included, on random tokens; the best of at least three, since what
    else runs on the machine can only slow it down. Preparation is what the first step takes more.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    T = config.sequence_length
    ids = torch.randint(config.vocab_size, (rows, T))
    model = fitted(GPT(config).to(device), device, compiled)
    accumulate = parts_of(rows, T) if device.type == "cpu" else 1       # as pretrain.py does
    began, best, times = time.perf_counter(), float("inf"), []
    while len(times) < 4 or sum(times[1:]) < seconds:
        start = time.perf_counter()
        train(model, lambda step: (ids, ids), 1, Recipe(), precision=precision,
              accumulate=accumulate)
        times.append(time.perf_counter() - start)
        if time.perf_counter() - began > 60 + 8 * seconds:
            break
    best = min(times[1:]) if len(times) > 1 else times[0]
    # The mean of the steadier half: the very best step is luck, the worst are other programs.
    steady = np.mean(sorted(times[1:] or times)[:max(1, len(times) // 2)])
    return rows * T / float(steady), max(0.0, times[0] - best)


def choose_machine(config: GPTConfig, rows: int, seconds: float, device: torch.device = CPU
                   ) -> tuple[int, str]:
    """(threads, precision) that train this model fastest here."""
    if device.type == "cuda":           # made for products in 16 bits; one thread feeds it
        return 1, "bf16"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {}
    for precision in ("fp32", "bf16"):
        found[cores, precision] = tokens_per_second(config, rows, cores, precision, False,
                                                    seconds)[0]
    best = max(found, key=found.get)[1]
    if cores > 1:       # on a busy machine, two threads that wait for each other lose to one
        found[1, best] = tokens_per_second(config, rows, 1, best, False, seconds)[0]
    return max(found, key=found.get)


def choose_model(laws: dict, seconds: float, unique: float, threads: int, precision: str,
                 measure: float, device: torch.device = CPU) -> list[dict]:
    """Every candidate width with its speed, tokens in `seconds`, and forecast; best first.

    Widths go up until the forecast has become worse twice: the loss has one valley in width.
    Text is not read again where that is worth less than a tenth of fresh text.
    """
    found, worse = [], 0
    for width in WIDTHS:
        config = model_of(width, laws["vocab_size"], laws["sequence_length"])
        rows = 16 if not found else found[-1]["rows"]
        speed, _ = tokens_per_second(config, rows, threads, precision, False, measure, device)
        one = at_speed(laws, config, speed, seconds, unique)
        worse = worse + 1 if found and one["loss"] > min(f["loss"] for f in found) else 0
        found.append(one)
        print(f"  width {width:3d}, {one['N'] / 1e6:5.2f} M in products: {speed:7,.0f} tokens/s, "
              f"{one['tokens'] / 1e6:6.2f} M tokens -> {one['loss']:.3f}")
        if worse == 2:
            break
    return sorted(found, key=lambda f: f["loss"])


def at_speed(laws: dict, config: GPTConfig, speed: float, seconds: float, unique: float) -> dict:
    """What this model makes of `seconds` at `speed` tokens per second: a candidate of the plan."""
    tokens = min(speed * seconds, most_tokens(laws, unique))
    N = parameters(config)["products"]
    return {"width": config.width, "config": config, "speed": speed, "tokens": tokens, "N": N,
            "rows": batch_rows(tokens, config.sequence_length),
            "loss": forecast(laws, N, tokens, unique)["loss"]}


def most_tokens(laws: dict, unique: float) -> float:
    """Tokens beyond which reading the `unique` ones again is worth under a tenth of fresh text."""
    return unique * epochs_at_price(0.9, laws.get("half_life", HALF_LIFE))


def with_compile(choice: dict, threads: int, precision: str, seconds: float, most: float,
                 device: torch.device = CPU) -> dict:
    """The choice with torch.compile, if that reads more tokens in `seconds`, compiling included."""
    try:
        speed, preparation = tokens_per_second(choice["config"], choice["rows"], threads,
                                               precision, True, device=device)
    except Exception as why:            # no C++ compiler, or one that fails: any error says no
        print(f"torch.compile does not work here ({type(why).__name__}): training without it")
        return choice | {"compile": False}
    tokens = speed * (seconds - preparation)
    gains = tokens > choice["speed"] * seconds * 1.03
    print(f"torch.compile, width {choice['width']}: {speed:,.0f} tokens/s after "
          f"{preparation:.0f} s of compiling, "
          + ("which pays" if gains else "which does not pay here"))
    return choice | ({"speed": speed, "tokens": min(tokens, most), "compile": True} if gains
                     else {"compile": False})


def make_plan(args: argparse.Namespace, laws: dict, index: dict) -> dict:
    """Measure, choose, and put the plan together (plan.json)."""
    unique = index["splits"]["train"]["tokens"]
    # Chapter 4 also evaluates, samples and saves within its time, and a long run on real text is
    # slower than these short ones: on one walk it reached 86 % of their tokens per second.
    seconds = 60 * args.minutes * 0.87
    measure = 0.3 if args.quick else 0.8
    middle = model_of(64 if args.quick else 192, laws["vocab_size"], laws["sequence_length"])
    device = device_named(args.device)
    threads, precision = choose_machine(middle, 16, measure, device)
    threads = args.threads or threads
    print(f"this machine is fastest with {threads} threads in {precision}"
          if device == CPU else f"on the GPU, in {precision}")
    candidates = choose_model(laws, seconds, unique, threads, precision, measure, device)
    choice = candidates[0] | {"compile": False}
    if args.compile == "yes" or (args.compile == "auto" and seconds > 200):
        most = most_tokens(laws, unique)
        choice = with_compile(choice, threads, precision, seconds, most, device)
        if choice["compile"]:           # then a wider model may be the better use of the time
            plain = {one["width"]: one for one in candidates}
            gain = choice["speed"] / candidates[0]["speed"]
            candidates = sorted((at_speed(laws, c["config"], c["speed"] * gain, seconds, unique)
                                 for c in candidates), key=lambda c: c["loss"])
            best = candidates[0]["width"]
            if best != choice["width"]:
                wider = with_compile(plain[best], threads, precision, seconds, most, device)
                choice = wider if wider["compile"] else choice
    config, T = choice["config"], laws["sequence_length"]
    rows = batch_rows(choice["tokens"], T)
    steps = max(1, int(choice["tokens"] // (rows * T)))
    tokens, recipe = steps * rows * T, Recipe(**laws["recipe"])
    expected = forecast(laws, choice["N"], tokens, unique, laws["whole_over_part"])
    return {"format": 1, "model": asdict(config), "optimizer": asdict(recipe), "tokens": tokens,
            "batch_tokens": rows * T, "sequence_length": T, "steps": steps,
            "learning_rate": recipe.learning_rate, "seed": args.seed, "threads": threads,
            "precision": precision, "compile": choice["compile"],
            "flops": training_flops(config, tokens), "unique_tokens": unique,
            "epochs": tokens / unique, "minutes": args.minutes,
            "tokens_per_second": choice["speed"],
            "params": parameters(config)["total"],
            "tokenizer_sha256": laws["tokenizer_sha256"],
            "corpus_sha256": laws["corpus_sha256"], "forecast": expected,
            "candidates": [{k: c[k] for k in ("width", "N", "speed", "tokens", "loss")}
                           for c in candidates]}


def on_paper(args: argparse.Namespace) -> None:
    """Answer --flops, or --gpus and --days, from published laws."""
    if args.gpus is not None and args.days is None:
        raise BadInput("--gpus needs --days: for how long?")
    C = args.flops or gpu_flops(args.gpus, args.days, args.gpu, args.mfu)
    if not 1e6 <= C < 1e40:
        raise BadInput(f"--flops {C:g} is too small or too large for any model: try 1e23")
    if args.demand is not None and not 0 <= args.demand < 1e40:
        raise BadInput(f"--demand {args.demand:g} must be a number of tokens, 0 or more")
    found = answer(C, args.demand)
    if not args.flops:
        print(f"{args.gpus:g} {args.gpu} x {args.days:g} days at {args.mfu:.0%} of peak:")
    print(text(C, found))
    write_json(args.out / "plan_on_paper.json", {"flops": C} | found)
    if (args.gpus, args.days, args.gpu, args.mfu) == (10_000, 30, "h100", 0.4):
        claim_gpus()


def parse() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    dial = parser.add_argument_group("the dial")
    dial.add_argument("--minutes", type=within(above=0),
                      help="of training here (default 8; quick 0.6)")
    dial.add_argument("--flops", type=within(above=0), help="on paper: training FLOPs")
    dial.add_argument("--gpus", type=within(above=0), help="on paper: number of GPUs")
    dial.add_argument("--days", type=within(above=0), help="on paper: days of training")
    dial.add_argument("--gpu", default="h100", help="kind of GPU")
    dial.add_argument("--mfu", type=within(above=0, high=1), default=0.4,
                      help="share of peak that is reached")
    dial.add_argument("--demand", type=within(low=0), help="on paper: tokens to serve afterwards")
    here = parser.add_argument_group("this machine")
    here.add_argument("--threads", type=within(int, low=1),
                      help="default: what is faster, all cores or one")
    here.add_argument("--device", default="auto", help="cpu or cuda; auto: a GPU if any")
    here.add_argument("--compile", choices=("auto", "yes", "no"), default="auto",
                      help="torch.compile; auto: if it pays within the run")
    files = parser.add_argument_group("files")
    files.add_argument("--laws", type=Path, default=out("03_scaling", "laws.json"))
    files.add_argument("--data", type=Path, default=out("02_data"))
    files.add_argument("--out", type=Path, default=out("03_scaling"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fresh", action="store_true", help="measure and plan again")
    args = parser.parse_args()
    args.minutes = args.minutes or (0.6 if args.quick else 8)
    return args


def main() -> None:
    args = parse()
    if args.flops is not None or args.gpus is not None:
        on_paper(args)
        return
    target, figure = args.out / "plan.json", args.out / "forecast.png"
    job = Job(__file__, vars(args), writes=[target, figure],
              reads=[args.laws, args.laws.with_name("runs.csv"), args.data / "index.json"])
    if job.up_to_date():
        return
    laws = read_json(args.laws, "03_scaling/sweep.py")
    index = read_json(args.data / "index.json", "02_data/build_corpus.py")
    for name in ("tokenizer_sha256", "corpus_sha256"):
        if laws[name] != index[name]:
            raise BadInput(f"{shown(args.laws)} was fitted on another {name.split('_')[0]}: run "
                           "python 03_scaling/sweep.py")
    if not 0 < args.minutes < 1e6:
        raise BadInput(f"--minutes {args.minutes:g} must be positive")
    plan = make_plan(args, laws, index)
    write_json(target, plan)
    runs = [r for r in read_rows(args.laws.with_name("runs.csv")) if r["family"] == "gpt"]
    draw_forecast(figure, law_of(laws),
                  [float(r["flops"]) for r in runs], [float(r["loss"]) for r in runs],
                  plan["flops"], plan["forecast"])
    f = plan["forecast"]
    print(f"plan: width {plan['model']['width']}, {plan['model']['layers']} layers, "
          f"{plan['params']:,} parameters, {plan['tokens']:,} tokens ({plan['epochs']:.1f} epochs "
          f"of {plan['unique_tokens']:,}), {plan['flops']:.2g} FLOPs\n"
          f"forecast: {f['loss']:.3f} nats per token, 90 % interval [{f['low']:.3f}, "
          f"{f['high']:.3f}]\nwrote {shown(target)}, {shown(figure)}")
    claim_gpus(), claim_150()           # on paper, and so at once: the report shows them
    job.done()


if __name__ == "__main__":
    command(main)
