"""One table for the whole chapter: what each stage did, judged by the gold rule it never saw.

    python 05_posttrain/compare.py        # about 2 minutes; --quick 20 s

Base, SFT, best-of-n, DPO, PPO and, where they were made, rejection-sampling fine-tuning (rft) with
its control (rft_random), REINFORCE and GRPO answer the same questions about held-out packages.
Columns: gold reward, win rate against SFT with its 95 % interval, KL from SFT, share of answers
that end, words, distinct answers, and bits per byte of raw documentation.
Reads every checkpoint of the chapter; writes compare.json, ppo.png (the diagnostics of PPO, gold
beside proxy), frontier.png, and the claims rlhf-prefers and dpo-equals-ppo as this run saw them.
"""

from pathlib import Path

import numpy as np
import torch

from alignment_figures import draw_diagnostics, draw_frontier
from artifacts import (CommandLine, Job, command, need, out, record_claim, shown,
                       write_json)
from best_of_n import best_of_n_kl, expected_best
from chat_template import PAD, special_id
from gold_judge import against, gold_of, judge_policy, label_accuracy, win_rate
from gold_rule import gold_scores
from measure_policy import raw_windows
from option_ranges import parsed
from responses import score_rows
from reward_model import load_reward_model
from rollouts import sample_rounds
from side_by_side import side_by_side
from sft_experiments import Bench, base_continues, claim_base_continues
from training_stage import (add_common, add_workers, fresh_questions, open_model, open_tokenizer,
                            read_conversations, read_jsonl, result)

COLUMNS = ("gold", "win_rate", "kl", "end_rate", "words", "distinct", "relevance",
           "raw_bits_per_byte")


OPTIONAL = ("rft", "rft_random", "reinforce", "grpo")     # in the table if they were made
MADE_BY = {"rft": "rejection_sampling", "rft_random": "rejection_sampling"}


def gold_per_iteration(samples: list[dict]) -> list[float]:
    """Mean gold reward of each iteration's answers, from `ppo_samples.jsonl`."""
    by_iteration: dict[int, list[dict]] = {}
    for sample in samples:
        by_iteration.setdefault(sample["iteration"], []).append(sample)
    return [float(np.mean(gold_scores([s["question"] for s in part], [s["text"] for s in part],
                                      [s["ended"] for s in part])))
            for _, part in sorted(by_iteration.items())]


def one_piece(name: str, path: Path, tokenizer_path: Path, sft_path: Path, questions: list[str],
              seed: int, how) -> dict | tuple[np.ndarray, np.ndarray]:
    """What one process judges: a checkpoint (`how`: windows of raw text) as a row of the table, or,
    named "best of n", `how` answers of the SFT model to every question: (proxy, gold)."""
    tokenizer = open_tokenizer(tokenizer_path)
    pad = special_id(tokenizer, PAD)
    sft, _ = open_model(sft_path, tokenizer_path, "05_posttrain/sft.py")
    if name == "best of n":
        return sampled_rewards(sft, load_reward_model(path), tokenizer, questions, pad, seed, how)
    model, _ = open_model(path, tokenizer_path, f"05_posttrain/{MADE_BY.get(name, name)}.py")
    return judge_policy(model, sft, tokenizer, questions, None, torch.from_numpy(how), pad, seed)


def sampled_rewards(sft, reward, tokenizer, questions: list[str], pad: int, seed: int,
                    samples: int) -> tuple[np.ndarray, np.ndarray]:
    """(proxy, gold) rewards, each (Q, samples), of the SFT model's answers."""
    rounds = sample_rounds(sft, tokenizer, questions, samples, seed=seed * 101 + 50)
    gold = np.stack([gold_of(part) for part in rounds], axis=1)
    proxy = np.stack([score_rows(reward.score, [a.row for a in part], pad).numpy()
                      for part in rounds], axis=1)
    return proxy, gold


def best_of_n_rows(proxy: np.ndarray, gold: np.ndarray, sft_gold: np.ndarray) -> dict[str, dict]:
    """The table's rows for best-of-n by the reward model and the points of its frontier, all from
    the same rewards (Q, samples) of the same answers."""
    samples = proxy.shape[1]
    rows = {}
    for n in [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= samples]:
        earned = expected_best(proxy, gold, n)
        best = np.take_along_axis(gold, proxy[:, :n].argmax(1)[:, None], 1)
        rate, interval = win_rate(best, sft_gold[:, :1])
        rows[f"best of {n}"] = {"gold": float(earned.mean()), "win_rate": rate,
                                "interval": interval, "kl": best_of_n_kl(n)}
    return rows


def print_table(rows: dict[str, dict]) -> None:
    """The central table, a dash where a column has no meaning."""
    print(f"{'':12}" + "".join(f"{c.replace('raw_bits_per_byte', 'raw bits/B'):>12}"
                               for c in COLUMNS))
    for name, row in rows.items():
        cells = "".join(f"{row[c]:12.3f}" if c in row else f"{'-':>12}" for c in COLUMNS)
        low, high = row.get("interval", (0, 0))
        print(f"{name:12}{cells}   win {low:.3f} to {high:.3f}")


