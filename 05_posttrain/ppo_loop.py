"""The loop around the pieces of `ppo.py`: sample, score, shape, and a few clipped steps.

    from ppo_loop import PPOSettings, train_ppo
    log = train_ppo(policy, reference, scorer, tokenizer, questions, PPOSettings(), seed=0)

One line of diagnostics per iteration. All of them can look healthy while the answers turn to
gibberish: reward is only what the reward model says, so every answer is kept for a judge that the
training does not know (`compare.py`).
"""

import argparse
import time
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from artifacts import CommandLine, command
from chat_template import PAD, special_id
from optimizers import linear_schedule
from option_ranges import parsed
from policy_stage import (Keep, Scorer, add_files, add_rehearsal, finite_scores, open_stage,
                          roll_out)
from ppo import (AdaptiveKL, clip_fraction, explained_variance, gae, kl_estimates, masked_whiten,
                 policy_loss, shaped_rewards, value_loss)
from responses import (answer_logits, collate, masked_mean, response_logprobs, spread_over,
                       token_entropy)
from rollouts import Answer
from sound_step import take_step
from training_stage import (RATES, Progress, batch_indices, beside, optimizer_for, result,
                            set_rate, write_jsonl)


@dataclass(frozen=True)
class PPOSettings:
    """The knobs of a run, with the usual values for a model of this size."""
    iterations: int = 40
    batch: int = 64                 # answers per iteration
    epochs: int = 2                 # passes over them
    minibatches: int = 4            # steps per pass
    learning_rate: float = RATES["ppo"]     # falls to zero over the run
    beta: float = 0.1               # price of straying, per nat
    kl_target: float | None = None  # nats per answer; then beta adapts
    clip: float = 0.2
    value_clip: float = 0.2
    value_weight: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    temperature: float = 1.0
    max_new_tokens: int = 60
    missing_end: float = -2.0       # the score of an answer that was cut off


@dataclass
class Batch:
    """One iteration's answers: (B, T - 1) tensors over target positions, scores (B,)."""
    ids: Tensor
    rows_mask: Tensor               # (B, T), as collated
    mask: Tensor
    scores: Tensor
    old_logprobs: Tensor
    reference_logprobs: Tensor
    values: Tensor
    entropy: Tensor
    advantages: Tensor
    returns: Tensor


class ActorCritic(nn.Module):
    """The policy, and one linear head on its hidden state that guesses the reward to come."""

    def __init__(self, policy) -> None:
        super().__init__()
        self.policy = policy
        self.value_head = nn.Linear(policy.config.width, 1)
        # A value of 0 everywhere: else its first loss, not the reward, would move the model.
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, ids: Tensor, mask: Tensor, temperature: float) -> tuple[Tensor, ...]:
        """ids, mask (B, T) -> log-probabilities and values, (B, T - 1), 0 outside the answer, and
        the logits of the answer's tokens, tempered."""
        hidden = self.policy.hidden(ids)
        logits = answer_logits(self.policy, ids, mask, hidden) / temperature
        values = self.value_head(hidden[:, :-1])[..., 0] * mask[:, 1:]
        return response_logprobs(self.policy, ids, mask, logits=logits)[0], values, logits


@torch.no_grad()
def prepare(model: ActorCritic, reference, scorer: Scorer, answers: list[Answer], pad: int,
            beta: float, s: PPOSettings) -> Batch:
    """Everything that is fixed during the updates: old log-probabilities, values, advantages."""
    ids, rows_mask = collate([a.row for a in answers], pad)
    mask = rows_mask[:, 1:]
    scores = finite_scores(scorer, answers, s.missing_end)
    old, values, logits = model(ids, rows_mask, s.temperature)
    reference_logprobs, _ = response_logprobs(reference, ids, rows_mask, s.temperature)
    rewards = shaped_rewards(scores, old, reference_logprobs, mask, beta)
    advantages, returns = gae(rewards, values, mask, s.gamma, s.lam)
    # Whitened after the returns were taken: the value head learns real rewards.
    advantages = masked_whiten(advantages, mask)
    return Batch(ids, rows_mask, mask, scores, old, reference_logprobs, values,
                 spread_over(token_entropy(logits), rows_mask), advantages, returns)


