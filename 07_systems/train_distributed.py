"""Train chapter 4's model on many processes: the plan of chapter 3, by the method you choose.

    torchrun --nproc-per-node 2 07_systems/train_distributed.py --parallel zero2
    torchrun --nproc-per-node 8 07_systems/train_distributed.py --parallel fsdp2 --device cuda

For real runs take `torch-ddp`, or `fsdp2` where the model does not fit: they are PyTorch's own.
The others are this chapter's, to be read; all train the same model to the same loss. Reads
out/03_scaling/plan.json and out/02_data; writes checkpoints, log.jsonl and base.pt to
out/07_systems/distributed/<method>. Killed, even by SIGKILL, the same command goes on and writes
the same bytes; SIGTERM saves first. World size and method may change between two sittings. But:
AdamW everywhere, at the plan's learning rate for it: Muon's whole matrices cannot be cut.
"""

import argparse
import json
import math
import shutil
import signal
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from tqdm import tqdm

from artifacts import BadInput, CommandLine, command, out, shown, within
from batches import PackedBatches, Shard
from checkpoint import save_checkpoint
from flash_attention import use_flash_attention
from gpt import GPT
from parallelise import METHODS, Method, parallelise
from plan_file import Plan, make_plan
from ranks import Ranks, join, leave_group
from run_files import Journal, differences
from sharded_checkpoint import load, save
from training_loop import rate_at


def arguments() -> argparse.Namespace:
    """The command line; unset values of the plan stay the plan's."""
    parser = CommandLine(__doc__)
    parser.add_argument("--parallel", choices=METHODS, default="torch-ddp", help="the method")
    files = parser.add_argument_group("files")
    files.add_argument("--plan", default=out("03_scaling", "plan.json"))
    files.add_argument("--data", default=out("02_data"), help="folder of the token shards")
    files.add_argument("--out", type=Path, help="default out/07_systems/distributed/<method>")
    plan = parser.add_argument_group("in place of the plan's values")
    plan.add_argument("--tokens", type=within(int, low=1),
                      help="to train on; makes a plan needless")
    for name in ("layers", "width", "heads", "sequence-length", "rows", "seed"):
        plan.add_argument(f"--{name}", type=int)
    plan.add_argument("--precision", choices=["fp32", "bf16"])
    run = parser.add_argument_group("the run")
    run.add_argument("--learning-rate-adamw", type=within(above=0), default=3e-3, help="peak rate")
    run.add_argument("--micros", type=within(int, low=1), default=4,
                     help="micro-batches of the pipeline")
    run.add_argument("--attention", choices=["torch", "flash"], default="torch",
                     help="kernel of the attention")
    run.add_argument("--device", default="cpu", help="cpu or cuda")
    run.add_argument("--checkpoint-every", type=within(int, low=1), default=50, help="steps")
    run.add_argument("--timeout", type=within(int, low=1), default=60,
                     help="seconds until a silent rank is dead")
    run.add_argument("--fresh", action="store_true", help="delete what an earlier run has left")
    return parser.parse_args()


def build(args: argparse.Namespace, plan: Plan, ranks: Ranks) -> Method:
    """The model of the plan, taken apart; every rank starts from the same seed."""
    torch.manual_seed(plan.seed)
    model = GPT(plan.model).to(ranks.device)
    if args.attention == "flash":
        use_flash_attention(model)
    try:
        return parallelise(args.parallel, model, args.learning_rate_adamw, args.micros,
                           plan.precision)
    except ValueError as why:
        raise BadInput(f"--parallel {args.parallel} on {ranks.world} ranks: {why}") from why


def settings_of(args: argparse.Namespace, plan: Plan, shard: Shard) -> dict:
    """What a run computes, as plain values. How many ranks share it, and by which method, is none
    of it: any may go on with another's checkpoint."""
    named = {name: value for name, value in asdict(plan).items()
             if name not in ("forecast", "speed", "threads", "compile")}
    return json.loads(json.dumps(named | {
        "learning_rate_adamw": args.learning_rate_adamw, "corpus_sha256": shard.corpus_sha256,
        "tokenizer_sha256": shard.tokenizer_sha256}))


