"""The article's claims about post-training, measured again on this machine.

    python 05_posttrain/experiment.py sft-few --seeds 2          # about 3 minutes a seed
    python 05_posttrain/experiment.py rlhf-prefers --seeds 3     # about 8 minutes a seed
    python 05_posttrain/experiment.py all --quick                # everything tiny

Names: base-continues, sft-few, sft-hallucinates, alpaca-52k, rlhf-prefers, dpo-equals-ppo (the
last two are one set of runs), over-optimisation, rollout-speed, grpo-normalisers. Every finished
piece is kept in out/05_posttrain/experiments, so a stopped experiment goes on with the next one.
Verdicts are computed from the numbers. The numbers of our own runs are in 05_posttrain/recorded,
and `recorded_claims.py` puts them into the report where nothing was measured afresh.
"""

import copy
import hashlib
import shutil
import time
from pathlib import Path
from typing import Callable

import numpy as np
import torch

from alignment_figures import draw_center, draw_over_optimisation
from artifacts import CommandLine, command, out, record_claim, shown, write_json
from chat_template import END, prompt_ids, special_id
from compare import COLUMNS
from generate import generate
from grpo import NORMALISERS, rule_scorer, train_grpo
from measure_policy import raw_windows
from option_ranges import parsed
from rlhf_experiments import Kept, over_optimisation, overoptimised, run_seed, win_at_kl
from rollouts import sample_answers
from sft_experiments import (INVENTED, Bench, alpaca, base_continues, claim_base_continues, sft_few,
                             sft_hallucinates, share_interval, spread)
from training_stage import (add_common, fresh_questions, open_model, open_tokenizer, rate_for,
                            read_conversations, result)

RUN = "python 05_posttrain/experiment.py {} --seeds {}"


def claim_sft_few(runs: list[dict]) -> dict:
    """sft-few: a few thousand examples bring the format; knowledge does not move with them."""
    sizes = [row["examples"] for row in runs[0]]
    mean = {name: [spread([run[i][name] for run in runs])[0] for i in range(len(sizes))]
            for name in ("format_rate", "end_rate", "knowledge", "val_loss")}
    enough = next((n for n, f in zip(sizes, mean["format_rate"])
                   if n and f >= 0.9 * max(mean["format_rate"])), None)
    gained = mean["knowledge"][-1] - mean["knowledge"][0]
    formed = mean["format_rate"][-1] - mean["format_rate"][0]
    verdict = ("holds" if formed > 0.5 and abs(gained) < 0.1 else
               "holds in part" if formed > 0.5 else "does not hold here")
    return dict(measured=f"with {enough} distinct examples the format rate is within a tenth of "
                f"its best; from 0 to {sizes[-1]} examples it gains {formed:+.2f}, accuracy in a "
                f"four-choice test of knowledge {gained:+.3f}",
                value={"enough": enough, "format_gain": formed, "knowledge_gain": gained},
                interval=None, expected="a few thousand suffice; format, not knowledge",
                verdict=verdict)


def claim_sft_hallucinates(runs: list[dict]) -> dict:
    """sft-hallucinates: cloning answers to unknowns against refusing them."""
    rate = {arm: spread([r[arm]["invention_rate"] for r in runs])[0] for arm in runs[0]}
    gap, more = (rate["cloned"] - rate[arm] for arm in ("refused", "known only"))
    # 150 names a seed: a difference of shares below two standard errors is none.
    noise = 2 * (sum(rate[arm] * (1 - rate[arm]) for arm in ("cloned", "known only"))
                 / (INVENTED * len(runs))) ** 0.5
    verdict = ("holds" if gap > 0.2 and more > noise else
               "holds in part" if gap > 0.2 else "does not hold here")
    return dict(measured="share of invented names, never seen, for which a module is made up: "
                "after cloned answers to unknowns, after refusals, after known names only; "
                f"cloning adds {more:+.3f} to the last (noise: {noise:.3f})",
                value=rate, interval=share_interval([r["refused"]["invention_rate"] for r in runs]),
                expected="cloned answers teach invention, refusals prevent it", verdict=verdict)


def claim_alpaca(runs: list[dict]) -> dict:
    """alpaca-52k: a student of model-written pairs against a student of real ones."""
    written, real = (spread([r[name]["format_rate"] for r in runs])[0]
                     for name in ("written by the model", "real"))
    loss = [spread([r[n]["val_loss"] for r in runs])[0] for n in ("written by the model", "real")]
    verdict = ("does not hold here" if written < 0.5 else
               "holds" if written > real - 0.1 else "holds in part")
    kept = spread([r["kept"] for r in runs])[0]
    return dict(measured=f"format rate after fine-tuning on {kept:.0f} pairs that our own model "
                f"wrote, against as many real ones (held-out loss {loss[0]:.2f} against "
                f"{loss[1]:.2f}: the form can be copied, content is worse)",
                value={"written": written, "real": real}, interval=share_interval(
                    [r["written by the model"]["format_rate"] for r in runs]),
                expected="a model's pairs make a capable student", verdict=verdict)


