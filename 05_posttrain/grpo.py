"""GRPO: no value network. Several answers to one question are each other's baseline.

    python 05_posttrain/grpo.py           # about 2 minutes; --normaliser constant

Sample a group of G answers to every prompt; the advantage of each is its reward against the rest
of its group. Shao et al. 2024 (arXiv 2402.03300). What remains to choose is by what the token
losses are divided, and the four published choices are one small table here, `NORMALISERS`.

Reads sft.pt and prompts of sft_train.jsonl; writes grpo.pt, grpo_log.jsonl and grpo_result.json.
The reward is verifiable: a rule that any reader can check by eye (`verifiable_reward`).
"""

import torch
from torch import Tensor

NORMALISERS = ("answer", "token", "constant", "group")


def group_advantages(rewards: Tensor, group: int, divide_by_sd: bool = True,
                     eps: float = 1e-4) -> Tensor:
    """Rewards (B,), the answers of one prompt beside each other -> advantages (B,).

    B is a multiple of `group`. A = (R - mean of its group) / (sd of its group + eps), the sd
    unbiased (n - 1); or the difference alone. [1, 3, 5, 5] in groups of 2 ->
    [-0.7071, 0.7071, 0, 0]: a group of equal rewards teaches nothing, and gives 0, not nan.
    Raises ValueError if B is no multiple of `group`, or `group` is under 2.
    """
    if group < 2 or len(rewards) % group:
        raise ValueError(f"{len(rewards)} rewards do not split into groups of {group}")
    # One row per prompt; each answer is judged against the answers to the same prompt.
    groups = rewards.view(-1, group)
    centred = groups - groups.mean(1, keepdim=True)
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
    answer 6.0, token 4.0, constant (longest 4) 2.0, group (group 2) 4.0.
    Raises ValueError for another normaliser.
    """
    losses = losses * mask
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
    k3 = exp(-r) - 1 + r, r = l - l_ref. The gradient reaches logprobs only.
    Source: Shao et al. 2024, eq. 3 and 4.
    """
    ratio = torch.exp(logprobs - old_logprobs.detach())
    # One number per answer, the same for all of its tokens.
    gain = -advantages.detach()[:, None]
    losses = torch.maximum(gain * ratio, gain * ratio.clamp(1 - clip, 1 + clip))
    # Never negative, and zero where the policy agrees with the reference.
    r = logprobs - reference_logprobs.detach()
    losses = losses + beta * (torch.exp(-r) - 1 + r)
    return aggregate(losses, mask, normaliser, longest, group)
