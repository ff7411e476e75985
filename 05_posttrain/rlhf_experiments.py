"""The centre of the chapter with several seeds: preferences, reward model, best-of-n, DPO, PPO,
GRPO, and the over-optimisation run, all judged by the gold rule.

    python 05_posttrain/experiment.py rlhf-prefers --seeds 3

One seed is one whole run from preference sampling on; all start from the same SFT model. Matched
data: DPO, the reward model, PPO and GRPO see the labels of the same pairs.
"""

import copy
from dataclasses import replace

import numpy as np

from compare import best_of_n_rows, gold_per_iteration
from dpo import train_dpo
from gold_judge import judge_policy
from grpo import train_grpo
from ppo_loop import PPOSettings, reward_scorer, train_ppo
from preferences import as_pairs, split_pairs
from reward_model import examine, from_sft, pair_rows, train_reward_model
from rollouts import sample_answers
from sft_experiments import Bench
from training_stage import fresh_questions, planned_precision


def collect_preferences(bench: Bench, sft, count: int, seed: int) -> list[dict]:
    """`count` questions answered twice by the SFT model and labelled: split into train and val."""
    questions = fresh_questions(bench.train, count)
    first, second = (sample_answers(sft, bench.tokenizer, questions, seed=1000 + 2 * seed + side)
                     for side in (0, 1))
    return split_pairs(as_pairs(first, second, seed, sharpness=1.5)[0])


def fit_reward(bench: Bench, sft, pairs: list[dict], seed: int, at_most: int | None = None,
               epochs: float = 2.0):
    """(reward model, its numbers) from the training pairs, at most `at_most` of them."""
    longest = sft.config.sequence_length
    train, _ = pair_rows(bench.tokenizer, [p for p in pairs if p["split"] == "train"][:at_most],
                         longest)
    val_pairs = [p for p in pairs if p["split"] == "val"]
    val, _ = pair_rows(bench.tokenizer, val_pairs, longest)
    model = from_sft(sft, seed)
    train_reward_model(model, train, bench.pad, batch=16, seed=seed, learning_rate=4e-4,
                       precision=planned_precision(),
                       steps=max(8, round(epochs * len(train) / 16)))
    own = sample_answers(sft, bench.tokenizer, fresh_questions(bench.train, 192), seed=seed + 7)
    model.centre([a.row for a in own if a.ids], bench.pad)
    return model, examine(model, val, val_pairs, bench.pad) | {"train_pairs": len(train)}


def trace(log: list[dict]) -> dict[str, list[float]]:
    """KL, proxy and gold of every iteration of a PPO log."""
    samples = [{"iteration": line["iteration"], "question": q, "text": t, "ended": e}
               for line in log for q, t, e in line["samples"]]
    return {"kl": [line["kl"] for line in log], "proxy": [line["reward"] for line in log],
            "gold": gold_per_iteration(samples)}


def over_optimisation(bench: Bench, sft, seed: int, pairs: list[dict] | None = None) -> dict:
    """PPO with no price for straying against a reward model of 64 pairs: what it is paid, and
    what it is worth. Without `pairs`, a few are collected first."""
    pairs = pairs or collect_preferences(bench, sft, 300, seed)
    poor, numbers = fit_reward(bench, sft, pairs, seed, at_most=64)
    hacked = copy.deepcopy(sft)
    settings = PPOSettings(iterations=3 if bench.small else 36, batch=32, beta=0.0,
                           learning_rate=6e-4, max_new_tokens=32)
    log = train_ppo(hacked, sft, reward_scorer(poor, bench.pad), bench.tokenizer,
                    fresh_questions(bench.train, 4000), settings, seed)
    return {"reward_model": numbers, "trace": trace(log), "examples": log[-1]["samples"][:6]}


