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

from artifacts import (BadInput, CommandLine, Job, command, need, out, read_json, shown, whole,
                       within, write_json)
from bpe import Tokenizer
from contestants import default_paths, named_paths, open_contestants
from doc_mmlu import SCENARIOS, build_doc_mmlu
from eval_claims import record_all
from format_study import format_study, spread
from judge_models import AddressJudge, LikelihoodJudge, RewardJudge
from measurements import (answer_table, board, hold_arena, held_out_documents, judge_table,
                          perplexity_table, read_lines)
from mmlu import Question, load_mmlu
from reward_model import load_reward_model
from suite import load_choices, mean_win_rate, run_suite
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
    group.add_argument("--votes", default=out("06_eval", "votes.jsonl"), help="people's votes")
    group = parser.add_argument_group("how much")
    group.add_argument("--tokens", type=within(int, low=1), default=40_000, help="held-out tokens")
    group.add_argument("--asked", type=within(int, low=1), default=160,
                       help="questions each model answers")
    group.add_argument("--choices", type=within(int, low=1), default=200,
                       help="questions of the format study")
    group.add_argument("--shots", type=int, nargs="+", default=[0, 2], metavar="K",
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
        args.tokens, args.asked, args.choices, args.scenario_questions = 3_000, 16, 16, 8
        args.shots = args.shots[:1]
    return args


def spread_over(subjects: dict[str, dict[str, list[Question]]], limit: int) -> list[Question]:
    """Up to `limit` test questions, taken in turn from every subject."""
    rows, taken = [subjects[name]["test"] for name in sorted(subjects)], []
    for place in range(max(map(len, rows))):
        taken += [row[place] for row in rows if place < len(row)]
    return taken[:limit]


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


def new_name(path: Path, taken: dict) -> str:
    """The file's name without ending, as a scenario's name; with its folders as far as needed to
    differ from the names taken: arc/test.jsonl and obqa/test.jsonl are two scenarios."""
    parts = path.resolve().with_suffix("").parts
    for length in range(1, len(parts) + 1):
        if (name := "/".join(parts[-length:])) not in taken:
            return name
    raise BadInput(f"{shown(path)} is given twice as --scenario")


def scenarios_of(args: argparse.Namespace, folder: Path) -> tuple[dict, dict]:
    """({scenario: questions of the suite}, {"questions", "shots", "of"} of the format study)."""
    if args.mmlu:
        archive = load_mmlu(args.mmlu)
        name = Path(args.mmlu).name
        suite = {name: spread_over(archive, args.scenario_questions)}
    else:
        build_doc_mmlu(Path(args.data) / "corpus.jsonl.gz", folder / "docmmlu",
                       80 if args.quick else 400, args.seed, tqdm)
        archives = {s: load_mmlu(folder / "docmmlu" / s) for s in SCENARIOS
                    if (folder / "docmmlu" / s).is_dir()}
        suite = {s: spread_over(a, args.scenario_questions) for s, a in archives.items()}
        name = next(iter(archives))
        archive = archives[name]
    for path in args.scenario:
        questions, skipped = load_choices(path)
        if not questions:
            raise BadInput(f"{shown(path)} holds no four-choice question ({skipped} of others)")
        suite[new_name(Path(path), suite)] = questions[:args.scenario_questions]
    shots = {subject: splits["dev"] for subject, splits in archive.items()}
    return suite, {"questions": spread_over(archive, args.choices), "shots": shots, "of": name}


def measure(args: argparse.Namespace, paths: dict[str, Path], inputs: list[Path]) -> dict:
    """All tables of results.json, each with the CPU seconds it took."""
    folder, settings = Path(args.out), {k: v for k, v in vars(args).items() if k != "fresh"}
    tokenizer = Tokenizer.load(args.tokenizer)
    models = open_contestants(paths, args.tokenizer)
    plain = {name: contestant.model for name, contestant in models.items()}
    records = read_lines(args.questions, "05_posttrain/instructions.py")
    asked = [r["messages"] for r in records if r.get("kind", "does") == "does"][:args.asked]
    questions = [messages[0]["content"] for messages in asked]
    if not questions:
        raise BadInput(f"{shown(args.questions)} has no questions: run python "
                       "05_posttrain/instructions.py")

    def table(name: str, make: Callable[[], Any]) -> Any:
        found = kept(folder, name, inputs, settings, args.fresh, make)
        results["cpu_seconds"][name] = found["cpu_seconds"]
        results[name] = found["value"]
        return found["value"]

    results: dict[str, Any] = {"models": {n: c.stage for n, c in models.items()},
                               "cpu_seconds": {}, "quick": args.quick}
    table("perplexity", lambda: perplexity_table(
        models, held_out_documents(args.data, tokenizer.vocab, args.tokens, args.seed), tqdm))
    answers = table("answers", lambda: answer_table(models, tokenizer, questions, args.seed, tqdm))
    results["references"] = [messages[1]["content"] for messages in asked]
    battles = hold_arena(answers, args.seed)
    table("arena", lambda: board(battles, 40 if args.quick else 200, args.seed))
    judges: dict[str, Callable] = {"likelihood": LikelihoodJudge(
        models.get("sft", next(iter(models.values()))).model, tokenizer)}
    if Path(args.reward).exists():
        judges["reward model"] = RewardJudge(load_reward_model(args.reward), tokenizer)
    if args.judge_address:
        judges[args.judge_address] = AddressJudge(args.judge_address, args.judge_model)
    baseline = "sft" if "sft" in models else next(iter(models))
    table("judges", lambda: judge_table(judges, answers, battles, baseline))
    suite, study = scenarios_of(args, folder)
    subject = plain.get("base", next(iter(plain.values())))
    rows = table("formats", lambda: format_study(
        subject, tokenizer, study["questions"], study["shots"], args.shots, seed=args.seed,
        progress=tqdm))
    results["formats_spread"], results["formats_of"] = spread(rows), study["of"]
    grid = table("suite", lambda: run_suite(plain, tokenizer, suite, seed=args.seed,
                                            progress=tqdm))
    results["mean_win_rate"] = {m: mean_win_rate(grid, m, lower_is_better=m == "ece")
                                for m in ("accuracy", "ece", "robustness")}
    human = read_votes(args.votes) if Path(args.votes).exists() else []
    results["human"] = board(human, 100, args.seed) if human else None
    with whole(folder / "answers.jsonl") as file:
        for name, rows in answers.items():
            file.writelines(json.dumps({"model": name, **row}, ensure_ascii=False) + "\n"
                            for row in rows)
    with whole(folder / "battles.jsonl") as file:
        file.writelines(json.dumps(battle, ensure_ascii=False) + "\n" for battle in battles)
    return results


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
    for remark in results["arena"]["remarks"]:
        print(f"the arena's votes cannot say: {remark}")
    gap = results["formats_spread"]
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
              *(Path(p) for p in (args.reward, args.votes, *args.scenario,
                                  *([args.mmlu] if args.mmlu else [])) if Path(p).exists())]
    target = Path(args.out) / "results.json"
    job = Job(__file__, vars(args), reads=inputs, writes=[
        Path(args.out) / name for name in ("results.json", "leaderboard.json", "answers.jsonl",
                                          "battles.jsonl")])
    if job.up_to_date():
        return
    results = measure(args, paths, inputs)
    write_json(Path(args.out) / "leaderboard.json",
               {"simulated_voters": results["arena"], "people": results["human"]})
    write_json(target, results)
    log = out("04_model_pretrain", "log.jsonl")
    record_all(results, read_lines(log, "04_model_pretrain/pretrain.py") if log.exists() else None)
    print_tables(results)
    print(f"{sum(results['cpu_seconds'].values()):.0f} CPU seconds; wrote {shown(target)} and "
          f"{shown(Path(args.out) / 'leaderboard.json')}; next: python 06_eval/report.py")
    job.done()


if __name__ == "__main__":
    command(main)
