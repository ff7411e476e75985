"""What every stage of post-training shares: open the model, keep the place, note the numbers.

A killed run resumes exactly: the order of the data and every random draw depend on (seed, step)
alone, and the rest (weights, optimizer, log) is in one progress file beside the result.
"""

import argparse
import functools
import hashlib
import json
import random
import time
from pathlib import Path

import torch

from artifacts import BadInput, need, out, read_json, shown, whole
from bpe import Tokenizer
from checkpoint import check_tokenizer, load_checkpoint, load_model, save_checkpoint
from instruction_files import as_one_value, conversation, open_text, parse_json
from lora import EVERYWHERE, add_lora
from side_by_side import usable_cores

FOLDER = "05_posttrain"

# Peak learning rates of AdamW. Those after SFT look large because the weights are: Muon leaves
# matrices of size 0.3 and embeddings of size 1.3, where AdamW alone leaves 0.02, and a step of
# AdamW is as long as its rate. The reward model's is for its last layer and head alone (.72 of the
# better answers at 0.00375 and width 128, of .88 that the noise allows: MEASURED.md). SFT
# forgot more than it learned at 0.003 when most answers came from memory (held-out loss 4.30
# against 4.12 at 0.001); to copy from a page it has more to learn (MEASURED.md).
RATES = {"sft": 2e-3, "reward": 5e-3, "dpo": 1e-3, "ppo": 1e-3, "grpo": 1e-3,
         "reinforce": 1e-3, "rft": 1e-3}
SCALED = {"reward": 96, "dpo": 96, "grpo": 96}      # fall as 1 / width from this width on


def rate_for(stage: str, width: int) -> float:
    """The peak rate of a stage for a model of this width: `rate_for("dpo", 192)` is 0.0005.

    A step of AdamW moves every weight by about the rate, and an output, a sum over `width`
    weights, by rate times width: so the rate of a wider model falls as 1 / width (muP's table 8,
    chapter 3). Measured at width 192 on held-out pairs: DPO at 0.001 and at 0.0005 name .69 of the
    better answers alike (loss 0.590 and 0.589), after 13.6 and 7.2 nats of straying.
    """
    return RATES[stage] * min(1.0, SCALED.get(stage, width) / width)


def result(name: str) -> Path:
    """The path of one result of this chapter, `result("sft.pt")`."""
    return out(FOLDER, name)


def beside(path: Path, what: str) -> Path:
    """A file that tells about a result, beside it and under its name, so that two results have two:
    `beside("a/sft.pt", "log.jsonl")` is a/sft_log.jsonl."""
    return path.with_name(f"{path.stem}_{what}")


def add_common(parser: argparse.ArgumentParser, threads: int = 1) -> None:
    """The options of every training command: tokenizer, seed, threads, quick, fresh. `threads` is
    the default: 1 for what the walk runs side by side or in several processes."""
    group = parser.add_argument_group("every stage")
    group.add_argument("--tokenizer", type=Path, default=out("01_tokenizer", "tokenizer.json"))
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--threads", type=int, default=threads, help="torch threads")
    group.add_argument("--quick", action="store_true", help="a few seconds' worth of training")
    group.add_argument("--fresh", action="store_true", help="make again even if up to date")


def add_lora_option(parser: argparse.ArgumentParser) -> None:
    """The option of stages that can leave the model's own weights alone."""
    parser.add_argument("--lora", type=int, default=0, metavar="RANK",
                        help="train matrices of this rank beside the frozen ones, at ten times "
                        "the rate or so; 0: train everything")


def with_lora(model, rank: int):
    """`model` with LoRA of this rank beside every linear layer of its blocks; 0: as it is. Says how
    much is trained. `save_stage` merges it: what is saved is an ordinary model."""
    if rank:
        add_lora(model, rank, 2.0 * rank, EVERYWHERE)
        counts = [sum(p.numel() for p in model.parameters() if p.requires_grad or not trained)
                  for trained in (True, False)]
        print(f"LoRA of rank {rank}: {counts[0]:,} of {counts[1]:,} parameters are trained")
    return model


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The option of commands whose pieces do not need each other."""
    parser.add_argument("--workers", type=int, default=usable_cores(),
                        help="processes that work side by side; results are the same for any")


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of chapter 1; BadInput names the command that makes it."""
    return Tokenizer.load(need(path, "01_tokenizer/train_tokenizer.py"))


