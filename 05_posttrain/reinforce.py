"""REINFORCE with a baseline: the first rung before PPO. No critic, no clip, no second pass.

    python 05_posttrain/reinforce.py            # RLOO: two to three minutes; --quick 14 s
    python 05_posttrain/reinforce.py --group 1  # one answer a question, the batch as baseline

Sample answers, score them, and make those more likely that were better than expected. "Expected"
is a baseline: of the other answers to the same question (leave one out), or of the whole batch.
Ahmadian et al. 2024 (arXiv 2402.14740) found that this is enough for language models: whole answers
are one action, the policy starts from a good place, and PPO's machinery for wild steps is rarely
used.

Reads sft.pt, reward.pt and sft_train.jsonl; writes reinforce.pt, reinforce_log.jsonl and
reinforce_result.json.
"""

import torch
from torch import Tensor
from tqdm import tqdm

from artifacts import CommandLine, command
from chat_template import PAD, special_id
from option_ranges import parsed
from optimizers import linear_schedule
from policy_stage import (Keep, Scorer, add_files, add_rehearsal, finite_scores, open_stage,
                          roll_out)
from responses import collate, only_real, response_logprobs
from sound_step import take_step
from training_stage import RATES, Progress, optimizer_for, result, set_rate


def reinforce_loss(logprobs: Tensor, rewards: Tensor, baseline: Tensor | float,
                   mask: Tensor) -> Tensor:
    """Minus the mean over answers of (R - b) log pi(answer): a scalar with REINFORCE's gradient.

    logprobs, mask (B, T): log-probabilities of the sampled tokens, mask 1 on the answer's; rewards
    (B,), one per answer; baseline b a number or (B,). An answer is ONE action: its log-probability
    is the sum over its tokens, the end included, not their mean. Rewards and baseline are
    constants: the gradient reaches logprobs only. What stands where mask is 0 does not count, not
    even nan.
    logprobs [[-1, -2], [-3, 9]], mask [[1, 1], [1, 0]], rewards [2, 0], baseline 1 ->
    -((2 - 1) * -3 + (0 - 1) * -3) / 2 = 0, with gradient [[-0.5, -0.5], [0.5, 0]].
    Source: Williams 1992; Ahmadian et al. 2024, eq. 6.
    """
    # The whole answer's log-probability: a sum, as its probability is a product.
    answers = only_real(logprobs, mask).sum(1)
    # How much better than expected; a number to the gradient, whatever made it.
    surprise = (rewards - baseline).detach()
    # Minus, because an optimizer goes down and the reward is to go up.
    return -(surprise * answers).mean()


def rloo_advantages(rewards: Tensor, group_size: int) -> Tensor:
    """Rewards (B,), the answers of one question beside each other -> R minus the mean of the OTHER
    answers to the same question, (B,).

    B is a multiple of group_size k >= 2. The answer itself is left out of its baseline, which keeps
    the gradient unbiased: A_i = R_i - (sum of the others) / (k - 1). No division by a spread.
    [1, 3, 5, 5] in groups of 2 -> [-2, 2, 0, 0]; equal rewards give exactly 0, also where their
    mean is rounded. Nearly equal ones keep their difference, and float64 rewards give float64
    advantages. Raises ValueError if B does not split into such groups.
    Source: Kool et al. 2019; Ahmadian et al. 2024, section 3.2 (RLOO).
    """
    if group_size < 2 or len(rewards) % group_size:
        raise ValueError(f"{len(rewards)} rewards do not split into groups of {group_size}")
    groups = 1.0 * rewards.view(-1, group_size)         # one row per question
    # The others' mean: the group's sum without this one, over one fewer.
    others = (groups.sum(1, keepdim=True) - groups) / (group_size - 1)
    # Sums of equal numbers are rounded: what is left of them is no difference.
    equal = (groups == groups[:, :1]).all(1, keepdim=True)
    return (groups - others).masked_fill(equal, 0.0).reshape(-1)


def priced(scores: Tensor, logprobs: Tensor, reference: Tensor, mask: Tensor,
           beta: float) -> Tensor:
    """The reward of whole answers, (B,): score - beta (log pi - log pi_ref), summed over the
    answer. The same price for straying as PPO's, paid once."""
    return scores - beta * only_real(logprobs - reference, mask).sum(1)


