"""DPO: the preference without the reward model, by plain supervised learning on pairs.

    python 05_posttrain/dpo.py            # a minute or two; --quick 12 s; --beta 0.1

The optimal policy of "maximise reward minus beta KL" determines its own reward, up to a constant
per prompt: beta (log pi(y|x) - log pi_ref(y|x)). Put that reward into Bradley-Terry, and the
reward model is gone. Rafailov et al. 2023 (arXiv 2305.18290). With label smoothing it is cDPO,
with a squared loss IPO (Azar et al., 2310.12036), per token the length-normalised kind.

Only differences are in that loss: it is as content when the chosen answer becomes less likely, if
the rejected one falls further, and what is right falls with it. So the chosen answers are imitated
as well (--nll-weight; RPO, Pang et al. 2024, 2404.19733).

Reads sft.pt and preferences.jsonl; writes dpo.pt, dpo_log.jsonl and dpo_result.json.
"""

import argparse
import math
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from artifacts import CommandLine, BadInput, Job, command, shown, within, write_json
from chat_template import PAD, special_id
from optimizers import linear_schedule
from option_ranges import parsed
from preference_files import read_pairs
from responses import by_question, collate, distinct_rows, sequence_logprobs, steps_for
from reward_model import pair_rows
from sound_step import last_good_kept, save_stage, take_step
from training_stage import (Progress, add_common, add_lora_option, batch_indices, beside,
                            open_model, open_tokenizer, optimizer_for, rate_for, result, set_rate,
                            with_lora, write_jsonl)

KINDS = ("sigmoid", "ipo", "robust", "hinge")


def dpo_loss(policy_chosen: Tensor, policy_rejected: Tensor, reference_chosen: Tensor,
             reference_rejected: Tensor, beta: float, kind: str = "sigmoid",
             label_smoothing: float = 0.0) -> Tensor:
    """Summed log-probabilities of B pairs, each (B,) -> the loss of every pair, (B,).

    With h = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected):

        sigmoid   -log s(beta h); with label smoothing e (cDPO):
                  -(1 - e) log s(beta h) - e log s(-beta h)
        robust    (-(1 - e) log s(beta h) + e log s(-beta h)) / (1 - 2 e)    Chowdhury et al. 2024
        ipo       (h - 1 / (2 beta))^2
        hinge     max(0, 1 - beta h)

    s is the logistic function. The arguments are SUMS over the tokens of an answer. For the
    length-normalised kind divide each by its answer's number of tokens first (beta then grows by
    about that factor). When policy and reference are the same model, the sigmoid loss is ln 2.
    beta 0.1, policy (-10, -12), reference (-11, -11.5) -> sigmoid 0.620957, ipo 12.25, hinge 0.85.
    Raises ValueError for another kind, for a beta that is not finite and above 0, and for every
    kind for a smoothing that is not 0 to 0.5, a nan too (beyond, labels would be wrong more often
    than right); robust divides by zero at 0.5, and refuses that too. Finite for any finite input.
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"beta is {beta}: it must be a number above 0")
    if not 0 <= label_smoothing <= 0.5 or kind == "robust" and label_smoothing == 0.5:
        raise ValueError(f"label smoothing is {label_smoothing}: it must be 0 to 0.5"
                         + (" and below 0.5 for robust" if kind == "robust" else ""))
    # How much more the policy prefers the chosen answer than the reference does.
    h = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    # log s(x), never log of a rounded 0.
    right, wrong = F.logsigmoid(beta * h), F.logsigmoid(-beta * h)
    e = label_smoothing
    if kind == "sigmoid":
        return -(1 - e) * right - e * wrong
    if kind == "robust":
        return (-(1 - e) * right + e * wrong) / (1 - 2 * e)
    # A margin of exactly 1 / (2 beta) is enough: no reward for pushing on for ever.
    if kind == "ipo":
        return (h - 1 / (2 * beta)) ** 2
    if kind == "hinge":
        return torch.relu(1 - beta * h)
    raise ValueError(f"kind {kind!r} is not one of {KINDS}")


def implicit_rewards(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The reward that the policy behaves as if it had: beta (log pi - log pi_ref), (B,).

    `implicit_rewards(-10, -11, 0.1)` is 0.1. A constant for reporting; no gradient.
    """
    return beta * (policy - reference).detach()


def average_if(sums: Tensor, counts: Tensor, length_normalised: bool) -> Tensor:
    """Summed log-probabilities (B,), divided by their answers' token counts if asked for; an empty
    answer has the sum 0, and keeps it."""
    return sums / counts.clamp(min=1) if length_normalised else sums


def pair_logprobs(model, pairs: list[tuple], pad: int, length_normalised: bool) -> Tensor:
    """(2, B): log-probabilities of the chosen and of the rejected answers of pairs of rows."""
    rows, places = distinct_rows(pairs)
    ids, mask = collate(rows, pad)
    sums = sequence_logprobs(model, ids, mask)
    return average_if(sums, mask[:, 1:].sum(1), length_normalised)[places]


@torch.no_grad()
def reference_logprobs(model, pairs: list[tuple], pad: int, length_normalised: bool) -> Tensor:
    """(2, P): what the frozen reference says of every pair, computed once."""
    return torch.cat([pair_logprobs(model, pairs[i:i + 64], pad, length_normalised)
                      for i in range(0, len(pairs), 64)], dim=1)