def open_model(path: Path, tokenizer_path: Path, made_by: str):
    """(model, tokenizer sha256) of a checkpoint, checked to belong to this tokenizer."""
    need(path, made_by)
    model, checkpoint = load_model(path)
    check_tokenizer(checkpoint, tokenizer_path, path)
    return model, hashlib.sha256(Path(tokenizer_path).read_bytes()).hexdigest()


def read_jsonl(path: Path, made_by: str) -> list[dict]:
    """The records of one of this chapter's files, or of somebody's: a JSON object a line, or one
    JSON value that holds them; gzip or not. BadInput names file and line of a damaged one."""
    number, way_out = 1, f"mend it, or delete it and run python {made_by}"
    try:
        text = open_text(need(path, made_by))
        if (records := as_one_value(text)) is not None:
            return records
        records = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                records.append(parse_json(line))
        return records
    except UnicodeDecodeError as error:     # replaced by signs for "unknown", it would be learned
        number = error.object[:error.start].count(b"\n") + 1
        raise BadInput(f"{shown(path)}, line {number} is damaged (not UTF-8): save it as UTF-8, or "
                       f"{way_out}") from None
    except ValueError as error:
        number = max(number, getattr(error, "lineno", 1))
        raise BadInput(f"{shown(path)}, line {number} is damaged ({getattr(error, 'msg', error)}): "
                       f"{way_out}") from None


def read_conversations(path: Path, made_by: str) -> list[dict]:
    """The records of a file of questions and answers, each with "messages" and "kind", whatever
    form they come in (instruction_files.py); BadInput names file and line of one that is none."""
    records = []
    for number, record in enumerate(read_jsonl(path, made_by), 1):
        try:
            messages = conversation(record)
            "".join(m["content"] for m in messages).encode()    # half an emoji is no text
            records.append({"kind": "does"} | record | {"messages": messages})
        except (ValueError, AttributeError, TypeError) as why:
            raise BadInput(f"{shown(path)}, record {number}: {why}; every line needs messages, or "
                           "prompt and completion, or instruction and output") from None
    return records


def write_jsonl(path: Path, records: list[dict]) -> None:
    """One record a line, whole or not at all."""
    with whole(path) as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def fresh_questions(train: list[dict], count: int, skip: int = 0,
                    kinds: tuple[str, ...] = ("open", "does")) -> list[str]:
    """`count` questions "What does X do?", with a page in front or without (`kinds`), from the back
    of the training file, the last `skip` of them left out. Fine-tuning takes its examples from the
    front. Questions of over 64 characters are passed over, the page not counted: one long row makes
    its whole batch as wide. What is made up is not asked. BadInput if there is no such question.
    """
    asked = [r["messages"][0]["content"] for r in reversed(train)
             if r["kind"] in kinds and r.get("package") != "made up"
             and len(r["messages"][0]["content"].rsplit("\n\n", 1)[-1]) <= 64]
    if not asked:
        raise BadInput(f"none of {len(train):,} conversations opens with a question of at most 64 "
                       "characters, and only such are asked: give a file with short questions")
    return asked[skip:skip + count]


def batch_indices(n: int, batch: int, step: int, seed: int) -> list[int]:
    """The `batch` indices below n that step `step` trains on: epoch after epoch, each shuffled
    by (seed, epoch), so that a resumed run sees what the unbroken one would have seen. BadInput
    for n = 0."""
    if n < 1:
        raise BadInput("nothing to train on is left: give a file with more examples")
    taken, position = [], step * batch
    while len(taken) < batch:
        epoch, place = divmod(position, n)
        part = shuffled(n, f"{seed} {epoch}")[place:place + batch - len(taken)]
        taken, position = taken + part, position + len(part)
    return taken