def update(model: ActorCritic, optimizer, batch: Batch, s: PPOSettings, seed: int,
           keep: Keep | None = None) -> dict:
    """The clipped steps on one batch; returns what to watch, averaged over all minibatches.
    `keep(step)`, if any, is added to each step's loss."""
    seen, size = [], len(batch.ids) // s.minibatches
    for step in range(s.epochs * s.minibatches):
        rows = batch_indices(len(batch.ids), size, step, seed)
        # No wider than this minibatch's longest answer: fewer pads, the same numbers.
        wide = int(batch.rows_mask[rows].any(0).nonzero().max()) + 1
        part = {f.name: getattr(batch, f.name)[rows] for f in fields(batch)}
        mask, old, advantages, returns, before = (
            part[name][:, :wide - 1] for name in ("mask", "old_logprobs", "advantages", "returns",
                                                  "values"))
        logprobs, values, _ = model(part["ids"][:, :wide], part["rows_mask"][:, :wide],
                                    s.temperature)
        actor = policy_loss(logprobs, old, advantages, mask, s.clip)
        critic = value_loss(values, before, returns, mask, s.value_clip)
        optimizer.zero_grad(set_to_none=True)
        loss = actor + s.value_weight * critic + (keep(step) if keep else 0.0)
        loss.backward()
        take_step(optimizer, model.parameters(), loss, step)
        with torch.no_grad():
            gap = (torch.exp(logprobs - old) - 1).abs().max()
            seen.append({"policy_loss": actor.item(), "value_loss": critic.item(),
                         "clip_fraction": float(clip_fraction(logprobs, old, mask, s.clip)),
                         "kl_to_old": float(masked_mean(kl_estimates(logprobs, old)[2], mask)),
                         "gap": float(gap)})
    watched = {name: sum(w[name] for w in seen) / len(seen) for name in seen[0] if name != "gap"}
    # The policy that sampled and the policy at the first step are the same: ratio 1.
    return watched | {"first_ratio_gap": seen[0]["gap"],
                      "first_clip_fraction": seen[0]["clip_fraction"]}


def describe(batch: Batch, answers: list[Answer]) -> dict:
    """The diagnostics of one iteration that do not depend on the update."""
    kl = (kl_estimates(batch.old_logprobs, batch.reference_logprobs)[0] * batch.mask).sum(1)
    return {"reward": float(batch.scores.mean()), "kl": float(kl.mean()),
            "entropy": float(masked_mean(batch.entropy, batch.mask)),
            "explained_variance": explained_variance(batch.values, batch.returns, batch.mask),
            "length": float(batch.mask.sum(1).mean()),
            "end_rate": sum(a.ended for a in answers) / len(answers)}


