"""The centre of the chapter with several seeds: preferences, reward model, best-of-n, DPO, PPO,
GRPO, and the over-optimisation run, all judged by the gold rule.

    python 05_posttrain/experiment.py rlhf-prefers --seeds 3

One seed is one whole run from preference sampling on; all start from the same SFT model. Matched
data: DPO, the reward model, PPO and GRPO see the labels of the same pairs.
"""

import copy
from pathlib import Path
from typing import Callable

import numpy as np

from artifacts import read_json, write_json
from checkpoint import save_checkpoint
from compare import best_of_n_rows, gold_per_iteration, sampled_rewards
from dpo import train_dpo
from gold_judge import judge_policy
from grpo import train_grpo
from policy_stage import reward_scorer
from ppo_loop import PPOSettings, train_ppo
from preference_files import split_pairs
from preferences import all_pairs
from reinforce import train_reinforce
from rejection_sampling import fine_tuned, sample_and_keep
from reward_model import from_sft, load_reward_model, pair_rows, train_reward_model
from reward_quality import examine
from responses import steps_for
from rollouts import sample_answers
from sft_experiments import Bench
from training_stage import RATES, fresh_questions, planned_precision, rate_for


def collect_preferences(bench: Bench, sft, seed: int) -> list[dict]:
    """Questions answered by the SFT model, every two answers labelled: split into train and val,
    as `preferences.py` does it."""
    questions = fresh_questions(bench.train, 120 if bench.small else 1500)
    rounds = [sample_answers(sft, bench.tokenizer, questions, seed=(seed + 1) * 1000 + k)
              for k in range(4)]
    return split_pairs(all_pairs(rounds, seed, sharpness=1.5)[0])


def fit_reward(bench: Bench, sft, pairs: list[dict], seed: int, at_most: int | None = None,
               epochs: float = 1.0):
    """(reward model, its numbers) from the training pairs, at most `at_most` of them."""
    longest = sft.config.sequence_length
    train, _ = pair_rows(bench.tokenizer, [p for p in pairs if p["split"] == "train"][:at_most],
                         longest)
    val_pairs = [p for p in pairs if p["split"] == "val"]
    val, _ = pair_rows(bench.tokenizer, val_pairs, longest)
    model = from_sft(sft, seed)
    train_reward_model(model, train, bench.pad, batch=8, seed=seed,
                       learning_rate=rate_for("reward", sft.config.width),
                       precision=planned_precision(),
                       steps=max(8, steps_for(train, 8, epochs)))
    own = sample_answers(sft, bench.tokenizer, fresh_questions(bench.train, 192), seed=seed + 7)
    model.centre([a.row for a in own if a.ids], bench.pad)
    return model, examine(model, val, val_pairs, bench.pad) | {"train_pairs": len(train)}


def trace(log: list[dict]) -> dict[str, list[float]]:
    """KL, proxy and gold of every iteration of a PPO log."""
    samples = [{"iteration": line["iteration"], "question": q, "text": t, "ended": e}
               for line in log for q, t, e in line["samples"]]
    return {"kl": [line["kl"] for line in log], "proxy": [line["reward"] for line in log],
            "gold": gold_per_iteration(samples)}