@functools.lru_cache(maxsize=2)     # a batch may take the end of one epoch and the next one's start
def shuffled(n: int, seed: str) -> list[int]:
    """The numbers below n in the order of this seed: made once an epoch, not once a step."""
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return order


def optimizer_for(parameters, learning_rate: float, eps: float = 1e-8) -> torch.optim.Optimizer:
    """AdamW as in chapter 4, in torch's fused form: the same arithmetic in fewer passes. Frozen
    parameters (beside LoRA's) are left out."""
    trained = [p for p in parameters if p.requires_grad]
    return torch.optim.AdamW(trained, lr=learning_rate, betas=(0.9, 0.95), eps=eps,
                             weight_decay=0.0, fused=True)


def planned(setting: str, otherwise):
    """What chapter 3 measured to be fastest here ("precision", "threads"), `otherwise` without a
    plan."""
    plan = out("03_scaling", "plan.json")
    found = read_json(plan, "03_scaling/plan.py").get(setting) if plan.exists() else None
    return found or otherwise


def planned_precision() -> str:
    """"bf16" if chapter 3 measured that this machine is faster in it, else "fp32"."""
    return planned("precision", "fp32")


def in_precision(precision: str) -> torch.autocast:
    """The forward pass in 16 bits where they pay; weights, loss and optimizer stay in 32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def difference(old: str, new: str) -> str:
    """In words, where two runs' [settings, input files] (as JSON) differ, the old value first."""
    (before, files), (now, more) = json.loads(old), json.loads(new)
    changed = [f"--{name.replace('_', '-')} {before.get(name)}" for name in before | now
               if before.get(name) != now.get(name)]
    changed += [f"another {shown(a[0])}" for a, b in zip(files, more) if a != b]
    return ", ".join(changed) or "other input files"


class Progress:
    """The place where a stage's training stands, kept in `<target>.progress` until it is done.

        progress = Progress(target, settings, inputs, fresh)
        step, log, extra = progress.resume(model, optimizer)
        ... progress.save(step, model, optimizer, log, extra) ...; progress.done()

    A progress file of other settings or other inputs is not resumed, and that is said. `extra` is
    a dict of plain values and tensors.
    """

    def __init__(self, target: Path, settings: dict, inputs: list[Path], fresh: bool = False,
                 every: float = 20.0):
        self.path = target.with_name(target.name + ".progress")
        stats = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in map(Path, inputs)]
        plain = {k: v for k, v in settings.items() if k not in ("fresh", "threads")}
        self.of = json.dumps([plain, stats], default=str)
        self.every, self.saved = every, time.monotonic()
        if fresh:
            self.done()

    def resume(self, model, optimizer) -> tuple[int, list[dict], dict]:
        """(next step, log so far, extra): from the file if it is of this very run, else (0, [],
        {}). Model and optimizer are restored in place."""
        if not self.path.exists():
            return 0, [], {}
        saved = load_checkpoint(self.path)
        if saved["extra"]["of"] != self.of:
            print(f"{shown(self.path)} (step {saved['step']}) is of a run with "
                  f"{difference(saved['extra']['of'], self.of)}: this run begins anew and will "
                  "replace it (Ctrl-C and the old settings go on with it)")
            return 0, [], {}
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        print(f"going on at step {saved['step']} ({shown(self.path)})")
        return saved["step"], json.loads(saved["extra"]["log"]), saved["extra"]["more"]

    def save(self, step: int, model, optimizer, log: list[dict], extra: dict | None = None,
             now: bool = False) -> None:
        """Note that `step` steps are done, if `every` seconds have passed since the last note."""
        if not now and time.monotonic() - self.saved < self.every:
            return
        save_checkpoint(self.path, model=model, stage="progress", step=step,
                        optimizer=optimizer.state_dict(),
                        extra={"of": self.of, "log": json.dumps(log), "more": extra or {}})
        self.saved = time.monotonic()

    def done(self) -> None:
        """The result is written: the progress is not needed any more."""
        self.path.unlink(missing_ok=True)
