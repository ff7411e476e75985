"""PPO: let the model answer, let the reward model score, and make good answers more likely.

    python 05_posttrain/ppo.py            # about 5 minutes; --quick 13 s

Each iteration: sample answers from the policy (KV cache), score them with the reward model, charge
the policy beta nats per nat that it strays from the SFT model, spread the credit over the tokens
(GAE), and take a few clipped gradient steps. Schulman et al. 2017 (arXiv 1707.06347), as used by
Stiennon et al. 2020 and Ouyang et al. 2022. The pieces come first, one function each; the loop
is in `ppo_loop.py`.

Reads sft.pt, reward.pt, sft_train.jsonl; writes ppo.pt, ppo_log.jsonl, ppo_samples.jsonl,
ppo.png and ppo_result.json. Letters: l log-probability of a sampled token, r = l - l_ref,
rho = exp(l - l_old), A advantage, V value, R return, m mask of the answer's tokens.
What stands at a pad (mask 0) never counts, not even nan. Log-ratios are cut at +-20 before they
are exponentiated, as verl does: exp(120) is infinite, and infinity times an advantage of 0 is nan.

But: no separate value network (one linear head on the policy's own hidden state), no reward
whitening by default (the reward model is already centred and scaled).
"""

import runpy

import torch
from torch import Tensor

from responses import masked_mean, only_real


def shaped_rewards(scores: Tensor, logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor,
                   beta: float) -> Tensor:
    """The reward of every token: the price of straying, and the score where the answer ends.

    scores (B,), of any dtype: one number per answer. logprobs, reference_logprobs, mask: (B, T),
    T target positions, mask 1 on the answer's tokens (one unbroken stretch). Returns (B, T) in the
    dtype of logprobs, 0 outside.

        R_t = -beta (l_t - l_ref_t),    plus the score at the LAST token of the answer, once

    score 2, l = [-1, -1, 0], l_ref = [-1.5, -1, 0], mask [1, 1, 0], beta 0.1 -> [-0.05, 2, 0]:
    the third column is padding, and the score belongs to the second.
    The gradient never flows through rewards. Source: Ziegler et al. 2019, section 2.
    """
    # The sampled estimate of the KL to the reference (k1): positive where the policy is bolder.
    with torch.no_grad():
        rewards = only_real(-beta * (logprobs - reference_logprobs), mask)
        # The last token of each answer: the largest index whose mask is 1, not the last column.
        columns = torch.arange(mask.shape[1], device=mask.device)
        last = (columns * (mask > 0)).argmax(1)
        # An empty answer has no token to reward.
        paid = only_real(scores.to(rewards.dtype), mask.sum(1))
        rewards[torch.arange(len(rewards)), last] += paid
    return rewards


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float,
        lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation -> (advantages, returns), both (B, T), 0 where mask is 0.

    rewards, values, mask (B, T), the mask one unbroken stretch of ones per row. With V = 0 after
    the last token of the answer, whatever the value head says about a pad:

        delta_t = R_t + gamma V_{t+1} - V_t,   A_t = delta_t + gamma lam A_{t+1},   returns = A + V

    rewards [0, 1], values [0.5, 0.5], mask [1, 1], gamma 1, lam 1 -> A [0.5, 0.5], returns [1, 1].
    Returns are taken before any whitening. Source: Schulman et al. 2015 (1506.02438), eq. 16.
    """
    # What a pad's reward or value says is not even read.
    rewards, values = only_real(rewards, mask), only_real(values, mask)
    advantages = torch.zeros_like(values)
    later = torch.zeros_like(values[:, 0])
    # From the last column to the first, so that A_{t+1} is known when A_t needs it.
    for t in reversed(range(values.shape[1])):
        # The value after the answer's last token is 0: a pad has no future, and no value.
        inside = t + 1 < values.shape[1]
        next_value = values[:, t + 1] if inside else torch.zeros_like(later)
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        # Outside the answer nothing is carried backwards.
        later = (delta + gamma * lam * later) * mask[:, t]
        advantages[:, t] = later
    return advantages, (advantages + values) * mask


def masked_whiten(values: Tensor, mask: Tensor, shift_mean: bool = True,
                  unbiased: bool = True) -> Tensor:
    """Whiten over all real tokens of the batch: (x - mean) / sqrt(variance + 1e-8); 0 at pads.

    Mean and variance are over the entries with mask 1, of all rows together: whitening each row
    by itself would erase which answer was better. unbiased divides the squares by n - 1 (TRL),
    else by n (OpenAI 2019). shift_mean=False gives the mean back after scaling, for rewards. What
    stands at pads is not read, not even nan.
    [1, 3, 99] with mask [1, 1, 0] -> [-0.7071, 0.7071, 0]. One single token gives 0, not nan, and
    equal values give exactly 0, also where their mean is rounded (999 times 7300.3).
    """
    count = mask.sum()
    mean = masked_mean(values, mask)
    # The spread of the real tokens only; n - 1 could be zero.
    squares = only_real((values - mean) ** 2, mask).sum()
    variance = squares / (count - 1 if unbiased else count).clamp(min=1)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    # A mean of equal numbers is rounded, and a spread of roundings would be blown up to 1.
    real = values[mask > 0]
    if len(real) and (real == real[0]).all():
        whitened = torch.zeros_like(whitened)
    # Rewards keep their mean: zero is a meaning there.
    return only_real(whitened if shift_mean else whitened + mean, mask)


def probability_ratio(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """exp(l - l_old), (B, T): 1 where mask is 0, and finite everywhere: the log-ratio is cut at
    +-20. `probability_ratio(-1, -1 - ln 2, 1)` is 2."""
    return torch.exp(only_real(logprobs - old_logprobs, mask).clamp(-20, 20))


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor,
                clip: float = 0.2) -> Tensor:
    """PPO's clipped surrogate, a scalar to minimise: masked mean over the answer's tokens of

        max(-A rho, -A clip(rho, 1 - clip, 1 + clip)),     rho = exp(l - l_old)

    All (B, T). old_logprobs and advantages are constants here: the gradient reaches logprobs only;
    what stands at pads is not read, and no token at all is 0. The log-ratio is cut at +-20 first:
    never infinite. The larger loss is the pessimistic one: there is no gain, and no gradient, for
    moving further than the clip in the direction that the advantage asks for, but always one for
    coming back. A = 1: rho 1.5 gives -1.2 and gradient 0; A = -1: rho 1.5 gives 1.5.
    Source: Schulman et al. 2017, eq. 7.
    """
    # Probability ratio of the new policy to the one that sampled.
    ratio = probability_ratio(logprobs, old_logprobs.detach(), mask)
    gain = -advantages.detach()
    # The worse of the two for every token: max, because these are losses.
    losses = torch.maximum(gain * ratio, gain * ratio.clamp(1 - clip, 1 + clip))
    return masked_mean(losses, mask)


def clip_fraction(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor,
                  clip: float = 0.2) -> Tensor:
    """Share of the answer's tokens whose ratio lies outside 1 +- clip; 0 before the first step."""
    ratio = probability_ratio(logprobs.detach(), old_logprobs, mask)
    return masked_mean(((ratio - 1).abs() > clip).float(), mask)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor,
               clip: float = 0.2) -> Tensor:
    """Half the masked mean of max((V - R)^2, (V_clip - R)^2), V_clip = V_old + clip(V - V_old).

    All (B, T); the step of the value is clipped to +- clip around V_OLD, not around the return.
    old_values and returns are constants; what stands at pads is not read, and no token at all is 0.
    V 1, V_old 0, R 2, clip 0.2: V_clip = 0.2, and the loss is half of max(1, 3.24) = 1.62.
    Source: the 2019 code of Ziegler et al.
    """
    values, old_values, returns = (only_real(x, mask) for x in (
        values, old_values.detach(), returns.detach()))
    # A value may move by at most `clip` from what it said when the answer was sampled.
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    # The worse of both errors counts: clipping must never make a bad guess look good.
    losses = torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)
    return 0.5 * masked_mean(losses, mask)