def claim_rlhf(runs: list[dict]) -> dict:
    """rlhf-prefers: PPO's gold win rate over SFT, and proxy against gold without a KL price."""
    best = best_kind(runs, "ppo")
    wins = [r["rows"][best]["win_rate"] for r in runs]
    mean, low, _ = spread(wins)
    each = all(r["rows"][best]["interval"][0] > 0.5 for r in runs)
    hacks = [overoptimised(r) for r in runs]
    gaps = sum(h["proxy_rise"] > 0 and h["gold_end"] < h["gold_start"] for h in hacks)
    verdict = "holds" if each and low > 0.5 else "holds in part" if mean > 0.5 \
        else "does not hold here"
    return dict(measured=f"gold win rate of PPO ({best}) over SFT, mean of {len(runs)} seeds; "
                f"without a KL price and with a 64-pair reward model the proxy rose while gold "
                f"fell in {gaps} of {len(runs)} seeds",
                value=mean, interval=share_interval(wins), verdict=verdict,
                expected="above 0.5; the proxy can be gamed")


def best_kind(runs: list[dict], kind: str) -> str:
    """The setting of `kind` with the best mean win rate over the seeds."""
    names = [name for name in runs[0]["rows"] if name.startswith(kind)]
    return max(names, key=lambda n: np.mean([r["rows"][n]["win_rate"] for r in runs]))


def claim_dpo(runs: list[dict]) -> dict:
    """dpo-equals-ppo: win rates of DPO at the KL of each PPO run, between its own points."""
    ppo = best_kind(runs, "ppo")
    gaps = []
    for run in runs:
        row = run["rows"][ppo]
        at = win_at_kl(run["rows"], "dpo", row["kl"])
        if at is not None:
            gaps.append(at - row["win_rate"])
    dpo = best_kind(runs, "dpo")
    both = all(r["rows"][n]["interval"][0] > 0.5 for r in runs for n in (dpo, ppo))
    mean, low, high = spread(gaps) if gaps else (float("nan"),) * 3
    verdict = ("holds" if both and gaps and abs(mean) < 0.05 else
               "holds in part" if both else "does not hold here")
    return dict(measured=f"gold win rate of DPO less PPO's at PPO's KL ({len(gaps)} of {len(runs)} "
                "seeds could be matched); same preferences, same SFT model",
                value={"difference": mean, "dpo": spread([r["rows"][dpo]["win_rate"]
                                                          for r in runs])[0],
                       "ppo": spread([r["rows"][ppo]["win_rate"] for r in runs])[0]},
                interval=(low, high) if len(gaps) > 1 else None, expected="comparable",
                verdict=verdict)


def grpo_normalisers(bench: Bench, sft, seed: int, kept: Kept) -> dict[str, dict]:
    """The four normalisers on the verifiable rule, 30 iterations each: reward, KL, length."""
    table = {}
    for normaliser in NORMALISERS:
        policy = copy.deepcopy(sft)
        log = train_grpo(policy, sft, rule_scorer, bench.tokenizer,
                         fresh_questions(bench.train, 2500), iterations=2 if bench.small else 30,
                         prompts=8, group=8, learning_rate=rate_for("grpo", sft.config.width),
                         beta=0.02, normaliser=normaliser, seed=seed)
        mean = lambda part, key: float(np.mean([line[key] for line in part]))  # noqa: E731
        table[normaliser] = {"reward_before": mean(log[:3], "reward"),
                             **{key: mean(log[-5:], key) for key in ("reward", "kl", "length")}}
    return table


def rollout_speed(bench: Bench, sft, seed: int, kept: Kept) -> dict[str, float]:
    """Tokens per CPU second of sampled answers: batched with the cache, and one by one without."""
    questions = fresh_questions(bench.train, 16 if bench.small else 128)
    began = time.process_time()
    answers = sample_answers(sft, bench.tokenizer, questions, seed=seed)
    fast = sum(len(a.ids) for a in answers) / (time.process_time() - began)
    end, began, tokens = special_id(bench.tokenizer, END), time.process_time(), 0
    for question in questions[:16]:
        tokens += 1 + len(list(generate(sft, prompt_ids(bench.tokenizer, question), 48, stop=(end,),
                                        generator=torch.Generator().manual_seed(seed),
                                        use_cache=False)))
    slow = tokens / (time.process_time() - began)
    return {"with_cache": fast, "without": slow, "ratio": fast / slow}


