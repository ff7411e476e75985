"""Preferences: two answers to one question, and which of them is better.

    python 05_posttrain/preferences.py                    # half a minute; --quick 6 s
    python 05_posttrain/preferences.py --file pairs.jsonl # TRL's or HH-RLHF's (preference_files.py)
    python 05_posttrain/preferences.py --votes votes.jsonl  # people's votes from the arena page

Samples four answers to each question from the SFT model, and lets the annotator (a stated rule with
honest noise, `annotator.py`) name the better one of every two: six labels for four answers, as in
Ouyang et al. 2022. The ceiling that is printed is the best accuracy that any reward model can reach
on such labels. Reads sft.pt and sft_train.jsonl (questions from
its back, which fine-tuning did not see); writes preferences.jsonl, one {"prompt", "chosen",
"rejected", "chosen_ended", "rejected_ended", "ceiling", "split"} a line, and
preferences_result.json.
"""

import argparse
import random
from collections import Counter
from itertools import combinations
from pathlib import Path

import torch

from annotator import label_pairs
from artifacts import CommandLine, BadInput, Job, command, need, shown, write_json
from option_ranges import parsed
from preference_files import as_pair, split_pairs
from rollouts import Answer, sample_rounds
from side_by_side import side_by_side
from training_stage import (add_common, add_workers, beside, fresh_questions, open_model,
                            open_tokenizer, read_conversations, read_jsonl, result, write_jsonl)

PART = 125              # questions that one process answers in one go


def all_pairs(rounds: list[list[Answer]], seed: int,
              sharpness: float) -> tuple[list[dict], Counter]:
    """K answers per question, a list per round -> every two of them as `as_pairs` labels them,
    shuffled."""
    pairs, dropped = [], Counter()
    for number, (first, second) in enumerate(combinations(rounds, 2)):
        labelled, lost = as_pairs(first, second, 100 * seed + number, sharpness)
        pairs, dropped = pairs + labelled, dropped + lost
    random.Random(seed).shuffle(pairs)
    return pairs, dropped


def as_pairs(first: list[Answer], second: list[Answer], seed: int,
             sharpness: float) -> tuple[list[dict], Counter]:
    """Two answers per question -> (labelled pairs, how many were dropped and why).

    Equal answers and answers with equal points teach nothing about what is better: dropped.
    """
    labels = label_pairs([a.question for a in first], [a.text for a in first],
                         [a.text for a in second],
                         [(a.ended, b.ended) for a, b in zip(first, second)], seed, sharpness)
    pairs, dropped = [], Counter()
    for a, b, label in zip(first, second, labels):
        if label is None or not (a.text and b.text):
            reason = ("equal answers" if a.text == b.text else "empty answer"
                      if not (a.text and b.text) else "no difference seen")
            dropped[reason] += 1
            continue
        chosen, rejected = (a, b) if label["first_wins"] else (b, a)
        pairs.append({"prompt": a.question, "chosen": chosen.text, "rejected": rejected.text,
                      "chosen_ended": chosen.ended, "rejected_ended": rejected.ended,
                      "ceiling": round(label["ceiling"], 4)})
    return pairs, dropped


def from_file(records: list[dict]) -> tuple[list[dict], Counter]:
    """Pairs of somebody's file -> (pairs, how many were skipped and why)."""
    pairs, skipped = [], Counter()
    for record in records:
        try:
            pair = as_pair(record)
        except (ValueError, AttributeError, TypeError, IndexError):
            skipped["prompt, chosen or rejected is missing or no text"] += 1
            continue
        if pair["chosen"].strip() == pair["rejected"].strip():
            skipped["equal answers"] += 1
        else:
            pairs.append(pair)
    return pairs, skipped


def from_votes(records: list[dict]) -> tuple[list[dict], Counter]:
    """Votes of the blind arena, {"prompt", "answer_a", "answer_b", "winner"}, -> pairs.

    winner "a" or "b"; ties and "both_bad" prefer nothing, and are counted as skipped.
    """
    pairs, skipped = [], Counter()
    for vote in records:
        winner = str(vote.get("winner") if isinstance(vote, dict) else "").removeprefix("model_")
        if winner not in ("a", "b"):
            skipped["no winner"] += 1
            continue
        loser = "b" if winner == "a" else "a"
        pairs.append({"prompt": vote.get("prompt"), "chosen": vote.get(f"answer_{winner}"),
                      "rejected": vote.get(f"answer_{loser}")})
    pairs, more = from_file(pairs)
    return pairs, skipped + more