class Kept:
    """The finished pieces of one seed, a file each: a killed seed goes on with its next piece.

        kept = Kept(folder)
        row = kept("dpo 0.05", lambda: ...)       # made once, read from then on
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, make: Callable[[], dict | list]):
        """The JSON value of piece `name`, made and written if it is not there."""
        path = self.folder / f"{name.replace(' ', '_')}.json"
        if not path.exists():
            write_json(path, make())
        return read_json(path, "05_posttrain/experiment.py")

    def reward_model(self, name: str, make: Callable[[], tuple]) -> tuple:
        """(reward model, its numbers), kept as a checkpoint and a JSON file."""
        path = self.folder / f"{name}.pt"
        if not path.exists():
            model, numbers = make()
            write_json(self.folder / f"{name}.json", numbers)
            save_checkpoint(path, model=model, stage="reward")
        return load_reward_model(path), read_json(self.folder / f"{name}.json", "")


def plain(row: dict) -> dict:
    """A judged row as plain values: gold rewards as lists, and six of its answers."""
    return row | {"gold_rewards": row["gold_rewards"].tolist(),
                  "answers": [[a.question, a.text] for a in row["answers"][:6]]}


def over_optimisation(bench: Bench, sft, seed: int, kept: Kept) -> dict:
    """PPO with no price for straying against a reward model of 64 pairs: what it is paid, and
    what it is worth."""
    pairs = kept("preferences", lambda: collect_preferences(bench, sft, seed))
    poor, numbers = kept.reward_model(
        "poor_reward", lambda: fit_reward(bench, sft, pairs, seed, 64, epochs=2))
    hacked = copy.deepcopy(sft)
    settings = PPOSettings(iterations=3 if bench.small else 36, batch=32, beta=0.0,
                           learning_rate=2 * RATES["ppo"], max_new_tokens=60)
    log = train_ppo(hacked, sft, reward_scorer(poor, bench.pad), bench.tokenizer,
                    fresh_questions(bench.train, 2500), settings, seed)
    return {"reward_model": numbers, "trace": trace(log), "examples": log[-1]["samples"][:6]}


def policies(bench: Bench, sft, pairs: list[dict], reward, seed: int) -> dict[str, Callable]:
    """The trained policies of the table by name, each as a function that trains it and returns
    (policy, trace of its training or None)."""
    small, asked = bench.small, fresh_questions(bench.train, 2500)
    train, _ = pair_rows(bench.tokenizer, [p for p in pairs if p["split"] == "train"],
                         sft.config.sequence_length)

    def by_dpo(beta):
        policy = copy.deepcopy(sft)
        train_dpo(policy, train, bench.pad, steps=steps_for(train, 8, 1), batch=8, beta=beta,
                  learning_rate=rate_for("dpo", sft.config.width), seed=seed)
        return policy, None

    def by_ppo(beta):
        policy = copy.deepcopy(sft)
        log = train_ppo(policy, sft, reward_scorer(reward, bench.pad), bench.tokenizer, asked,
                        PPOSettings(iterations=3 if small else 40, beta=beta), seed)
        return policy, trace(log)

    def by_grpo():
        policy = copy.deepcopy(sft)
        train_grpo(policy, sft, reward_scorer(reward, bench.pad), bench.tokenizer, asked,
                   iterations=3 if small else 40, prompts=8, group=8,
                   learning_rate=rate_for("grpo", sft.config.width), beta=0.05,
                   normaliser="answer", seed=seed)
        return policy, None

    def by_reinforce():
        policy = copy.deepcopy(sft)
        train_reinforce(policy, sft, reward_scorer(reward, bench.pad), bench.tokenizer, asked,
                        iterations=3 if small else 60, prompts=16, group=4,
                        learning_rate=RATES["reinforce"], beta=0.1, seed=seed)
        return policy, None

    def by_choice(name):
        chosen = sample_and_keep(sft, reward, bench.tokenizer, asked[:60 if small else 1000],
                                 3 if small else 8, seed)
        return fine_tuned(sft, chosen[name], bench.pad, 1.0, 32, RATES["rft"], seed), None
    return {"rft": lambda: by_choice("rft"), "rft_random": lambda: by_choice("rft_random"),
            "dpo 0.05": lambda: by_dpo(0.05), "dpo 0.2": lambda: by_dpo(0.2),
            "reinforce": by_reinforce, "ppo 0.1": lambda: by_ppo(0.1), "grpo": by_grpo}


def run_seed(bench: Bench, sft, seed: int, kept: Kept) -> dict:
    """Everything of one seed, piece by piece: reward model, the table's rows, PPO traces."""
    questions = fresh_questions(bench.val, 40 if bench.small else 200)
    pairs = kept("preferences", lambda: collect_preferences(bench, sft, seed))
    reward, numbers = kept.reward_model("reward", lambda: fit_reward(bench, sft, pairs, seed))

    def judged(policy, gold):
        return plain(judge_policy(policy, sft, bench.tokenizer, questions, gold, bench.windows,
                                  bench.pad, seed))

    rows, traces = {"sft": kept("sft", lambda: judged(sft, None))}, {}
    gold = np.array(rows["sft"]["gold_rewards"])
    rows["base"] = kept("base", lambda: judged(bench.base, gold))
    rows |= kept("best of n", lambda: best_of_n_rows(*sampled_rewards(
        sft, reward, bench.tokenizer, questions, bench.pad, seed, 4 if bench.small else 16), gold))
    for name, train in policies(bench, sft, pairs, reward, seed).items():
        def piece():
            policy, way = train()
            return judged(policy, gold) | {"trace": way}
        rows[name] = kept(name, piece)
        if way := rows[name].pop("trace"):
            traces[name] = way
    over = kept("over_optimisation", lambda: over_optimisation(bench, sft, seed, kept))
    traces["hacked"] = over["trace"]
    examples = {name: row.pop("answers") for name, row in rows.items() if "answers" in row}
    for row in rows.values():
        row.pop("gold_rewards", None)
    return {"seed": seed, "reward_model": numbers, "poor_reward_model": over["reward_model"],
            "rows": rows, "traces": traces, "examples": examples,
            "pairs": sum(p["split"] == "train" for p in pairs), "questions": len(questions)}


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