def center_table(runs: list[dict]) -> str:
    """The central table: every policy's columns, means over the seeds, the win rate with the 95 %
    interval over seeds (and, for one seed, over questions)."""
    lines = [f"{'':12}" + "".join(f"{c.replace('raw_bits_per_byte', 'raw bits/B'):>12}"
                                  for c in COLUMNS)]
    for name in runs[0]["rows"]:
        rows = [run["rows"][name] for run in runs]
        cells = "".join(f"{spread([r[c] for r in rows])[0]:12.3f}" if c in rows[0] else
                        f"{'-':>12}" for c in COLUMNS)
        _, low, high = spread([r["win_rate"] for r in rows])
        low, high = (low, high) if len(rows) > 1 else rows[0]["interval"]
        lines.append(f"{name:12}{cells}   win {low:.3f} to {high:.3f}")
    return "\n".join(lines)


# name: (file of one seed, what measures it, what judges all seeds)
MEASURES: dict[str, tuple[str, Callable, Callable | None]] = {
    "base-continues": ("base_continues", base_continues, claim_base_continues),
    "sft-few": ("sft_few", sft_few, claim_sft_few),
    "sft-hallucinates": ("sft_hallucinates", sft_hallucinates, claim_sft_hallucinates),
    "alpaca-52k": ("alpaca", alpaca, claim_alpaca),
    "rlhf-prefers": ("rlhf", run_seed, claim_rlhf),
    "dpo-equals-ppo": ("rlhf", run_seed, claim_dpo),
    "over-optimisation": ("over_optimisation", over_optimisation, None),
    "rollout-speed": ("rollout_speed", rollout_speed, None),
    "grpo-normalisers": ("grpo_normalisers", grpo_normalisers, None)}


def run_claim(name: str, bench: Bench, sft, seeds: range, folder: Path) -> dict:
    """Run (or read) every seed of one experiment; returns {"runs": [...], "claim": {...}}."""
    stem, measure, judge = MEASURES[name]
    runs = []
    for seed in seeds:
        kept = Kept(folder / f"seed{seed}")
        runs.append(kept(stem, lambda: measure(bench, sft, seed, kept)))
        print(f"{name}, seed {seed}: {shown(kept.folder / stem)}.json")
    claim = judge(runs) | {"command": RUN.format(name, len(seeds))} if judge else None
    if claim:
        record_claim(name, **claim, details={"seeds": list(seeds)})
        print(f"{name}: {claim['verdict']}. {claim['measured']}: {claim['value']}")
    return {"runs": runs, "claim": claim}


def draw(name: str, runs: list[dict], folder: Path) -> None:
    """The table and figure of an experiment that has one."""
    if name == "over-optimisation":
        draw_over_optimisation([r["trace"] for r in runs], folder / f"{name}.png")
    if MEASURES[name][0] == "rlhf":
        print(center_table(runs))
        draw_center(runs, folder / "frontier.png")
    if name == "over-optimisation" or MEASURES[name][0] == "rlhf":
        for run in runs:
            print("  " + ", ".join(f"{k} {v:+.2f}" for k, v in overoptimised(run).items()))


def main() -> None:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("name", choices=[*MEASURES, "all"], help="which experiment")
    add("--seeds", type=int, default=1, help="how many, from --seed on")
    add("--base", type=Path, default=out("04_model_pretrain", "base.pt"))
    add("--folder", type=Path, default=result(""), help="where sft.pt and the examples lie")
    add("--data", type=Path, default=out("02_data"), help="folder with val.bin and index.json")
    add("--out", type=Path, default=result("experiments"))
    add_common(parser)
    args = parsed(parser)
    torch.set_num_threads(args.threads)
    base, _ = open_model(args.base, args.tokenizer, "04_model_pretrain/pretrain.py")
    sft, _ = open_model(args.folder / "sft.pt", args.tokenizer, "05_posttrain/sft.py")
    train, val = (read_conversations(args.folder / f"sft_{part}.jsonl",
                                     "05_posttrain/instructions.py") for part in ("train", "val"))
    bench = Bench(base, open_tokenizer(args.tokenizer), train, val,
                  raw_windows(args.data, windows=12 if args.quick else 48), args.quick)
    # Another base or SFT model is another experiment: its seeds lie in another folder.
    models = b"".join(p.read_bytes() for p in (args.base, args.folder / "sft.pt"))
    folder = args.out / (hashlib.sha256(models).hexdigest()[:8] + "_quick" * args.quick)
    for name in MEASURES if args.name == "all" else [args.name]:
        seeds = range(args.seed, args.seed + args.seeds)
        if args.fresh:
            for seed in seeds:
                shutil.rmtree(folder / f"seed{seed}", ignore_errors=True)
        done = run_claim(name, bench, sft, seeds, folder)
        write_json(args.out / f"{name}.json", {
            "note": f"{args.seeds} seed(s): {RUN.format(name, args.seeds)}", **done})
        draw(name, done["runs"], args.out)


if __name__ == "__main__":
    command(main)
