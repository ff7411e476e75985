"""The one dial: how long may the main run take? Measure this machine, ask the law, write the plan.

    python 03_scaling/plan.py --minutes 6           the model, tokens and forecast of chapter 4
    python 03_scaling/plan.py --flops 5.76e23       on paper: the best model for this compute
    python 03_scaling/plan.py --gpus 10000 --days 30 --gpu h100 --mfu 0.4

Reads out/03_scaling/laws.json and out/02_data/index.json; writes out/03_scaling/plan.json and
forecast.png in under a minute. Candidates are weighed by their measured tokens per second here,
not by FLOPs: a wide model gets more out of a core than a narrow one; and by the time that training
itself takes, so that other programs do not change the plan (machine_speed.py). But: while they
run, the plan takes more minutes than asked for; pretrain.py says so in its bar.
"""

import argparse
import os
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")    # threads that wait, sleep (see run.sh)
import torch

from artifacts import BadInput, CommandLine, Job, command, out, read_json, shown, within, write_json
from data_limited import HALF_LIFE, epochs_at_price
from flops import parameters, training_flops
from forecast import forecast, law_of
from gpt import GPTConfig
from inference_aware import claim_150
from machine_speed import CPU, Trial, in_turns, promising
from model_shapes import WIDTHS, batch_rows, model_of
from on_paper import answer, claim_gpus, gpu_flops, text
from power_laws import optimal_allocation, predict
from ranks import device_named
from run_table import read_rows
from scaling_figures import draw_forecast
from training_loop import Recipe

CLOSE = 0.2         # nats: further above the best, a second look at its speed changes nothing
REACH = 1.5         # of a plan's size, beyond where the sweep's best sizes point
# Seconds of training from which torch.compile is tried: trying costs a minute, five on a busy
# machine, and what it gained here was 0.95 to 1.16 times the speed: nothing, in six minutes.
COMPILE_FROM = 600


def choose_machine(config: GPTConfig, rows: int, rounds: int, device: torch.device = CPU
                   ) -> tuple[int, str, list[Trial]]:
    """(threads, precision) that train this model fastest here, and the trials that say so."""
    if device.type == "cuda":           # made for products in 16 bits; one thread feeds it
        return 1, "bf16", []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    trials = [Trial(config, threads, precision) for threads in sorted({1, cores})
              for precision in ("fp32", "bf16")]
    left = promising(trials, rows)
    in_turns(left, rounds)
    best = max(left, key=lambda trial: trial.speed(rows))
    return best.threads, best.precision, trials


def choose_model(laws: dict, seconds: float, unique: float, threads: int, precision: str,
                 rounds: int, device: torch.device = CPU) -> list[dict]:
    """Every candidate width with its speed, tokens in `seconds`, and forecast; best first.

    Widths go up until two in a row are worse than the best, or larger than what the sweep's valleys
    point to: the loss has one valley in width. Then all that can still win are measured again in
    turns. Text is read again as far as that is worth a tenth of fresh text. Sizes far from where
    the valleys point come last, whatever their forecast.
    """
    found, worse = [], 0
    for width in WIDTHS:
        config = model_of(width, laws["vocab_size"], laws["sequence_length"])
        trial = Trial(config, threads, precision, device=device)
        in_turns([trial], 2)
        one = at_speed(laws, trial, found[-1]["rows"] if found else 16, seconds, unique)
        lost = found and one["loss"] > min(f["loss"] for f in found)
        worse = worse + 1 if lost or not within_reach(laws, one) else 0
        found.append(one)
        if worse == 2:
            break
    best = in_order(laws, found)[0]["loss"]
    in_turns([one["trial"] for one in found
              if within_reach(laws, one) and one["loss"] < best + CLOSE], rounds)
    found = [at_speed(laws, one["trial"], one["rows"], seconds, unique) for one in found]
    for one in found:
        print(f"  width {one['width']:3d}, {one['N'] / 1e6:5.2f} M in products: "
              f"{one['speed']:7,.0f} tokens/s, {one['tokens'] / 1e6:6.2f} M tokens -> "
              f"{one['loss']:.3f}" + ("" if within_reach(laws, one) else "  (beyond the valleys)"))
    return in_order(laws, found)


def in_order(laws: dict, candidates: list[dict]) -> list[dict]:
    """By forecast, those within reach of the sweep first."""
    return sorted(candidates, key=lambda one: (not within_reach(laws, one), one["loss"]))


def within_reach(laws: dict, candidate: dict) -> bool:
    """Is this size at most REACH times the one to which the sweep's valleys point?

    The best size of the largest budget, grown as the square root of compute (Chinchilla's rule).
    The forecast alone bends too far with size: a law that fitted twelve runs within 0.7 % put a
    model four times as large as its largest at 3.25 nats, best of all; it came to 3.50.
    """
    if "isoflop" not in laws:
        return True
    C = 6 * candidate["N"] * candidate["tokens"]
    best, budget = laws["isoflop"]["N_opt"][-1], laws["isoflop"]["budgets"][-1]
    return candidate["N"] <= REACH * best * max(1.0, C / budget) ** 0.5


def at_speed(laws: dict, trial: Trial, rows: int, seconds: float, unique: float,
             gain: float = 1.0) -> dict:
    """What this model makes of `seconds` at `gain` times the trial's speed: a candidate."""
    config, speed = trial.config, gain * trial.speed(rows)
    tokens = min(speed * seconds, most_tokens(laws, unique))
    N = parameters(config)["products"]
    return {"width": config.width, "config": config, "speed": speed, "tokens": tokens, "N": N,
            "rows": batch_rows(tokens, config.sequence_length), "trial": trial,
            "loss": forecast(laws, N, tokens, unique)["loss"]}


