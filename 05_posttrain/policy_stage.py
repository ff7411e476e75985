"""What the stages share that learn from answers of their own: REINFORCE, PPO, GRPO, rejection.

    stage = open_stage(__file__, "ppo", args)           # None if all is up to date
    with stage.guarded(rate):
        log = train_ppo(stage.policy, stage.reference, stage.scorer, ...)
    stage.finish(log, {"iterations": len(log)}, ("reward", "kl"))

They open the same files, ask questions from the same place, and leave the same kinds of results;
what differs is how a batch of scored answers becomes an update, and that is all their own files
hold.
"""

import argparse
import contextlib
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor

from artifacts import BadInput, Job, shown, within, write_json
from chat_template import PAD, special_id
from responses import score_rows
from reward_model import RewardModel, load_reward_model
from rollouts import Answer, sample_answers
from sft import rehearsal, render_rows
from sound_step import last_good_kept, save_stage
from training_stage import (Progress, add_common, batch_indices, beside, fresh_questions,
                            open_model, open_tokenizer, read_conversations, result, write_jsonl)

Scorer = Callable[[list[Answer]], Tensor]
Keep = Callable[[int], Tensor]
REHEARSED = 4_000       # rows from the front of the training file, where SFT took its own


def reward_scorer(reward_model: RewardModel, pad: int) -> Scorer:
    """Scores of answers by a reward model, as a function of a list of answers."""
    return lambda answers: score_rows(reward_model.score, [a.row for a in answers], pad)


def finite_scores(scorer: Scorer, answers: list[Answer], missing_end: float) -> Tensor:
    """The scores (B,), with a fixed low one for answers that were cut off (the reward model has
    no opinion on those that is worth anything). BadInput names the first non-finite one."""
    scores = scorer(answers)
    for answer, score in zip(answers, scores.tolist()):
        if score != score or abs(score) == float("inf"):
            raise BadInput(f"the reward of {answer.text!r} to {answer.question!r} is {score}: "
                           "train the reward model again with a lower --learning-rate")
    ended = torch.tensor([a.ended for a in answers])
    return torch.where(ended, scores, torch.tensor(missing_end))


def roll_out(policy, tokenizer, questions: list[str], step: int, seed: int, prompts: int,
             group: int = 1, **how) -> list[Answer]:
    """The policy's answers in iteration `step`: `group` to each of `prompts` questions, those to
    one question beside each other. What is asked and drawn follows from (seed, step) alone."""
    asked = [questions[i] for i in batch_indices(len(questions), prompts, step, seed)]
    return sample_answers(policy, tokenizer, [q for q in asked for _ in range(group)],
                          seed=seed * 7919 + step, **how)


def add_files(parser: argparse.ArgumentParser, out: str, reward: Path | None) -> None:
    """The options that name files, and those of every stage."""
    add = parser.add_argument
    add("--sft", type=Path, default=result("sft.pt"))
    add("--reward", type=Path, default=reward, help="the reward model that scores the answers")
    add("--train", type=Path, default=result("sft_train.jsonl"), help="where questions come from")
    add("--out", type=Path, default=result(out))
    add_common(parser)


def add_rehearsal(parser: argparse.ArgumentParser, weight: float) -> None:
    """The option of `PolicyStage.keep`, and its default."""
    parser.add_argument("--sft-weight", type=within(low=0), default=weight,
                        help="of the loss of SFT's own rows beside the reward")


@dataclass
class PolicyStage:
    """An opened stage: `policy` is trained, `reference` stays; no --reward, no `scorer`."""
    name: str
    args: argparse.Namespace
    job: Job
    progress: Progress
    policy: torch.nn.Module
    reference: torch.nn.Module
    digest: str                         # of the tokenizer
    tokenizer: object
    scorer: Scorer | None
    questions: list[str]
    records: list[dict]                 # what SFT was shown, to be rehearsed

    def keep(self, weight: float, batch: int = 4) -> Keep | None:
        """`weight` times the loss of SFT's own rows, to be added to a policy's; None for 0."""
        if not weight:
            return None
        rows, _ = render_rows(self.tokenizer, self.records, self.policy.config.sequence_length)
        loss = rehearsal(rows, self.pad, batch, self.args.seed)
        return lambda step: weight * loss(self.policy, step)

    @property
    def pad(self) -> int:
        return special_id(self.tokenizer, PAD)

    def guarded(self, rate: float) -> contextlib.AbstractContextManager:
        """Around the training: the last good weights survive a loss that is no number."""
        return last_good_kept(self.args.out, self.policy, self.name, self.digest, rate)

    def finish(self, log: list[dict], summary: dict, watched: tuple[str, ...]) -> None:
        """Save the policy, the log and `summary`; say how the `watched` numbers moved."""
        save_stage(self.args.out, self.policy, self.name, self.digest, len(log))
        write_jsonl(beside(self.args.out, "log.jsonl"), log)
        write_json(beside(self.args.out, "result.json"),
                   {"first": log[0], "last": log[-1]} | summary)
        for name in watched:
            print(f"{name:20}{log[0][name]:10.3f} -> {log[-1][name]:.3f}")
        print(f"wrote {shown(self.args.out)}")
        self.job.done()
        self.progress.done()


def open_stage(file: str, name: str, args: argparse.Namespace, more: tuple[Path, ...] = (),
               asked: int = 2500) -> PolicyStage | None:
    """Open what the command in `file` reads; None, said in a line, if its results are up to date.

    `more`: what it writes beside --out, its `_log.jsonl` and its `_result.json`; `asked`: how many
    questions it may ask.
    """
    torch.set_num_threads(args.threads)
    inputs = [args.sft, *([args.reward] if args.reward else []), args.train, args.tokenizer]
    job = Job(file, vars(args), reads=inputs, writes=[
        args.out, beside(args.out, "log.jsonl"), beside(args.out, "result.json"), *more])
    if job.up_to_date():
        return None
    policy, digest = open_model(args.sft, args.tokenizer, "05_posttrain/sft.py")
    tokenizer, scorer = open_tokenizer(args.tokenizer), None
    if args.reward:
        open_model(args.reward, args.tokenizer, "05_posttrain/reward_model.py")
        scorer = reward_scorer(load_reward_model(args.reward), special_id(tokenizer, PAD))
    records = read_conversations(args.train, "05_posttrain/instructions.py")
    return PolicyStage(name, args, job, Progress(args.out, vars(args), inputs, args.fresh), policy,
                       copy.deepcopy(policy), digest, tokenizer, scorer,
                       fresh_questions(records, asked), records[:REHEARSED])