class AdaptiveKL:
    """The KL coefficient beta that steers the KL to a target: raised when too far, else lowered.

    target in nats per answer (the sum over its tokens), above 0, horizon in answers. A target of
    None keeps beta as it is. Source: Ziegler et al. 2019, section 2.2.
    """

    def __init__(self, beta: float, target: float | None = None, horizon: float = 10_000):
        if target is not None and not 0 < target < float("inf"):
            raise ValueError(f"a KL target of {target} nats cannot be steered to: it must be > 0")
        if not (abs(beta) < float("inf") and 0 < horizon):
            raise ValueError(f"beta {beta} must be finite, and horizon {horizon} above 0")
        self.beta, self.target, self.horizon = beta, target, horizon

    def update(self, kl: float, answers: int) -> float:
        """After `answers` answers with mean KL `kl`: the new beta, which is also kept.

            beta <- beta (1 + clip(kl / target - 1, -0.2, 0.2) answers / horizon)

        Without a target (None) beta stays what it is.
        answers / horizon counts as 1 at most: beta stays above 0. ValueError for a KL that is nan,
        with a target or without.
        AdaptiveKL(0.15, 6, 10_000).update(9, 256) is 0.150768.
        """
        if kl != kl:
            raise ValueError("a KL of nan steers nothing: the policy or its reference is broken")
        if self.target is not None:
            # The relative error, at most 20 %: one strange batch must not swing the price.
            error = min(max(kl / self.target - 1, -0.2), 0.2)
            # In proportion to how much was seen.
            self.beta *= 1 + error * min(1.0, answers / self.horizon)
        return self.beta


def kl_estimates(logprobs: Tensor, reference_logprobs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three sample estimates of KL(policy || reference), per token: k1, k2, k3.

    With r = l - l_ref of tokens drawn from the policy: k1 = r, unbiased and noisy, even negative;
    k2 = r^2 / 2; k3 = exp(-r) - 1 + r, unbiased and never negative, right for small r too
    (r = 1e-4 -> 5e-9 in 32 bits) and finite for large ones: inside k3 r is cut at +-20.
    r = 0.5 -> (0.5, 0.125, 0.1065). Source: J. Schulman, "Approximating KL divergence", 2020.
    """
    r = logprobs - reference_logprobs
    # exp(-r) - 1 in one piece: next to 1 a small difference loses its digits.
    cut = r.clamp(-20, 20)
    return r, r ** 2 / 2, torch.expm1(-cut) + cut


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over real tokens: 1 perfect, 0 no better than a
    constant, below 0 worse; 0 where the returns are all equal."""
    returns, errors = returns[mask > 0], (returns - values)[mask > 0]
    spread = returns.var(unbiased=False)
    return float(1 - errors.var(unbiased=False) / spread) if spread > 1e-12 else 0.0


if __name__ == "__main__":
    # The loop stands on these pieces, not they on it: so it is started from here, not imported.
    runpy.run_module("ppo_loop", run_name="__main__")
