"""Measure every checkpoint in every way of this chapter, and say what may be concluded.

    python 06_eval/evaluate.py                    # about 1.5 minutes for five checkpoints
    python 06_eval/evaluate.py --quick            # about 20 seconds
    python 06_eval/evaluate.py --mmlu FOLDER      # the real MMLU archive in DocMMLU's place

Reads the tokenizer, the held-out shards and corpus of chapter 2, the checkpoints of chapters 4 and
5 (those that exist) and sft_val.jsonl; writes out/06_eval/{results,leaderboard}.json,
{answers,battles}.jsonl and DocMMLU. A finished table is kept: a stopped run goes on from there.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, Callable

import torch
from tqdm import tqdm

from artifacts import (CommandLine, Job, command, need, out, read_json, shown, whole, within,
                       write_json)
from contestants import default_paths, named_paths
from eval_claims import record_all
from exam import Exam, open_exam
from format_study import format_study, spread
from generated_answers import score_generated, score_numbers
from measurements import (answer_table, board, hold_arena, judge_table, perplexity_table,
                          read_lines)
from suite import mean_win_rate, run_suite
from votes import read_votes


def parse() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    group = parser.add_argument_group("what is measured")
    group.add_argument("--model", action="append", metavar="NAME=PATH", default=[],
                       help="a checkpoint, may be given again (default: all that chapters 4 and 5 "
                       "have left)")
    group.add_argument("--reward", default=out("05_posttrain", "reward.pt"), help="the judge")
    group.add_argument("--judge-address", help="an OpenAI-compatible address, as one more judge")
    group.add_argument("--judge-model", default="default", help="the model's name there")
    group = parser.add_argument_group("what it is measured on")
    group.add_argument("--tokenizer", default=out("01_tokenizer", "tokenizer.json"))
    group.add_argument("--data", default=out("02_data"), help="folder with val.bin and corpus")
    group.add_argument("--questions", default=out("05_posttrain", "sft_val.jsonl"),
                       help="held-out conversations to ask, .jsonl")
    group.add_argument("--mmlu", help="a folder in MMLU's layout instead of DocMMLU")
    group.add_argument("--scenario", action="append", metavar="FILE", default=[], help="a jsonl "
                       "file of ARC, OpenBookQA, HellaSwag or MMLU, as one more scenario")
    group.add_argument("--numbers", metavar="FILE", help="a jsonl file in GSM8K's form, answered "
                       "in words and read by the last number")
    group.add_argument("--votes", default=out("06_eval", "votes.jsonl"), help="people's votes")
    group = parser.add_argument_group("how much")
    group.add_argument("--tokens", type=within(int, low=1), default=40_000, help="held-out tokens")
    group.add_argument("--asked", type=within(int, low=1), default=160,
                       help="questions each model answers")
    group.add_argument("--choices", type=within(int, low=1), default=200,
                       help="questions of the format study")
    group.add_argument("--shots", type=within(int, low=0), nargs="+", default=[0, 2], metavar="K",
                       help="worked examples in the format study, such as 0 1 5 (as many as fit)")
    group.add_argument("--scenario-questions", type=within(int, low=1), default=100,
                       help="of each scenario")
    parser.add_argument("--out", default=out("06_eval"), help="folder of the results")
    parser.add_argument("--threads", type=within(int, low=1), default=1, help="torch threads")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few questions of everything")
    parser.add_argument("--fresh", action="store_true", help="measure again even if up to date")
    args = parser.parse_args()
    if args.quick:
        for name, most in (("tokens", 3_000), ("asked", 16), ("choices", 16),
                           ("scenario_questions", 8)):
            setattr(args, name, min(getattr(args, name), most))
        args.shots = args.shots[:1]
    return args


def kept(folder: Path, name: str, inputs: list, settings: dict, fresh: bool,
         make: Callable[[], Any]) -> Any:
    """The table `name`, from its file if inputs, settings and code are unchanged, else made now."""
    target = folder / "tables" / f"{name}.json"
    job = Job(__file__, settings, reads=inputs, writes=[target])
    if fresh or not job.is_current():
        began = time.process_time()
        value = make()
        write_json(target, {"value": value, "cpu_seconds": time.process_time() - began})
        job.done()
    return read_json(target, "06_eval/evaluate.py --fresh")


# The tables of results.json, in the order in which they need each other: each is made from the
# exam and from the tables above it.
TABLES: dict[str, Callable[[Exam, dict], Any]] = {
    "perplexity": lambda exam, done: perplexity_table(exam.models, exam.held_out, tqdm),
    "answers": lambda exam, done: answer_table(exam.models, exam.tokenizer, exam.questions,
                                               exam.seed, tqdm),
    "battles": lambda exam, done: hold_arena(done["answers"], exam.seed),
    "arena": lambda exam, done: board(done["battles"], exam.bootstrap, exam.seed),
    "judges": lambda exam, done: judge_table(exam.judges(), done["answers"], done["battles"],
                                             exam.baseline),
    "formats": lambda exam, done: format_study(
        exam.base, exam.tokenizer, exam.formats, exam.examples, exam.shots, seed=exam.seed,
        progress=tqdm),
    "written": lambda exam, done: [score_generated(
        exam.base, exam.tokenizer, exam.formats, style, exam.examples, max(exam.shots))
        for style in ("original", "helm", "letter_after")],
    "numbers": lambda exam, done: {name: score_numbers(model, exam.tokenizer, exam.numbers)
                                   for name, model in exam.networks.items() if exam.numbers},
    "suite": lambda exam, done: run_suite(exam.networks, exam.tokenizer, exam.scenarios,
                                          seed=exam.seed, progress=tqdm)}


def measure(exam: Exam, keep: Callable[[str, Callable[[], Any]], dict]) -> dict:
    """All tables of results.json, each with the CPU seconds it took, and what follows from them.

    `keep(name, make)` gives {"value", "cpu_seconds"}: from a file, or by calling make.
    """
    done, seconds = {}, {}
    for name, make in TABLES.items():
        found = keep(name, lambda: make(exam, done))
        done[name], seconds[name] = found["value"], found["cpu_seconds"]
    wins = {measured: mean_win_rate(done["suite"], measured, lower_is_better=measured == "ece")
            for measured in ("accuracy", "ece", "robustness")}
    return done | {"models": {name: one.stage for name, one in exam.models.items()},
                   "references": exam.references, "cpu_seconds": seconds, "mean_win_rate": wins,
                   "formats_spread": spread(done["formats"]), "formats_of": exam.formats_of}


def votes_of_people(args: argparse.Namespace) -> dict | None:
    """The leaderboard of the votes that `serve.py` collected; None before anybody voted."""
    human = read_votes(args.votes) if Path(args.votes).exists() else []
    return board(human, 100, args.seed) if human else None


def write_results(folder: Path, results: dict) -> None:
    """The tables for the report, and what was said and voted, a line each, for the reader."""
    lines = {"answers.jsonl": ({"model": name, **row} for name, rows in results["answers"].items()
                               for row in rows), "battles.jsonl": results["battles"]}
    for name, records in lines.items():
        with whole(folder / name) as file:
            file.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    write_json(folder / "leaderboard.json", {"simulated_voters": results["arena"],
                                             "people": results["human"]})
    write_json(folder / "results.json", {k: v for k, v in results.items() if k != "battles"})


def print_tables(results: dict) -> None:
    """The verdict in a few lines, for the terminal."""
    print(f"\n{'model':8}{'bits/byte':>11}{'perplexity':>12}{'gold':>7}{'arena':>18}")
    board_rows = results["arena"]["bradley_terry"]
    for name, report in results["perplexity"].items():
        rows, r = results["answers"][name], board_rows.get(name, {})
        rating = (f"{r['rating']:7.0f} [{r['low']:.0f}, {r['high']:.0f}]" if r else "-")
        gold = sum(a["gold"] for a in rows) / len(rows)
        print(f"{name:8}{report['bits_per_byte']:11.3f}{report['perplexity']:12.1f}{gold:7.2f}"
              f"{rating:>18}")
    print(f"(bits/byte and perplexity on {next(iter(results['perplexity'].values()))['tokens']:,} "
          "tokens, a part of the held-out documents; chapter 4's number is of them all)")
    for remark in results["arena"]["remarks"]:
        print(f"the arena's votes cannot say: {remark}")
    gap = results["formats_spread"]
    for row in results["written"]:
        print(f"asked to write its answer ({row['style']}): accuracy {row['accuracy']:.3f}, no "
              f"clear letter in {row['unclear']:.0%}")
    for name, row in results["numbers"].items():
        print(f"{name}: {row['accuracy']:.3f} of {row['n']} numbers right, none in "
              f"{row['unclear']:.0%}")
    print(f"one model asked in {len(results['formats'])} ways: accuracy "
          f"{gap['worst']['accuracy']:.3f} ({gap['worst']['style']}, {gap['worst']['scorer']}) "
          f"to {gap['best']['accuracy']:.3f} ({gap['best']['style']}, {gap['best']['scorer']})")


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    paths = named_paths(args.model) if args.model else default_paths()
    data = [Path(args.data) / name for name in ("index.json", "val.bin", "corpus.jsonl.gz")]
    inputs = [need(args.tokenizer, "01_tokenizer/train_tokenizer.py"),
              *(need(path, "02_data/build_corpus.py") for path in data),
              need(args.questions, "05_posttrain/instructions.py"), *paths.values(),
              *(Path(p) for p in (args.reward, args.votes, *args.scenario, *filter(None, (
                  args.mmlu, args.numbers))) if Path(p).exists())]
    folder = Path(args.out)
    job = Job(__file__, vars(args), reads=inputs, writes=[folder / name for name in (
        "results.json", "leaderboard.json", "answers.jsonl", "battles.jsonl")])
    if job.up_to_date():
        return
    settings = {name: value for name, value in vars(args).items() if name != "fresh"}
    results = measure(open_exam(args, paths), lambda name, make: kept(
        folder, name, inputs, settings, args.fresh, make))
    results |= {"human": votes_of_people(args), "quick": args.quick}
    write_results(folder, results)
    log = out("04_model_pretrain", "log.jsonl")
    record_all(results, read_lines(log, "04_model_pretrain/pretrain.py") if log.exists() else None)
    print_tables(results)
    print(f"{sum(results['cpu_seconds'].values()):.0f} CPU seconds; wrote "
          f"{shown(folder / 'results.json')} and {shown(folder / 'leaderboard.json')}; next: "
          "python 06_eval/report.py")
    job.done()


if __name__ == "__main__":
    command(main)