def train_dpo(policy, pairs: list[tuple], pad: int, *, steps: int, batch: int, beta: float,
              learning_rate: float, seed: int, kind: str = "sigmoid", label_smoothing: float = 0.0,
              length_normalised: bool = False, nll_weight: float = 0.0,
              progress: Progress | None = None) -> list[dict]:
    """Train `policy` in place on pairs of rows, `batch` questions with all their pairs a step;
    returns a record per step.

    The reference is the policy as it comes in. The log shows the margin growing while the chosen
    answers themselves often become LESS likely: only the difference is in the loss, unless
    `nll_weight` times the nats per token of the chosen answers are added to it.
    """
    groups = by_question(pairs)
    pairs = [pair for group in groups for pair in group]
    first = [0, *accumulate(map(len, groups))]          # where each question's pairs begin
    reference = reference_logprobs(policy, pairs, pad, length_normalised)
    optimizer = optimizer_for(policy.parameters(), learning_rate)
    start, log, _ = progress.resume(policy, optimizer) if progress else (0, [], {})
    for step in tqdm(range(start, steps), desc="dpo", initial=start, total=steps):
        set_rate(optimizer, learning_rate * linear_schedule(step, steps, max(1, steps // 10)))
        rows = [i for g in batch_indices(len(groups), batch, step, seed)
                for i in range(first[g], first[g + 1])]
        chosen, rejected = pair_logprobs(policy, [pairs[i] for i in rows], pad, length_normalised)
        before = reference[:, rows]
        loss = dpo_loss(chosen, rejected, *before, beta, kind, label_smoothing).mean()
        tokens = len(rows) if length_normalised else sum(sum(pairs[i][0][1]) for i in rows)
        nll = -chosen.sum() / max(1, tokens)    # nats per token of the chosen answers
        total = loss + nll_weight * nll
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        take_step(optimizer, policy.parameters(), total, step)
        won, lost = (implicit_rewards(chosen, before[0], beta),
                     implicit_rewards(rejected, before[1], beta))
        log.append({"step": step + 1, "loss": loss.item(), "nll": nll.item(),
                    "margin": float((won - lost).mean()),
                    "accuracy": float(torch.heaviside(won - lost, won.new_tensor(0.5)).mean()),
                    "chosen_log_ratio": float(won.mean() / beta),
                    "rejected_log_ratio": float(lost.mean() / beta)})
        if progress:
            progress.save(step + 1, policy, optimizer, log)
    return log


def parse() -> argparse.Namespace:
    """The command line, with --quick applied."""
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--sft", type=Path, default=result("sft.pt"))
    add("--preferences", type=Path, default=result("preferences.jsonl"))
    add("--out", type=Path, default=result("dpo.pt"))
    add("--beta", type=float, default=0.1, help="price of straying from the SFT model")
    add("--kind", choices=KINDS, default="sigmoid", help="the loss")
    add("--label-smoothing", type=float, default=0.0, help="share of labels taken to be wrong")
    add("--length-normalised", action="store_true", help="compare answers per token")
    add("--nll-weight", type=within(low=0), default=1.0,
        help="of the chosen answers' own likelihood; 0: the difference alone")
    add("--epochs", type=float, default=1.0)
    add("--batch", type=int, default=8, help="questions per step, all their pairs")
    add("--learning-rate", type=float, help="default: falls as 1 / width, 0.0005 at width 192")
    add_lora_option(parser)
    add_common(parser)
    args = parsed(parser, beta=(0, None, False))
    if args.label_smoothing and args.kind not in ("sigmoid", "robust"):
        parser.error(f"--label-smoothing means nothing to --kind {args.kind}: leave it out")
    if args.label_smoothing == 0.5 and args.kind == "robust":
        parser.error("--label-smoothing 0.5 must be below 0.5 for --kind robust")
    return args


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    inputs = [args.sft, args.preferences, args.tokenizer]
    job = Job(__file__, vars(args), reads=inputs, writes=[
        args.out, beside(args.out, "log.jsonl"), beside(args.out, "result.json")])
    if job.up_to_date():
        return
    policy, digest = open_model(args.sft, args.tokenizer, "05_posttrain/sft.py")
    tokenizer = open_tokenizer(args.tokenizer)
    pairs = [p for p in read_pairs(args.preferences, "05_posttrain/preferences.py")
             if p["split"] == "train" and p["chosen"] != p["rejected"]]
    pad = special_id(tokenizer, PAD)
    rows, too_long = pair_rows(tokenizer, pairs, policy.config.sequence_length)
    if not rows:
        raise BadInput(f"{shown(args.preferences)} holds no training pair that fits the context")
    if too_long:
        print(f"left out {too_long} pairs longer than the context")
    rate = args.learning_rate or rate_for("dpo", policy.config.width)
    with_lora(policy, args.lora)
    with last_good_kept(args.out, policy, "dpo", digest, rate):
        log = train_dpo(policy, rows, pad, steps=steps_for(rows, args.batch, args.epochs),
                        batch=args.batch, beta=args.beta, learning_rate=rate, seed=args.seed,
                        kind=args.kind, label_smoothing=args.label_smoothing,
                        length_normalised=args.length_normalised, nll_weight=args.nll_weight,
                        progress=Progress(args.out, vars(args), inputs, args.fresh))
    save_stage(args.out, policy, "dpo", digest, len(log))
    write_jsonl(beside(args.out, "log.jsonl"), log)
    write_json(beside(args.out, "result.json"), {
        "first": log[0], "last": log[-1], "pairs": len(rows), "beta": args.beta,
        "kind": args.kind, "nll_weight": args.nll_weight})
    for name in ("loss", "nll", "margin", "accuracy", "chosen_log_ratio", "rejected_log_ratio"):
        print(f"{name:20}{log[0][name]:10.4f} -> {log[-1][name]:.4f}")
    print(f"wrote {shown(args.out)}")
    job.done()
    Progress(args.out, vars(args), inputs).done()


if __name__ == "__main__":
    command(main)
