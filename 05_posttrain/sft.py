"""Supervised fine-tuning: show the model questions with good answers, and it imitates the form.

    python 05_posttrain/sft.py            # about 3 minutes; --quick 20 s

Reads base.pt, sft_train.jsonl and sft_val.jsonl; writes sft.pt, sft_log.jsonl, sft_result.json.
The loss counts the assistant's words and <|end|> only, and is normalised over the whole optimizer
step. Conversations are packed into full rows (`packing.py`). While it trains, held-out loss falls,
the share of answers that end rises from 0 to about 1, and raw documentation is predicted worse:
the perplexity of an aligned model measures something else than before.

`--lora 8 --learning-rate 0.01` trains 8 directions beside each frozen matrix instead (lora.py).

But: no dropout, no system prompt.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from artifacts import CommandLine, BadInput, Job, command, out, shown, write_json
from chat_template import PAD, render, special_id
from measure_policy import form, raw_bits_per_byte, raw_windows
from optimizers import linear_schedule
from option_ranges import parsed
from packing import Row, block_mask, packed_batch
from responses import (answer_logits, collate, in_order_of_length, only_real, response_logprobs,
                       token_logprobs)
from rollouts import sample_answers
from sound_step import last_good_kept, save_stage, take_step
from training_stage import (RATES, Progress, add_common, add_lora_option, batch_indices, beside,
                            in_precision, open_model, open_tokenizer, optimizer_for, planned,
                            planned_precision, read_conversations, result, set_rate, with_lora,
                            write_jsonl)


def sft_loss(logits: Tensor, ids: Tensor, mask: Tensor, total: float) -> Tensor:
    """Minus the log-probability of the trained tokens, summed, divided by `total`: a scalar.

    logits (B, T, V), ids and mask (B, T) as rendered: mask[t] says whether ids[t] is trained.
    The logits at t predict ids[t + 1], so the mask moves with the targets. total is the number of
    trained tokens in the whole optimizer step, in all its micro-batches: then 8 small batches
    give the same gradient as one large one, however ragged the answers are. A step without any
    (total 0) has the loss 0 and gradients of 0, not nan.
    One answer with losses 1, 2, 3 and one with loss 10, total 4 -> 4.0 (not 6.0, the mean of
    the two means).

    The clear rung: it wants the logits of every token. `train_step` computes the same number from
    the logits of the trained tokens alone (`answer_logits`), which are a fifth of all.
    """
    # Shift: position t is about token t + 1, and so is its mask.
    losses = -only_real(token_logprobs(logits, ids), mask[:, 1:])
    # By the tokens of the whole step, not of this batch: a mean of means weighs short answers more.
    return losses.sum() / (total or 1.0)


def render_rows(tokenizer, records: list[dict], longest: int) -> tuple[list[Row], int]:
    """(rows of (ids, mask), how many records were too long for the context and left out)."""
    rows = [render(tokenizer, record["messages"]) for record in records]
    fitting = [row for row in rows if len(row[0]) <= longest]
    return fitting, len(rows) - len(fitting)


def train_step(model, optimizer, rows: list[Row], pad: int, micro_rows: int = 8,
               precision: str = "fp32", step: int = 0) -> float:
    """One optimizer step on `rows`, packed; returns the mean loss in nats per trained token.

    Rows without a single trained token have the loss 0 and leave the weights as they are. NonFinite
    before an update whose loss or gradient is no number.
    """
    ids, mask, positions, numbers = packed_batch(rows, model.config.sequence_length, pad)
    # `packed_batch` gives the first token of a conversation, which is never a target, the mask 0.
    total = float(mask.sum())
    if not total:
        return 0.0
    optimizer.zero_grad(set_to_none=True)
    loss_sum = 0.0
    for part in torch.arange(len(ids)).split(micro_rows):
        said, trained = ids[part], mask[part]
        with in_precision(precision):
            hidden = model.hidden(said, positions=positions[part], mask=block_mask(numbers[part]))
            logits = answer_logits(model, said, trained, hidden)
        logprobs, _ = response_logprobs(model, said, trained, logits=logits.float())
        loss = -logprobs.sum() / total
        loss.backward()
        loss_sum += loss.item()
    take_step(optimizer, model.parameters(), loss_sum, step)
    return loss_sum


def rehearsal(rows: list[Row], pad: int, batch: int, seed: int) -> Callable[..., Tensor]:
    """`keep(model, step)`: nats per trained token of `batch` SFT rows, other ones in each step.

    Added to a policy's loss, it keeps what SFT taught while a reward pulls elsewhere: PPO-ptx of
    Ouyang et al. 2022 (equation 2), with SFT's rows in place of pretraining's.
    """
    def keep(model, step: int) -> Tensor:
        chosen = [rows[i] for i in batch_indices(len(rows), batch, step, seed)]
        logprobs, mask = response_logprobs(model, *collate(chosen, pad))
        return -logprobs.sum() / mask.sum().clamp(min=1)
    return keep


@torch.no_grad()
def held_out_loss(model, rows: list[Row], pad: int) -> float:
    """Mean nats per answer token over all rows; 0 if no row has an answer."""
    total = count = 0.0
    for indices in in_order_of_length(rows, 64):
        logprobs, answer = response_logprobs(model, *collate([rows[i] for i in indices], pad))
        total, count = total - float(logprobs.sum()), count + float(answer.sum())
    return total / max(1.0, count)


def fine_tune(model, rows: list[Row], pad: int, *, steps: int, batch: int, learning_rate: float,
              seed: int, progress: Progress | None = None, precision: str = "fp32") -> list[dict]:
    """Train `model` in place on rows for `steps` steps; returns the log, a dict per step.

    Resumes from `progress` if it holds this run.
    """
    optimizer = optimizer_for(model.parameters(), learning_rate)
    start, log, _ = progress.resume(model, optimizer) if progress else (0, [], {})
    warmup, began = max(1, steps // 20), time.monotonic()
    bar = tqdm(range(start, steps), desc="sft", unit="step", initial=start, total=steps)
    for step in bar:
        set_rate(optimizer, learning_rate * linear_schedule(step, steps, warmup=warmup))
        chosen = [rows[i] for i in batch_indices(len(rows), batch, step, seed)]
        loss = train_step(model, optimizer, chosen, pad, precision=precision, step=step)
        log.append({"step": step + 1, "loss": loss})
        tokens = (step + 1 - start) * batch * sum(len(r[0]) for r in chosen) / len(chosen)
        bar.set_postfix(loss=f"{loss:.2f}", tok_s=f"{tokens / (time.monotonic() - began):,.0f}")
        if progress:
            progress.save(step + 1, model, optimizer, log)
    return log


def examine(model, tokenizer, val: list[dict], val_rows: list[Row], windows: Tensor, pad: int,
            answers: int, seed: int) -> dict:
    """The numbers of one model: held-out loss, form of its answers, bits per byte of raw text."""
    asked = [r["messages"][0]["content"] for r in val if r["kind"] in ("open", "does")][:answers]
    sampled = sample_answers(model, tokenizer, asked, seed=seed)
    return {"val_loss": held_out_loss(model, val_rows, pad), **form(sampled),
            "raw_bits_per_byte": raw_bits_per_byte(model, tokenizer, windows)}


def parse() -> argparse.Namespace:
    """The command line, with --quick applied."""
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--base", type=Path, default=out("04_model_pretrain", "base.pt"))
    add("--train", type=Path, default=result("sft_train.jsonl"))
    add("--val", type=Path, default=result("sft_val.jsonl"))
    add("--data", type=Path, default=out("02_data"), help="folder with val.bin and index.json")
    add("--out", type=Path, default=result("sft.pt"))
    add("--examples", type=int, default=20_000,
        help="training examples, from the front of --train: later stages ask those at its back")
    add("--steps", type=int, default=None, help="default: one pass over the examples")
    add("--batch", type=int, default=32, help="conversations per step")
    add("--learning-rate", type=float, default=RATES["sft"])
    add("--precision", choices=("fp32", "bf16"), default=planned_precision(),
        help="default: what chapter 3 found faster here")
    add_lora_option(parser)
    add_common(parser, planned("threads", 1))
    args = parsed(parser)
    if args.quick:
        args.examples = min(args.examples, 1_600)
    if args.steps is None:
        args.steps = max(1, args.examples // args.batch)
    return args


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    inputs = [args.base, args.train, args.val, args.tokenizer]
    job = Job(__file__, vars(args), reads=inputs, writes=[
        args.out, beside(args.out, "log.jsonl"), beside(args.out, "result.json")])
    if job.up_to_date():
        return
    model, digest = open_model(args.base, args.tokenizer, "04_model_pretrain/pretrain.py")
    tokenizer = open_tokenizer(args.tokenizer)
    train = read_conversations(args.train, "05_posttrain/instructions.py")[:args.examples]
    val = read_conversations(args.val, "05_posttrain/instructions.py")[:100 if args.quick else None]
    pad = special_id(tokenizer, PAD)
    rows, too_long = render_rows(tokenizer, train, model.config.sequence_length)
    val_rows, _ = render_rows(tokenizer, val[:400], model.config.sequence_length)
    if not rows or not val_rows:
        raise BadInput(f"no example of {shown(args.train)} fits the context of "
                       f"{model.config.sequence_length} tokens")
    if too_long:
        print(f"left out {too_long} examples longer than the context")
    windows = raw_windows(args.data, windows=16 if args.quick else 96)
    answers = 32 if args.quick else 192
    before = examine(model, tokenizer, val, val_rows, windows, pad, answers, args.seed)
    with_lora(model, args.lora)
    with last_good_kept(args.out, model, "sft", digest, args.learning_rate):
        log = fine_tune(model, rows, pad, steps=args.steps, batch=args.batch,
                        learning_rate=args.learning_rate, seed=args.seed,
                        precision=args.precision,
                        progress=Progress(args.out, vars(args), inputs, args.fresh))
    after = examine(model, tokenizer, val, val_rows, windows, pad, answers, args.seed)
    save_stage(args.out, model, "sft", digest, args.steps)
    write_jsonl(beside(args.out, "log.jsonl"), log)
    write_json(beside(args.out, "result.json"), {
        "base": before, "sft": after, "examples": len(rows), "steps": args.steps,
        "too_long": too_long})
    for name in before:
        print(f"{name:20}{before[name]:10.3f} -> {after[name]:.3f}")
    for answer in sample_answers(model, tokenizer, ["What does numpy.argsort do?"] + [
            r["messages"][0]["content"] for r in val[:3]], seed=args.seed, temperature=0.7):
        print(f"  {answer.question}\n    {answer.text}")
    print(f"wrote {shown(args.out)}")
    job.done()
    Progress(args.out, vars(args), inputs).done()


if __name__ == "__main__":
    command(main)