def parse() -> argparse.Namespace:
    """The command line, with --quick applied."""
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--sft", type=Path, default=result("sft.pt"))
    add("--train", type=Path, default=result("sft_train.jsonl"))
    add("--file", type=Path, help="take pairs from this file instead of sampling")
    add("--votes", type=Path, help="take the arena's votes instead of sampling")
    add("--out", type=Path, default=result("preferences.jsonl"))
    add("--questions", type=int, default=1500, help="questions to answer")
    add("--answers", type=int, default=4, help="answers to each; every two are a pair")
    add("--sharpness", type=float, default=1.5, help="how clearly the annotator sees")
    add("--temperature", type=float, default=1.0, help="of the sampled answers")
    add_common(parser)
    add_workers(parser)
    args = parsed(parser)
    if args.quick:
        args.questions, args.answers, args.workers = min(args.questions, 120), 3, 1
    return args


def one_part(sft: Path, tokenizer_path: Path, questions: list[str], answers: int,
             temperature: float, seed: int) -> list[list[Answer]]:
    """`answers` rounds of the SFT model's answers to these questions: what one process does."""
    model, _ = open_model(sft, tokenizer_path, "05_posttrain/sft.py")
    return sample_rounds(model, open_tokenizer(tokenizer_path), questions, answers,
                         temperature=temperature, seed=seed)


def sample_pairs(args: argparse.Namespace) -> tuple[list[dict], Counter]:
    """Answers of the SFT model to fresh questions, every two labelled by the annotator."""
    need(args.sft, "05_posttrain/sft.py")
    train = read_conversations(args.train, "05_posttrain/instructions.py")
    questions = fresh_questions(train, args.questions)
    # Parts of one size, however many processes work on them: the answers are the same for any.
    parts = side_by_side(one_part, [
        (args.sft, args.tokenizer, questions[start:start + PART], args.answers, args.temperature,
         args.seed * 100_000 + start) for start in range(0, len(questions), PART)],
        args.workers, "sampling")
    rounds = [[answer for part in parts for answer in part[k]] for k in range(args.answers)]
    return all_pairs(rounds, args.seed, args.sharpness)


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    given = args.file or args.votes
    inputs = [given] if given else [args.sft, args.train, args.tokenizer]
    job = Job(__file__, vars(args), reads=inputs, writes=[
        args.out, beside(args.out, "result.json")])
    if job.up_to_date():
        return
    if args.file:
        pairs, dropped = from_file(read_jsonl(args.file, "with another --file"))
    elif args.votes:
        pairs, dropped = from_votes(read_jsonl(args.votes, "06_eval/serve.py and vote"))
    else:
        pairs, dropped = sample_pairs(args)
    if len(pairs) < 10:
        raise BadInput(f"only {len(pairs)} usable pairs (dropped: {dict(dropped)}): give more")
    pairs = split_pairs(pairs)
    write_jsonl(args.out, pairs)
    val = [pair["ceiling"] for pair in pairs if pair["split"] == "val" and "ceiling" in pair]
    ceiling = sum(val) / len(val) if val else None
    write_json(beside(args.out, "result.json"),
               {"pairs": len(pairs), "dropped": dropped, "ceiling": ceiling})
    print(f"{len(pairs):,} pairs; dropped: " + (", ".join(
        f"{count:,} {reason}" for reason, count in dropped.items()) or "none"))
    if ceiling:
        print(f"the best possible accuracy on these noisy labels (the ceiling): {ceiling:.3f}")
    for pair in pairs[:2]:
        print(f"  {pair['prompt']}\n    + {pair['chosen']}\n    - {pair['rejected']}")
    print(f"wrote {shown(args.out)}")
    job.done()


if __name__ == "__main__":
    command(main)