def claims(rows: dict[str, dict], questions: int) -> None:
    """Record what this one run says on two claims; several seeds are `experiment.py`'s."""
    told = (f"one run, {questions} questions about held-out packages, gold rule never seen in "
            "training")
    if "ppo" in rows:
        low, high = rows["ppo"]["interval"]
        verdict = ("holds" if low > 0.5 else "does not hold here" if high < 0.5
                   else "holds in part")
        record_claim("rlhf-prefers", measured=f"gold win rate of PPO over SFT, {told}",
                     value=rows["ppo"]["win_rate"], interval=(low, high),
                     expected="above 0.5: preference bends the model past imitation",
                     verdict=verdict, command="python 05_posttrain/compare.py",
                     details={n: {c: r.get(c) for c in COLUMNS} for n, r in rows.items()})
    if "ppo" in rows and "dpo" in rows:
        gap = rows["dpo"]["win_rate"] - rows["ppo"]["win_rate"]
        overlap = (rows["dpo"]["interval"][1] >= rows["ppo"]["interval"][0]
                   and rows["ppo"]["interval"][1] >= rows["dpo"]["interval"][0])
        both = min(rows["dpo"]["interval"][0], rows["ppo"]["interval"][0]) > 0.5
        record_claim("dpo-equals-ppo", measured=f"gold win rates of DPO and PPO over SFT, {told}",
                     value={"dpo": rows["dpo"]["win_rate"], "ppo": rows["ppo"]["win_rate"],
                            "kl_dpo": rows["dpo"]["kl"], "kl_ppo": rows["ppo"]["kl"]},
                     interval=None, expected="comparable win rates",
                     verdict="holds" if overlap and both else "holds in part" if both
                     else "does not hold here", command="python 05_posttrain/compare.py",
                     details={"difference": gap, "note": "not at equal KL: see experiment.py"})


def main() -> None:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--base", type=Path, default=out("04_model_pretrain", "base.pt"))
    add("--folder", type=Path, default=result(""), help="where this chapter's checkpoints lie")
    add("--data", type=Path, default=out("02_data"), help="folder with val.bin and index.json")
    add("--questions", type=int, default=200, help="held-out questions asked")
    add("--best-of", type=int, default=16, help="answers to choose from")
    add_common(parser)
    add_workers(parser)
    args = parsed(parser)
    if args.quick:
        args.questions, args.workers = min(args.questions, 40), 1
        args.best_of = min(args.best_of, 4)
    torch.set_num_threads(args.threads)
    folder, target = args.folder, result("compare.json")
    stages = {name: folder / f"{name}.pt" for name in ("sft", "dpo", "ppo", *OPTIONAL)
              if name not in OPTIONAL or (folder / f"{name}.pt").exists()}
    job = Job(__file__, vars(args),
              writes=[target, result("ppo.png"), result("frontier.png")],
              reads=[args.base, args.tokenizer, args.data / "index.json", args.data / "val.bin",
                     *stages.values(), *(folder / name for name in (
                         "reward.pt", "sft_val.jsonl", "preferences.jsonl", "ppo_log.jsonl",
                         "ppo_samples.jsonl"))])
    if job.up_to_date():
        return
    tokenizer = open_tokenizer(args.tokenizer)
    val = read_conversations(folder / "sft_val.jsonl", "05_posttrain/instructions.py")
    questions = fresh_questions(val, args.questions)
    windows = raw_windows(args.data, windows=24 if args.quick else 96)
    need(folder / "reward.pt", "05_posttrain/reward_model.py")
    # The longest piece first: then no worker is left alone with it at the end.
    asked = (args.tokenizer, stages["sft"], questions, args.seed)
    judged = side_by_side(one_piece, [("best of n", folder / "reward.pt", *asked, args.best_of)] + [
        (name, path, *asked, windows.numpy())
        for name, path in {"base": args.base, **stages}.items()], args.workers, "judging")
    rows = against(dict(zip(("base", *stages), judged[1:])))
    rows |= best_of_n_rows(*judged[0], rows["sft"]["gold_rewards"])
    shown_answers = {name: [[a.question, a.text] for a in row.pop("answers")[:12]]
                     for name, row in rows.items() if "answers" in row}
    for row in rows.values():
        row.pop("gold_rewards", None)
    order = ["base", "sft", *(n for n in rows if n.startswith("best of")), *OPTIONAL[:2], "dpo",
             "reinforce", "ppo", "grpo"]
    rows = {name: rows[name] for name in order if name in rows}
    print_table(rows)
    log = read_jsonl(folder / "ppo_log.jsonl", "05_posttrain/ppo.py")
    gold = gold_per_iteration(read_jsonl(folder / "ppo_samples.jsonl", "05_posttrain/ppo.py"))
    draw_diagnostics(log, gold, result("ppo.png"))
    draw_frontier(rows, [(line["kl"], g) for line, g in zip(log, gold)], result("frontier.png"))
    claims(rows, len(questions))
    pairs = [p for p in read_jsonl(folder / "preferences.jsonl", "05_posttrain/preferences.py")
             if p["split"] == "val"]
    labels = {name: label_accuracy(pairs, without) for name, without in (
        ("the whole rule", ()), ("without relevance", ("relevance", "on page")),
        ("form alone", ("relevance", "on page", "repetition")))}
    print("held-out labels named rightly by "
          + ", ".join(f"{name} {share:.3f}" for name, share in labels.items()))
    sft, _ = open_model(stages["sft"], args.tokenizer, "05_posttrain/sft.py")
    bench = Bench(open_model(args.base, args.tokenizer, "04_model_pretrain/pretrain.py")[0],
                  tokenizer, [], val, windows, args.quick)
    record_claim("base-continues", **claim_base_continues([base_continues(bench, sft, args.seed)]),
                 command="python 05_posttrain/compare.py", details={"seeds": [args.seed]})
    write_json(target, {"rows": rows, "answers": shown_answers, "questions": len(questions),
                        "ppo_gold": gold, "labels": labels})
    print(f"wrote {shown(target)}, {shown(result('ppo.png'))}, {shown(result('frontier.png'))}")
    job.done()


if __name__ == "__main__":
    command(main)
