"""GRPO: no value network. Several answers to one question are each other's baseline.

    python 05_posttrain/grpo.py           # about 2 minutes; --normaliser constant

Sample a group of G answers to every prompt; the advantage of each is its reward against the rest
of its group. Shao et al. 2024 (arXiv 2402.03300). What remains to choose is by what the token
losses are divided, and the four published choices are one small table here, `NORMALISERS`.

Reads sft.pt and prompts of sft_train.jsonl; writes grpo.pt, grpo_log.jsonl and grpo_result.json.
The reward is verifiable: a rule that any reader can check by eye (`verifiable_reward`).
"""

import argparse
import re

import torch
from torch import Tensor
from tqdm import tqdm

from artifacts import CommandLine, command
from chat_template import PAD, special_id
from optimizers import linear_schedule
from option_ranges import parsed
from policy_stage import add_files, open_stage, roll_out
from ppo import kl_estimates, probability_ratio
from responses import collate, only_real, response_logprobs
from sound_step import take_step
from training_stage import Progress, batch_indices, optimizer_for, rate_for, set_rate

NORMALISERS = ("answer", "token", "constant", "group")


def group_advantages(rewards: Tensor, group: int, divide_by_sd: bool = True,
                     eps: float = 1e-4) -> Tensor:
    """Rewards (B,), the answers of one prompt beside each other -> advantages (B,).

    B is a multiple of `group`. A = (R - mean of its group) / (sd of its group + eps), the sd
    unbiased (n - 1); or the difference alone. [1, 3, 5, 5] in groups of 2 ->
    [-0.7071, 0.7071, 0, 0]: a group of equal rewards teaches nothing, and gives exactly 0, also
    where their mean is rounded (eight times 0.1). Nearly equal ones keep their difference, and
    float64 rewards give float64 advantages.
    Raises ValueError if B is no multiple of `group`, or `group` is under 2.
    """
    if group < 2 or len(rewards) % group:
        raise ValueError(f"{len(rewards)} rewards do not split into groups of {group}")
    # One row per prompt; each answer is judged against the answers to the same prompt.
    groups = 1.0 * rewards.view(-1, group)
    centred = groups - groups.mean(1, keepdim=True)
    # A mean of equal numbers is rounded: what is left of them is no difference.
    equal = (groups == groups[:, :1]).all(1, keepdim=True)
    centred = centred.masked_fill(equal, 0.0)
    # The sd makes easy and hard prompts count alike (Dr. GRPO leaves it out for that reason).
    if divide_by_sd:
        centred = centred / (groups.std(1, keepdim=True) + eps)
    return centred.reshape(-1)


def aggregate(losses: Tensor, mask: Tensor, normaliser: str, longest: int,
              group: int = 1) -> Tensor:
    """Token losses (B, T) with mask (B, T) -> one scalar, in one of the four published ways.

        answer    mean over answers of the mean over each answer's tokens         GRPO
        token     mean over all tokens of the batch                               DAPO
        constant  sum over all tokens / (B longest)                               Dr. GRPO
        group     mean over groups of the mean over each group's tokens           between the two

    `longest` is the limit on new tokens, a constant. Losses [[1, 2, 3], [10, -, -]] give
    answer 6.0, token 4.0, constant (longest 4) 2.0, group (group 2) 4.0. An answer or group without
    a token counts 0, not nan. Raises ValueError for another normaliser.
    """
    losses = only_real(losses, mask)
    lengths = mask.sum(1)
    # A long answer counts as much as a short one: each of its tokens less.
    if normaliser == "answer":
        return (losses.sum(1) / lengths.clamp(min=1)).mean()
    # Every token counts alike.
    if normaliser == "token":
        return losses.sum() / lengths.sum().clamp(min=1)
    # Nothing that depends on the lengths: no length bias in the gradient.
    if normaliser == "constant":
        return losses.sum() / (len(losses) * longest)
    if normaliser == "group":
        sums, counts = losses.sum(1).view(-1, group).sum(1), lengths.view(-1, group).sum(1)
        return (sums / counts.clamp(min=1)).mean()
    raise ValueError(f"normaliser {normaliser!r} is not one of {NORMALISERS}")


def grpo_loss(logprobs: Tensor, old_logprobs: Tensor, reference_logprobs: Tensor,
              advantages: Tensor, mask: Tensor, *, beta: float, longest: int, group: int,
              normaliser: str = "answer", clip: float = 0.2) -> Tensor:
    """The clipped surrogate with one advantage per ANSWER, plus beta k3 in the loss; a scalar.

    logprobs, old_logprobs, reference_logprobs, mask (B, T); advantages (B,), spread over the
    answer's tokens and not over pads. Per token: max(-A rho, -A clip(rho)) + beta k3, with
    k3 = exp(-r) - 1 + r, r = l - l_ref. Both log-ratios are cut at +-20, so that nothing is
    infinite. The gradient reaches logprobs only.
    Source: Shao et al. 2024, eq. 3 and 4.
    """
    ratio = probability_ratio(logprobs, old_logprobs.detach(), mask)
    # One number per answer, the same for all of its tokens.
    gain = -advantages.detach()[:, None]
    losses = torch.maximum(gain * ratio, gain * ratio.clamp(1 - clip, 1 + clip))
    # Never negative, and zero where the policy agrees with the reference.
    losses = losses + beta * kl_estimates(logprobs, reference_logprobs.detach())[2]
    return aggregate(losses, mask, normaliser, longest, group)


