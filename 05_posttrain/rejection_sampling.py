"""Rejection-sampling fine-tuning: keep the best of k answers, and imitate it. RL by SFT alone.

    python 05_posttrain/rejection_sampling.py   # two to three minutes; --quick 11 s

Sample k answers to each question, let the reward model choose one, and fine-tune on the chosen.
Dong et al. 2023 (RAFT, arXiv 2304.06767); Touvron et al. 2023 (Llama 2) did four rounds of it
before PPO. A model also changes when it is trained on its own answers, whichever they are: so the
same training is done on answers drawn at random, as many, to the same questions. Only what the
first gains over this control is the reward's doing.

Reads sft.pt, reward.pt and sft_train.jsonl; writes rft.pt (the best of k), rft_random.pt (the
control) and rft_result.json.
"""

import copy

import torch
from torch import Tensor

from artifacts import CommandLine, Job, command, shown, write_json
from chat_template import PAD, special_id
from option_ranges import parsed
from policy_stage import add_files
from responses import score_rows
from reward_model import load_reward_model
from rollouts import Answer, sample_rounds
from sft import fine_tune
from sound_step import last_good_kept, save_stage
from training_stage import (RATES, beside, fresh_questions, open_model, open_tokenizer,
                            planned_precision, read_conversations, result)


def best_and_random(scores: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Scores (Q, k) of k answers to each of Q questions -> which answer to keep, twice, (Q,) each.

    The first holds the index of each question's highest score (the earliest of equal ones), the
    second an index drawn evenly from all k, the best included, by `seed` and by nothing else: a
    control that saw the scores, or that avoids the best, would be no control.
    [[1, 3], [2, 0]] -> [1, 0] and, say, [0, 0]. Raises ValueError for a score that is not finite.
    """
    if not torch.isfinite(scores).all():
        raise ValueError("a score is nan or infinite: it would always win or never")
    # Within each question: an easy question's worst answer may beat a hard one's best.
    best = scores.argmax(1)
    # Every answer alike; the draw does not look at the scores.
    generator = torch.Generator().manual_seed(seed)
    return best, torch.randint(scores.shape[1], (len(scores),), generator=generator)


def as_rows(rounds: list[list[Answer]], kept: Tensor, cut_too: bool = False
            ) -> list[tuple[list[int], list[int]]]:
    """The rows (ids, mask) of the kept answers: question q's is round kept[q]. Cut-off answers are
    left out, unless `cut_too`: to imitate them would teach never to end."""
    chosen = [rounds[k][q] for q, k in enumerate(kept.tolist())]
    return [a.row for a in chosen if a.ended or cut_too]


def sample_and_keep(sft, reward, tokenizer, questions: list[str], answers: int, seed: int) -> dict:
    """{"rft": rows of the best answers, "rft_random": rows of the control's}, equally many."""
    pad = special_id(tokenizer, PAD)
    rounds = sample_rounds(sft, tokenizer, questions, answers, seed=seed * 1000 + 500,
                           desc="sampling")
    scores = torch.stack([score_rows(reward.score, [a.row for a in part], pad)
                          for part in rounds], dim=1)                           # (Q, k)
    # An answer that does not end is never the best, where another does.
    ended = torch.tensor([[a.ended for a in part] for part in rounds]).T
    worse = ~ended & ended.any(1, keepdim=True)
    best, drawn = best_and_random(scores.masked_fill(worse, -1e9), seed)
    kept = {"rft": as_rows(rounds, best), "rft_random": as_rows(rounds, drawn)}
    size = min(map(len, kept.values()))
    if not size:        # a model that was trained for a minute does not end yet
        print("no kept answer ends by itself: cut ones are imitated, which teaches no ending")
        kept = {"rft": as_rows(rounds, best, True), "rft_random": as_rows(rounds, drawn, True)}
        size = len(questions)
    return {name: rows[:size] for name, rows in kept.items()}


def fine_tuned(sft, rows: list, pad: int, epochs: float, batch: int, rate: float, seed: int):
    """A copy of the SFT model, fine-tuned on rows."""
    policy = copy.deepcopy(sft)
    fine_tune(policy, rows, pad, steps=max(1, round(epochs * len(rows) / batch)), batch=batch,
              learning_rate=rate, seed=seed, precision=planned_precision())
    return policy


def main() -> None:
    parser = CommandLine(__doc__)
    add_files(parser, "rft.pt", result("reward.pt"))
    add = parser.add_argument
    add("--questions", type=int, default=1000, help="questions to answer")
    add("--answers", type=int, default=8, help="answers to each, of which one is kept")
    add("--epochs", type=float, default=1.0)
    add("--batch", type=int, default=32, help="conversations per step")
    add("--learning-rate", type=float, default=RATES["rft"])
    args = parsed(parser)
    if args.quick:
        args.questions, args.answers = min(args.questions, 60), min(args.answers, 3)
    torch.set_num_threads(args.threads)
    control = args.out.with_name(args.out.stem + "_random.pt")
    inputs = [args.sft, args.reward, args.train, args.tokenizer]
    job = Job(__file__, vars(args), reads=inputs, writes=[
        args.out, control, beside(args.out, "result.json")])
    if job.up_to_date():
        return
    sft, digest = open_model(args.sft, args.tokenizer, "05_posttrain/sft.py")
    open_model(args.reward, args.tokenizer, "05_posttrain/reward_model.py")
    tokenizer, reward = open_tokenizer(args.tokenizer), load_reward_model(args.reward)
    records = read_conversations(args.train, "05_posttrain/instructions.py")
    kept = sample_and_keep(sft, reward, tokenizer, fresh_questions(records, args.questions),
                           args.answers, args.seed)
    pad = special_id(tokenizer, PAD)
    for path, rows in ((args.out, kept["rft"]), (control, kept["rft_random"])):
        with last_good_kept(path, sft, "rft", digest, args.learning_rate):
            policy = fine_tuned(sft, rows, pad, args.epochs, args.batch, args.learning_rate,
                                args.seed)
        save_stage(path, policy, "rft", digest, len(rows))
    scores = {name: float(score_rows(reward.score, rows, pad).mean())
              for name, rows in kept.items()}
    write_json(beside(args.out, "result.json"), {"kept": len(kept["rft"]), "scores": scores})
    print(f"kept {len(kept['rft']):,} answers; the reward model gives the best of {args.answers} "
          f"{scores['rft']:+.2f}, the random ones {scores['rft_random']:+.2f}")
    print(f"wrote {shown(args.out)} and {shown(control)}")
    job.done()


if __name__ == "__main__":
    command(main)