def run_seed(bench: Bench, sft, seed: int, dpo_betas=(0.05, 0.2), ppo_betas=(0.1,)
             ) -> dict:
    """Everything of one seed: reward model numbers, the table's rows, PPO traces."""
    small = bench.small
    questions = fresh_questions(bench.val, 40 if small else 200)
    pairs = collect_preferences(bench, sft, 200 if small else 2500, seed)
    reward, reward_numbers = fit_reward(bench, sft, pairs, seed)

    def judged(policy, gold):
        return judge_policy(policy, sft, bench.tokenizer, questions, gold, bench.windows,
                            bench.pad, seed)

    rows = {"sft": judged(sft, None)}
    sft_gold = rows["sft"]["gold_rewards"]
    rows["base"] = judged(bench.base, sft_gold)
    rows |= best_of_n_rows(sft, reward, bench.tokenizer, questions, sft_gold, bench.pad, seed,
                           4 if small else 8)
    train, _ = pair_rows(bench.tokenizer, [p for p in pairs if p["split"] == "train"],
                         sft.config.sequence_length)
    for beta in dpo_betas:
        policy = copy.deepcopy(sft)
        train_dpo(policy, train, bench.pad, steps=max(2, 2 * len(train) // 32), batch=32,
                  beta=beta, learning_rate=3e-4, seed=seed)
        rows[f"dpo {beta}"] = judged(policy, sft_gold)
    asked, traces = fresh_questions(bench.train, 4000), {}
    settings = PPOSettings(iterations=3 if small else 40)
    for beta in ppo_betas:
        policy = copy.deepcopy(sft)
        log = train_ppo(policy, sft, reward_scorer(reward, bench.pad), bench.tokenizer, asked,
                        replace(settings, beta=beta), seed)
        rows[f"ppo {beta}"], traces[f"ppo {beta}"] = judged(policy, sft_gold), trace(log)
    policy = copy.deepcopy(sft)
    train_grpo(policy, sft, reward_scorer(reward, bench.pad), bench.tokenizer, asked,
               iterations=3 if small else 15, prompts=8, group=8, learning_rate=2e-4, beta=0.05,
               normaliser="answer", seed=seed)
    rows["grpo"] = judged(policy, sft_gold)
    over = over_optimisation(bench, sft, seed, pairs)
    traces["hacked"] = over["trace"]
    examples = {name: [[a.question, a.text] for a in row.pop("answers")[:6]]
                for name, row in rows.items() if "answers" in row}
    for row in rows.values():
        row.pop("gold_rewards", None)
    return {"seed": seed, "reward_model": reward_numbers, "poor_reward_model": over["reward_model"],
            "rows": rows, "traces": traces, "examples": examples,
            "pairs": len(train), "questions": len(questions)}


def win_at_kl(rows: dict[str, dict], kind: str, kl: float) -> float | None:
    """The win rate of `kind` ("dpo" or "ppo") at a given KL, between its points over sqrt(KL);
    None where `kl` lies outside of them. The SFT model (KL 0, win rate 0.5) is a point of both."""
    points = sorted([(0.0, 0.5)] + [(max(r["kl"], 0) ** 0.5, r["win_rate"])
                                    for name, r in rows.items() if name.startswith(kind)])
    if kl ** 0.5 > points[-1][0]:
        return None
    return float(np.interp(kl ** 0.5, [x for x, _ in points], [y for _, y in points]))


def overoptimised(run: dict) -> dict[str, float]:
    """Of one seed's run without a KL price: by how much proxy rose and gold fell from its best."""
    t = run["trace"] if "trace" in run else run["traces"]["hacked"]
    smooth = np.convolve(t["gold"], np.ones(3) / 3, mode="valid")
    return {"proxy_rise": float(np.mean(t["proxy"][-3:]) - t["proxy"][0]),
            "gold_start": float(t["gold"][0]), "gold_best": float(smooth.max()),
            "gold_end": float(smooth[-1]), "kl_end": float(np.mean(t["kl"][-3:]))}