def train(args: argparse.Namespace, plan: Plan, ranks: Ranks, method: Method,
          batches: PackedBatches) -> bool:
    """From the newest checkpoint to the plan's last step; False if stopped by SIGTERM before."""
    start, state, notes = load(args.out, method.state())
    mine = settings_of(args, plan, batches.shard)
    said = differences(notes.get("settings", mine), mine | {"steps": max(plan.steps, start)})
    if said and not said.startswith("steps ") or plan.steps < start:
        raise BadInput(f"{shown(args.out)} stopped at step {start} of a run with other settings "
                       f"({said or f'{start} steps or more, now {plan.steps}'}): give those, "
                       "another --out, or --fresh, which deletes it")
    if said and ranks.first:
        print(f"{shown(args.out)} goes on at step {start} as a run of other length ({said})")
    if state:
        method.load(state, start)
    log = Journal(args.out / "log.jsonl", notes.get("log_bytes", 0)) if ranks.first else None
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    bar = tqdm(range(start, plan.steps), initial=start, total=plan.steps, unit="step",
               desc=args.parallel, disable=not ranks.first)
    for step in bar:
        ids, targets = (t.to(ranks.device) for t in batches(step))
        loss = method.backward(ids, targets)
        norm = method.clip(plan.recipe.clip or math.inf)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise BadInput(f"step {step + 1}: loss {loss}, gradient norm {norm}; the weights are "
                           "those of the last checkpoint: lower --learning-rate-adamw")
        rate = args.learning_rate_adamw * rate_at(step, plan.steps, plan.recipe)
        for group in method.optimizer.param_groups:
            group["lr"] = rate
        method.optimizer.step()
        method.optimizer.zero_grad()
        if log:
            log.write({"step": step + 1, "loss": loss, "lr": rate, "grad_norm": norm})
            bar.set_postfix(loss=f"{loss:.3f}")
        # A signal reaches one rank earlier than another: all must agree on the last step.
        stopped = ranks.any(bool(stop))
        if stopped or (step + 1) % args.checkpoint_every == 0 or step + 1 == plan.steps:
            save(args.out, step + 1, method.state(), {"log_bytes": log.length() if log else 0,
                                                      "method": args.parallel, "settings": mine})
        if stopped:
            return step + 1 == plan.steps
    return True


def finish(args: argparse.Namespace, plan: Plan, ranks: Ranks, method: Method, digest: str) -> None:
    """Write base.pt, which every later chapter can use, from whichever parts the ranks hold."""
    _, state, _ = load(args.out, whole_state(plan))
    if ranks.first:
        model = GPT(plan.model)
        model.load_state_dict(state["model"], strict=not plan.model.tied)
        save_checkpoint(args.out / "base.pt", model=model, tokenizer_sha256=digest,
                        step=plan.steps)
        print(f"{plan.steps} steps by {args.parallel} on {ranks.world} ranks -> "
              f"{shown(args.out / 'base.pt')}")


def whole_state(plan: Plan) -> dict:
    """Room for the whole weights: what a checkpoint of any method is read into."""
    return {"model": {name: p.detach() for name, p in GPT(plan.model).named_parameters()}}


def main() -> None:
    """One rank of the run; torchrun starts as many as asked for."""
    args = arguments()
    args.out = args.out or out("07_systems", "distributed", args.parallel)
    if args.device == "cpu":
        torch.set_num_threads(1)        # as many processes as cores already
    shard = Shard(args.data, "train")
    plan = make_plan(args, shard.vocab_size, {"tokenizer_sha256": shard.tokenizer_sha256,
                                              "corpus_sha256": shard.corpus_sha256})
    run(args, plan, join_any(args), shard)


def join_any(args: argparse.Namespace) -> Ranks:
    """Join the other ranks; started without torchrun, be a group of one."""
    ranks = join(args.device, args.timeout)
    if ranks.world == 1:
        store = dist.HashStore()
        dist.init_process_group("nccl" if args.device == "cuda" else "gloo", store=store, rank=0,
                                world_size=1)
    return ranks


def run(args: argparse.Namespace, plan: Plan, ranks: Ranks, shard: Shard) -> bool:
    """The whole run of one rank that has joined; True when the plan is done."""
    if ranks.first and args.fresh:
        shutil.rmtree(args.out, ignore_errors=True)
    dist.barrier()
    method = build(args, plan, ranks)
    parts = dict(rank=ranks.rank, ranks=ranks.world) if method.splits_batch else {}
    batches = PackedBatches(shard, plan.model.sequence_length, plan.rows, plan.seed, **parts)
    try:
        done = train(args, plan, ranks, method, batches)
        if done:
            finish(args, plan, ranks, method, shard.tokenizer_sha256)
        elif ranks.first:
            print("stopped by SIGTERM and saved; the same command goes on")
        leave_group()
    except RuntimeError as why:             # what torch raises when another rank is gone
        raise BadInput(f"rank {ranks.rank}: another rank has failed ({str(why).splitlines()[0]}): "
                       "the same command goes on from the last checkpoint") from why
    return done


if __name__ == "__main__":
    command(main)