def verifiable_reward(question: str, text: str, ended: bool) -> float:
    """A rule that anyone can check: 0 to 1, in thirds. The answer ended by itself; it is one
    sentence of 5 to 14 words closed by a period; no word of four letters or more comes twice.

    It judges form alone, and no model and no annotator takes part in it.
    """
    words = text.split()
    long_words = re.findall(r"[a-z]{4,}", text.lower())
    checks = (ended,
              5 <= len(words) <= 14 and text.endswith(".") and text.count(". ") == 0,
              len(long_words) >= 2 and len(long_words) == len(set(long_words)))
    return sum(checks) / len(checks)


def train_grpo(policy, reference, scorer, tokenizer, questions: list[str], *, iterations: int,
               prompts: int, group: int, learning_rate: float, beta: float, normaliser: str,
               seed: int, steps: int = 4, max_new_tokens: int = 60,
               progress: Progress | None = None) -> list[dict]:
    """Train `policy` in place; a record per iteration. scorer(answers) -> (B,) rewards."""
    pad = special_id(tokenizer, PAD)
    optimizer = optimizer_for(policy.parameters(), learning_rate, eps=1e-5)
    start, log, _ = progress.resume(policy, optimizer) if progress else (0, [], {})
    bar = tqdm(range(start, iterations), desc="grpo", initial=start, total=iterations)
    for i in bar:
        answers = roll_out(policy, tokenizer, questions, i, seed, prompts, group,
                           max_new_tokens=max_new_tokens)
        rewards = scorer(answers)
        advantages = group_advantages(rewards, group)
        ids, mask = collate([a.row for a in answers], pad)
        with torch.no_grad():
            old, answer = response_logprobs(policy, ids, mask)
            frozen, _ = response_logprobs(reference, ids, mask)
        set_rate(optimizer, learning_rate * linear_schedule(i, iterations, warmup=3))
        for step in range(steps):
            # Whole groups stay together: the "group" normaliser needs them.
            chosen = batch_indices(prompts, max(1, prompts // 2), step, seed * 7919 + i)
            rows = [g * group + k for g in chosen for k in range(group)]
            new, _ = response_logprobs(policy, ids[rows], mask[rows])
            loss = grpo_loss(new, old[rows], frozen[rows], advantages[rows], answer[rows],
                             beta=beta, longest=max_new_tokens, group=group,
                             normaliser=normaliser)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            take_step(optimizer, policy.parameters(), loss, i * steps + step)
        log.append({"iteration": i + 1, "reward": float(rewards.mean()),
                    "kl": float((old - frozen).sum(1).mean()),
                    "length": float(answer.sum(1).mean()),
                    "end_rate": sum(a.ended for a in answers) / len(answers)})
        bar.set_postfix(reward=f"{log[-1]['reward']:+.2f}", kl=f"{log[-1]['kl']:.1f}")
        if progress:
            progress.save(i + 1, policy, optimizer, log)
    return log


def rule_scorer(answers: list) -> Tensor:
    """`verifiable_reward` of every answer, (B,)."""
    return torch.tensor([verifiable_reward(a.question, a.text, a.ended) for a in answers])


def parse() -> argparse.Namespace:
    """The command line, with --quick applied."""
    parser = CommandLine(__doc__)
    add_files(parser, "grpo.pt", None)
    add = parser.add_argument
    add("--iterations", type=int, default=40, help="rounds of sampling")
    add("--prompts", type=int, default=8, help="questions per iteration")
    add("--group", type=int, default=8, help="answers per question")
    add("--beta", type=float, default=0.02, help="weight of k3 in the loss")
    add("--learning-rate", type=float, help="default: by the model's width")
    add("--normaliser", choices=NORMALISERS, default="answer",
        help="what an answer's loss is divided by")
    args = parsed(parser)
    if args.quick:
        args.iterations = min(args.iterations, 3)
    return args


def main() -> None:
    args = parse()
    stage = open_stage(__file__, "grpo", args)
    if stage is None:
        return
    rate = args.learning_rate or rate_for("grpo", stage.policy.config.width)
    with stage.guarded(rate):
        log = train_grpo(stage.policy, stage.reference, stage.scorer or rule_scorer,
                         stage.tokenizer, stage.questions, prompts=args.prompts, group=args.group,
                         iterations=args.iterations, learning_rate=rate, beta=args.beta,
                         normaliser=args.normaliser, seed=args.seed, progress=stage.progress)
    stage.finish(log, {"normaliser": args.normaliser}, ("reward", "kl", "length", "end_rate"))


if __name__ == "__main__":
    command(main)
