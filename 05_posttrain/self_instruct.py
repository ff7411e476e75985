"""Instructions made by a model: a small self-instruct loop on our own.

    python 05_posttrain/self_instruct.py           # about 1 minute; --quick about 6 seconds

Alpaca's 52,000 examples were written by another language model from 175 seed tasks (Wang et al.
2022, arXiv 2212.10560; Taori et al. 2023). Here the base model learns from a few hundred seed
pairs to write a whole conversation, question and answer; what it writes is filtered by stated
rules and kept. Reads base.pt and sft_train.jsonl; writes self_instruct.json in Alpaca's own file
format, and self_instruct_result.json with the reasons of what was thrown away.

But: our writer knows no more than the base model. What it teaches is form.
"""

import random
import re
from collections import Counter
from pathlib import Path

import torch
from tqdm import tqdm

from artifacts import CommandLine, Job, command, out, shown, write_json
from batch_generation import generate_batch
from chat_template import ASSISTANT, END, PAD, USER, render, special_id
from measure_policy import is_answer
from sft import fine_tune
from option_ranges import parsed
from training_stage import (RATES, add_common, open_model, open_tokenizer, planned_precision,
                            read_conversations, result)


def common_subsequence(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence of two word lists: [a b c], [a c] -> 2."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = row
        row = [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(row[j], before[j + 1]))
    return row[-1]


def rouge_l(a: str, b: str) -> float:
    """ROUGE-L F1 of two texts over lower-case words and name parts, 0 to 1; equal texts give 1.

    "What does a.b do?" and "What does a.c do?" share what, does, a, do of five words: 0.8.
    """
    words_a, words_b = (re.findall(r"[a-z0-9]+", t.lower()) for t in (a, b))
    if not words_a or not words_b:
        return 0.0
    return 2 * common_subsequence(words_a, words_b) / (len(words_a) + len(words_b))


def reject(question: str, answer: str, ended: bool, known: list[str], similar: float) -> str:
    """Why a written pair is thrown away, or "" if it is kept."""
    if not re.match(r"(What|Which|Is|List) .*[?.]$", question) or "\n" in question:
        return "no question"
    if not is_answer(answer, ended):
        return "answer has not the form of one"
    if not 3 <= len(question.split()) <= 20:
        return "question too short or too long"
    if any(rouge_l(question, other) > similar for other in known):
        return "too similar to one we have"
    return ""


def write_conversations(model, tokenizer, count: int, seed: int,
                        temperature: float = 1.0) -> list[tuple[str, str, bool]]:
    """`count` conversations (question, answer, ended) that the model writes from <|user|> on."""
    user, assistant, end = (special_id(tokenizer, t) for t in (USER, ASSISTANT, END))
    generator = torch.Generator().manual_seed(seed)
    rows = generate_batch(model, [[user]] * count, 80, temperature, stop=(end,),
                          generator=generator)
    written = []
    for row in rows:
        ended = bool(row) and row[-1] == end
        body = row[:-1] if ended else row
        cut = body.index(assistant) if assistant in body else len(body)
        written.append((tokenizer.decode(body[:cut]).strip(),
                        tokenizer.decode(body[cut + 1:]).strip(), ended))
    return written


def self_instruct(writer, tokenizer, seeds: list[str], wanted: int, seed: int, *,
                  most: int, similar: float = 0.85) -> tuple[list[dict], Counter]:
    """Write, filter, keep, until `wanted` are kept or `most` were written.

    `seeds` are the questions we had: a question too similar to one of them, or to one kept
    before, is thrown away. Returns Alpaca records and the count of every reason.
    """
    known, kept, reasons = list(seeds), [], Counter()
    for number in tqdm(range(0, most, 128), desc="self-instruct", unit="round"):
        for question, answer, ended in write_conversations(writer, tokenizer, 128,
                                                           seed * 100_003 + number):
            # Comparing with all that is kept is the slow part: names first, they differ most.
            why = reject(question, answer, ended, known[-400:], similar)
            reasons[why or "kept"] += 1
            if not why:
                known.append(question)
                kept.append({"instruction": question, "input": "", "output": answer})
        if len(kept) >= wanted:
            break
    return kept[:wanted], reasons


def teach_to_write(model, tokenizer, records: list[dict], steps: int, seed: int) -> None:
    """Train `model` in place to write whole conversations: every token but the first is trained."""
    rows = [render(tokenizer, r["messages"])[0] for r in records]
    rows = [(ids, [0] + [1] * (len(ids) - 1)) for ids in rows
            if len(ids) <= model.config.sequence_length]
    fine_tune(model, rows, special_id(tokenizer, PAD), steps=steps, batch=32,
              learning_rate=RATES["sft"], seed=seed, precision=planned_precision())


def main() -> None:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--base", type=Path, default=out("04_model_pretrain", "base.pt"))
    add("--train", type=Path, default=result("sft_train.jsonl"), help="seed pairs from its front")
    add("--out", type=Path, default=result("self_instruct.json"))
    add("--seeds-count", type=int, default=500, help="seed pairs the writer learns from")
    add("--wanted", type=int, default=1000, help="pairs to keep")
    add("--steps", type=int, default=80, help="steps of teaching the writer")
    add_common(parser)
    args = parsed(parser)
    if args.quick:
        args.wanted, args.steps = min(args.wanted, 50), min(args.steps, 15)
    torch.set_num_threads(args.threads)
    inputs = [args.base, args.train, args.tokenizer]
    job = Job(__file__, vars(args), reads=inputs, writes=[
        args.out, args.out.with_name("self_instruct_result.json")])
    if job.up_to_date():
        return
    writer, _ = open_model(args.base, args.tokenizer, "04_model_pretrain/pretrain.py")
    tokenizer = open_tokenizer(args.tokenizer)
    seeds = read_conversations(args.train, "05_posttrain/instructions.py")[:args.seeds_count]
    teach_to_write(writer, tokenizer, seeds, args.steps, args.seed)
    asked = [r["messages"][0]["content"] for r in seeds]
    kept, reasons = self_instruct(writer, tokenizer, asked, args.wanted, args.seed,
                                  most=4 * args.wanted)
    write_json(args.out, kept)
    write_json(args.out.with_name("self_instruct_result.json"),
               {"kept": len(kept), "reasons": reasons, "seeds": len(seeds)})
    print("written: " + ", ".join(f"{n:,} {why}" for why, n in reasons.most_common()))
    for record in random.Random(args.seed).sample(kept, min(4, len(kept))):
        print(f"  {record['instruction']}\n    {record['output']}")
    print(f"wrote {shown(args.out)}")
    job.done()


if __name__ == "__main__":
    command(main)