def train_ppo(policy, reference, scorer: Scorer, tokenizer, questions: list[str], s: PPOSettings,
              seed: int, progress: Progress | None = None, keep: Keep | None = None) -> list[dict]:
    """Train `policy` in place; returns one record per iteration, its answers under "samples".

    `reference` is the frozen SFT model, `scorer` gives one number per answer, `keep` what is added
    to each update's loss (`PolicyStage.keep`). The same seed gives the same run, resumed or not.
    """
    model, pad = ActorCritic(policy), special_id(tokenizer, PAD)
    optimizer = optimizer_for(model.parameters(), s.learning_rate, eps=1e-5)
    steering = AdaptiveKL(s.beta, s.kl_target)
    start, log, more = progress.resume(policy, optimizer) if progress else (0, [], {})
    if more:
        model.value_head.load_state_dict(more["value_head"])
        steering.beta = more["beta"]
    bar = tqdm(range(start, s.iterations), desc="ppo", initial=start, total=s.iterations)
    for i in bar:
        clock = [time.perf_counter()]
        answers = roll_out(policy, tokenizer, questions, i, seed, s.batch,
                           temperature=s.temperature, max_new_tokens=s.max_new_tokens)
        clock.append(time.perf_counter())
        batch = prepare(model, reference, scorer, answers, pad, steering.beta, s)
        clock.append(time.perf_counter())
        set_rate(optimizer, s.learning_rate * linear_schedule(i, s.iterations, warmup=3))
        watched = update(model, optimizer, batch, s, seed * 7919 + i, keep and (
            lambda step: keep(i * s.epochs * s.minibatches + step)))
        clock.append(time.perf_counter())
        seconds = dict(zip(("rollout", "scoring", "update"), (b - a for a, b in
                                                              zip(clock, clock[1:]))))
        log.append({"iteration": i + 1, **describe(batch, answers), **watched,
                    "beta": steering.beta, "seconds": seconds,
                    "samples": [[a.question, a.text, a.ended] for a in answers]})
        steering.update(log[-1]["kl"], len(answers))
        bar.set_postfix(reward=f"{log[-1]['reward']:+.2f}", kl=f"{log[-1]['kl']:.1f}",
                        ended=f"{log[-1]['end_rate']:.2f}")
        if progress:
            progress.save(i + 1, policy, optimizer, log,
                          {"value_head": model.value_head.state_dict(), "beta": steering.beta})
    return log


def without_samples(log: list[dict]) -> list[dict]:
    """The log without the answers: one short line per iteration."""
    return [{k: v for k, v in line.items() if k != "samples"} for line in log]


def write_samples(log: list[dict], path: Path) -> None:
    """`..._samples.jsonl`: every answer of the run."""
    write_jsonl(path, [{"iteration": line["iteration"], "question": q, "text": t, "ended": e}
                       for line in log for q, t, e in line["samples"]])


def parse() -> argparse.Namespace:
    """The command line, with --quick applied."""
    parser = CommandLine(__doc__)
    add_files(parser, "ppo.pt", result("reward.pt"))
    add_rehearsal(parser, weight=0.0)
    add, d = parser.add_argument, PPOSettings()
    add("--iterations", type=int, default=d.iterations, help="rounds of sampling")
    add("--batch", type=int, default=d.batch, help="answers per iteration")
    add("--learning-rate", type=float, default=d.learning_rate)
    add("--beta", type=float, default=d.beta, help="KL coefficient; 0 shows over-optimisation")
    add("--kl-target", type=float, default=None, help="nats per answer; then beta adapts")
    # An iteration's answers are cut into that many minibatches: none may be empty.
    args = parsed(parser, batch=(d.minibatches, None))
    if args.quick:
        args.iterations, args.batch = min(args.iterations, 3), min(args.batch, 24)
    return args


def main() -> None:
    args = parse()
    stage = open_stage(__file__, "ppo", args, more=(beside(args.out, "samples.jsonl"),))
    if stage is None:
        return
    settings = PPOSettings(iterations=args.iterations, batch=args.batch, beta=args.beta,
                           learning_rate=args.learning_rate, kl_target=args.kl_target)
    with stage.guarded(args.learning_rate):
        log = train_ppo(stage.policy, stage.reference, stage.scorer, stage.tokenizer,
                        stage.questions, settings, args.seed, stage.progress,
                        stage.keep(args.sft_weight))
    write_samples(log, beside(args.out, "samples.jsonl"))
    seconds = {name: sum(line["seconds"][name] for line in log) for name in log[-1]["seconds"]}
    print("time: " + ", ".join(f"{name} {s / sum(seconds.values()):.0%}"
                               for name, s in seconds.items()))
    for question, text, _ in log[-1]["samples"][:3]:
        print(f"  {question}\n    {text}")
    stage.finish(without_samples(log), {"seconds": seconds, "iterations": len(log)},
                 ("reward", "kl", "entropy", "clip_fraction", "explained_variance", "length",
                  "end_rate"))


if __name__ == "__main__":
    command(main)