def train_reinforce(policy, reference, scorer: Scorer, tokenizer, questions: list[str], *,
                    iterations: int, prompts: int, group: int, learning_rate: float, beta: float,
                    seed: int, max_new_tokens: int = 60, missing_end: float = -2.0,
                    progress: Progress | None = None, keep: Keep | None = None) -> list[dict]:
    """Train `policy` in place, one update per batch of fresh answers; a record per iteration.
    `keep(iteration)`, if any, is added to the loss.

    group 2 or more: leave-one-out baselines (RLOO). group 1: the mean of the earlier batches'
    rewards is the baseline of all answers (plain REINFORCE), 0 at first.
    """
    pad = special_id(tokenizer, PAD)
    optimizer = optimizer_for(policy.parameters(), learning_rate, eps=1e-5)
    start, log, more = progress.resume(policy, optimizer) if progress else (0, [], {})
    moving = more.get("baseline", 0.0)
    bar = tqdm(range(start, iterations), desc="reinforce", initial=start, total=iterations)
    for i in bar:
        answers = roll_out(policy, tokenizer, questions, i, seed, prompts, group,
                           max_new_tokens=max_new_tokens)
        ids, rows_mask = collate([a.row for a in answers], pad)
        scores = finite_scores(scorer, answers, missing_end)
        with torch.no_grad():
            frozen, mask = response_logprobs(reference, ids, rows_mask)
        logprobs, _ = response_logprobs(policy, ids, rows_mask)
        rewards = priced(scores, logprobs.detach(), frozen, mask, beta)
        if group > 1:
            loss = reinforce_loss(logprobs, rloo_advantages(rewards, group), 0.0, mask)
        else:
            loss = reinforce_loss(logprobs, rewards, moving, mask)
            moving += (float(rewards.mean()) - moving) / min(i + 1, 10)
        loss = loss + (keep(i) if keep else 0.0)
        set_rate(optimizer, learning_rate * linear_schedule(i, iterations, warmup=3))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        take_step(optimizer, policy.parameters(), loss, i)
        kl = only_real(logprobs.detach() - frozen, mask).sum(1)
        log.append({"iteration": i + 1, "reward": float(scores.mean()), "kl": float(kl.mean()),
                    "length": float(mask.sum(1).mean()), "baseline": moving,
                    "end_rate": sum(a.ended for a in answers) / len(answers)})
        bar.set_postfix(reward=f"{log[-1]['reward']:+.2f}", kl=f"{log[-1]['kl']:.1f}")
        if progress:
            progress.save(i + 1, policy, optimizer, log, {"baseline": moving})
    return log


def main() -> None:
    parser = CommandLine(__doc__)
    add_files(parser, "reinforce.pt", result("reward.pt"))
    add_rehearsal(parser, weight=0.3)
    add = parser.add_argument
    add("--iterations", type=int, default=40,
        help="updates, each on fresh answers; as many answers as PPO's")
    add("--prompts", type=int, default=16, help="questions per iteration")
    add("--group", type=int, default=4, help="answers per question; 1: the batch as baseline")
    add("--beta", type=float, default=0.1, help="price of straying from the SFT model")
    add("--learning-rate", type=float, default=RATES["reinforce"], help="falls to zero")
    args = parsed(parser, group=(1, None))
    if args.quick:
        args.iterations = min(args.iterations, 3)
    stage = open_stage(__file__, "reinforce", args)
    if stage is None:
        return
    with stage.guarded(args.learning_rate):
        log = train_reinforce(stage.policy, stage.reference, stage.scorer, stage.tokenizer,
                              stage.questions, prompts=args.prompts, group=args.group,
                              iterations=args.iterations, beta=args.beta, seed=args.seed,
                              learning_rate=args.learning_rate, progress=stage.progress,
                              keep=stage.keep(args.sft_weight, batch=16))
    stage.finish(log, {"group": args.group}, ("reward", "kl", "length", "end_rate"))


if __name__ == "__main__":
    command(main)