def most_tokens(laws: dict, unique: float) -> float:
    """Tokens beyond which reading the `unique` ones again is worth under a tenth of fresh text."""
    return unique * epochs_at_price(0.9, laws.get("half_life", HALF_LIFE))


def with_compile(choice: dict, seconds: float, most: float, rounds: int) -> dict:
    """The choice with torch.compile, if that reads more tokens in `seconds`, compiling included."""
    plain = choice["trial"]
    trial = Trial(plain.config, plain.threads, plain.precision, True, plain.device)
    try:
        in_turns([trial, plain], rounds + 1)
    except Exception as why:            # no C++ compiler, or one that fails: any error says no
        print(f"torch.compile does not work here ({type(why).__name__}): training without it")
        return choice | {"compile": False}
    speed = trial.speed(choice["rows"])
    tokens = speed * (seconds - trial.preparation)
    gains = tokens > plain.speed(choice["rows"]) * seconds * 1.03
    print(f"torch.compile, width {choice['width']}: {speed:,.0f} tokens/s after "
          f"{trial.preparation:.0f} s of compiling, "
          + ("which pays" if gains else "which does not pay here"))
    return choice | ({"speed": speed, "tokens": min(tokens, most), "compile": True,
                      "trial": trial} if gains else {"compile": False, "tried": trial})


def choose_compiled(candidates: list[dict], laws: dict, seconds: float, unique: float, rounds: int
                    ) -> tuple[dict, list[dict]]:
    """The best candidate, compiled if that pays; with compiling, perhaps a wider one. And all
    candidates, best first."""
    most = most_tokens(laws, unique)
    choice = with_compile(candidates[0], seconds, most, rounds)
    if not choice["compile"]:
        return choice, candidates
    gain = choice["speed"] / candidates[0]["speed"]
    candidates = in_order(laws, [at_speed(laws, c["trial"], c["rows"], seconds, unique, gain)
                                 for c in candidates])
    if candidates[0]["width"] != choice["width"]:
        wider = with_compile(candidates[0], seconds, most, rounds)
        choice = wider if wider["compile"] else choice
    return choice, candidates


def make_plan(args: argparse.Namespace, laws: dict, index: dict) -> dict:
    """Measure, choose, and put the plan together (plan.json)."""
    unique, device = index["splits"]["train"]["tokens"], device_named(args.device)
    # Chapter 4 also evaluates, samples and saves within its time, and a long run on real text is
    # slower than these short ones: on one walk it reached 86 % of their tokens per second.
    seconds, rounds = 60 * args.minutes * 0.87, 2 if args.quick else 4

    # 1. How does this machine train fastest? Tried on a model of middle size.
    middle = model_of(64 if args.quick else 128, laws["vocab_size"], laws["sequence_length"])
    threads, precision, trials = choose_machine(middle, 16, rounds, device)
    threads = args.threads or threads
    print(f"this machine is fastest with {threads} threads in {precision}"
          if device == CPU else f"on the GPU, in {precision}")

    # 2. Which width does the law like best, given what each reads in that time?
    candidates = choose_model(laws, seconds, unique, threads, precision, rounds, device)
    trials += [one["trial"] for one in candidates]
    choice = candidates[0] | {"compile": False}

    # 3. Is it worth compiling?
    if args.compile == "yes" or (args.compile == "auto" and seconds > COMPILE_FROM):
        choice, candidates = choose_compiled(candidates, laws, seconds, unique, rounds)
        trials.append(choice.get("tried", choice["trial"]))

    # 4. What loss is to be expected, and what does chapter 4 need to know?
    return plan_of(choice, laws, unique) | {
        "seed": args.seed, "minutes": args.minutes,
        "candidates": [{k: c[k] for k in ("width", "N", "speed", "tokens", "loss")}
                       for c in candidates],
        "measured": [trial.record() for trial in trials]}


def plan_of(choice: dict, laws: dict, unique: float) -> dict:
    """plan.json's account of the run: the model, its recipe and length, and the loss to expect."""
    config, trial, T = choice["config"], choice["trial"], laws["sequence_length"]
    rows = batch_rows(choice["tokens"], T)
    steps = max(1, int(choice["tokens"] // (rows * T)))
    tokens, recipe = steps * rows * T, Recipe(**laws["recipe"])
    return {"format": 1, "model": asdict(config), "params": parameters(config)["total"],
            "optimizer": asdict(recipe), "learning_rate": recipe.learning_rate,
            "tokens": tokens, "batch_tokens": rows * T, "sequence_length": T, "steps": steps,
            "unique_tokens": unique, "epochs": tokens / unique,
            "flops": training_flops(config, tokens), "tokens_per_second": choice["speed"],
            "threads": trial.threads, "precision": trial.precision, "compile": choice["compile"],
            "tokenizer_sha256": laws["tokenizer_sha256"], "corpus_sha256": laws["corpus_sha256"],
            "forecast": forecast(laws, choice["N"], tokens, unique, laws["whole_over_part"])}


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
                      help="of training here (default 6; quick 0.6)")
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
    args.minutes = args.minutes or (0.6 if args.quick else 6)
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
    law = law_of(laws)
    draw_forecast(figure, lambda C: predict(law, *optimal_allocation(law, C)),
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
