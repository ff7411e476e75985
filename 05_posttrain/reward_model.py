"""The reward model: one number per answer, fitted so that preferred answers score higher.

    python 05_posttrain/reward_model.py   # about 2 minutes; --quick 12 s

The SFT model, its last layer trained, with one linear head on what can be read off an answer: the
hidden state of its last real token (the end token), that has seen question and answer whole; the
mean of the states of all its tokens; and how likely the model finds the tokens, the mean and the
worst (`read_off`). The last state alone sees how an answer ends, and misses what stands in it.
Bradley-Terry: P(chosen beats rejected) = s(difference). The loss does not know the zero of the
scale, so scores are centred and scaled on the SFT model's own answers before anybody optimises
them. Reads sft.pt and preferences.jsonl; writes reward.pt (a GPT checkpoint plus
reward_head.weight, .bias, .mean, .sd), reward_log.jsonl, reward_result.json.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from artifacts import CommandLine, BadInput, Job, command, shown, write_json
from chat_template import END, PAD, plain_ids, prompt_ids, render_prompt, special_id
from checkpoint import load_checkpoint, restore
from gpt import GPT, GPTConfig
from optimizers import linear_schedule
from option_ranges import parsed
from preference_files import read_pairs
from responses import (answer_logits, by_question, collate, distinct_rows, only_real,
                       response_logprobs, score_rows, steps_for)
from reward_quality import examine
from rollouts import sample_answers
from sound_step import last_good_kept, save_stage, take_step
from training_stage import (Progress, add_common, batch_indices, beside, fresh_questions,
                            in_precision, open_model, open_tokenizer, optimizer_for,
                            planned_precision, rate_for, read_conversations, result, set_rate,
                            write_jsonl)


def bradley_terry_loss(chosen: Tensor, rejected: Tensor, margin: float | Tensor = 0.0) -> Tensor:
    """Scores of B chosen and B rejected answers, each (B,) -> the loss of every pair, (B,).

    -log s(chosen - rejected - margin), s the logistic function. Equal scores give ln 2; adding
    the same number to all scores changes nothing. A margin asks the chosen answer to win by that
    much. Scores 2 and 0 -> 0.126928. Finite for differences of any size: 1000 the wrong way
    costs 1000. Source: Bradley and Terry 1952; Ouyang et al. 2022, eq. 1.
    """
    # log-sigmoid in one piece: a sigmoid that rounds to 0 would make the logarithm infinite.
    return -F.logsigmoid(chosen - rejected - margin)


def last_real_token(mask: Tensor) -> Tensor:
    """(B, T) answer mask -> (B,) int64, the column of each row's last answer token, whatever is
    padded behind it. [[0, 1, 1, 0]] -> [2]. A row without an answer gives 0."""
    # Number the columns: 0, 1, 2 ...
    columns = torch.arange(mask.shape[1], device=mask.device)
    # Columns where there is no answer count 0, so the largest product is the last answer token.
    return (columns * (mask > 0)).argmax(1)


def read_off(hidden: Tensor, logprobs: Tensor, mask: Tensor) -> Tensor:
    """What a score may depend on: hidden (B, T, C), log-probabilities of the answer's tokens
    (B, T - 1) as `response_logprobs` gives them, answer mask (B, T) -> (B, 2 C + 3).

    In this order: the state of the last answer token (C), the mean of the states of all answer
    tokens (C), then the mean log-probability, the lowest one, and the number of tokens / 10. A row
    without an answer has the state of its first token, and zeros.
    """
    rows, length = torch.arange(len(mask), device=mask.device), mask.sum(1).to(hidden.dtype)
    last, count = hidden[rows, last_real_token(mask)], length.clamp(min=1)
    # The mean over the answer: the last token need not have gathered what the others know.
    mean = only_real(hidden, mask[..., None]).sum(1) / count[:, None]
    # Outside the answer the log-probabilities are 0, the largest there is: no minimum, no share.
    plain = torch.stack([logprobs.sum(1) / count, logprobs.amin(1), length / 10], 1)
    return torch.cat([last, mean, plain], 1)


class RewardHead(nn.Module):
    """What `read_off` gives (B, 2 C + 3) -> score (B,); `mean` and `sd` bring scores to the scale
    of the SFT model's own answers: mean 0, spread 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # All scores 0 at the start: nothing about the answers is believed before the first pair.
        self.weight = nn.Parameter(torch.zeros(2 * width + 3))
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("sd", torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.weight + self.bias


class RewardModel(GPT):
    """A GPT with a score for a conversation beside its logits."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.reward_head = RewardHead(config.width)

    def raw_score(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids, mask (B, T) -> (B,), on the scale of Bradley-Terry: differences are log-odds."""
        hidden = self.hidden(ids)
        # The same pass tells how likely the model finds each token of the answer.
        logits = answer_logits(self, ids, mask, hidden)
        logprobs, _ = response_logprobs(self, ids, mask, logits=logits.float())
        return self.reward_head(read_off(hidden.float(), logprobs, mask))

    def score(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids, mask (B, T) -> (B,), centred and scaled on the SFT model's answers."""
        return (self.raw_score(ids, mask) - self.reward_head.mean) / self.reward_head.sd

    @torch.no_grad()
    def centre(self, rows: list, pad: int) -> None:
        """Measure mean and spread of the raw scores of `rows` (ids, mask), and keep them."""
        raw = score_rows(self.raw_score, rows, pad)
        self.reward_head.mean.copy_(raw.mean())
        self.reward_head.sd.copy_(raw.std().clamp(min=1e-6))


def load_reward_model(path: Path | str) -> RewardModel:
    """The reward model of a checkpoint of stage "reward", in eval mode; BadInput if it is none."""
    saved = load_checkpoint(path)
    if saved["stage"] != "reward":
        raise BadInput(f"{shown(path)} is a {saved['stage']!r} checkpoint, not a reward model: "
                       "give one that reward_model.py has written")
    model = RewardModel(GPTConfig(**saved["config"]))
    restore(model, saved["model"], path)
    return model.eval()


def from_sft(sft: GPT, seed: int) -> RewardModel:
    """A reward model with the weights of the SFT model and a fresh head."""
    torch.manual_seed(seed)
    model = RewardModel(sft.config)
    model.load_state_dict(sft.state_dict(), strict=False)
    return model


def answer_row(tokenizer, prompt: str | list[dict], answer: str,
               ended: bool = True) -> tuple[list, list]:
    """(ids, mask) of one question (its text, or a talk as messages) and answer; the end token only
    if the answer had ended."""
    asked = (prompt_ids(tokenizer, prompt) if isinstance(prompt, str)
             else render_prompt(tokenizer, prompt))
    said = plain_ids(tokenizer, answer) + [special_id(tokenizer, END)] * ended
    return asked + said, [0] * len(asked) + [1] * len(said)


def pair_rows(tokenizer, pairs: list[dict], longest: int) -> tuple[list[tuple], int]:
    """((chosen row, rejected row) per pair, how many did not fit). Both or neither: cutting one
    side alone would teach the model to recognise the cut."""
    both = [tuple(answer_row(tokenizer, p["prompt"], p[side], p.get(f"{side}_ended", True))
                  for side in ("chosen", "rejected")) for p in pairs]
    fitting = [pair for pair in both if max(len(pair[0][0]), len(pair[1][0])) <= longest]
    return fitting, len(both) - len(fitting)


def last_layer_alone(model: RewardModel) -> None:
    """Freeze all but the last block, the final norm and the reward head: a few thousand noisy
    labels are too few for every layer. Trained all over, the model named .68 of the held-out pairs
    instead of .72, at twice the rate and in nearly twice the time (MEASURED.md)."""
    model.requires_grad_(False)
    for part in (model.blocks[-1], model.final_norm, model.reward_head):
        part.requires_grad_(True)


def train_reward_model(model: RewardModel, pairs: list[tuple], pad: int, *, steps: int, batch: int,
                       learning_rate: float, seed: int, progress: Progress | None = None,
                       precision: str = "fp32") -> list[dict]:
    """Fit the last layer and the head of `model` in place to pairs of rows; returns a log of loss
    and accuracy per step.

    A step takes `batch` questions with all their pairs, and computes every answer once (Ouyang et
    al. 2022, section 3.5).
    """
    groups = by_question(pairs)
    last_layer_alone(model)
    optimizer = optimizer_for(model.parameters(), learning_rate)
    start, log, _ = progress.resume(model, optimizer) if progress else (0, [], {})
    for step in tqdm(range(start, steps), desc="reward", initial=start, total=steps):
        set_rate(optimizer, learning_rate * linear_schedule(step, steps, max(1, steps // 10)))
        rows, places = distinct_rows([pair for g in batch_indices(len(groups), batch, step, seed)
                                      for pair in groups[g]])
        with in_precision(precision):
            scores = model.raw_score(*collate(rows, pad)).float()
        chosen, rejected = scores[places]
        loss = bradley_terry_loss(chosen, rejected).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        take_step(optimizer, model.parameters(), loss, step)
        right = torch.heaviside((chosen - rejected).detach(), chosen.new_tensor(0.5)).mean()
        log.append({"step": step + 1, "loss": loss.item(), "accuracy": float(right)})
        if progress:
            progress.save(step + 1, model, optimizer, log)
    return log


def parse() -> argparse.Namespace:
    """The command line, with --quick applied."""
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--sft", type=Path, default=result("sft.pt"))
    add("--preferences", type=Path, default=result("preferences.jsonl"))
    add("--train", type=Path, default=result("sft_train.jsonl"), help="questions to centre on")
    add("--out", type=Path, default=result("reward.pt"))
    add("--pairs", type=int, default=None, help="use only so many training pairs")
    add("--epochs", type=float, default=1.0)
    add("--batch", type=int, default=8, help="questions per step, all their pairs")
    add("--learning-rate", type=float, help="default: falls as 1 / width, 0.0025 at width 192")
    add("--precision", choices=("fp32", "bf16"), default=planned_precision(),
        help="default: what chapter 3 found faster here")
    add_common(parser)
    return parsed(parser)


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    inputs = [args.sft, args.preferences, args.train, args.tokenizer]
    job = Job(__file__, vars(args), reads=inputs, writes=[
        args.out, beside(args.out, "log.jsonl"), beside(args.out, "result.json")])
    if job.up_to_date():
        return
    sft, digest = open_model(args.sft, args.tokenizer, "05_posttrain/sft.py")
    tokenizer = open_tokenizer(args.tokenizer)
    pairs = read_pairs(args.preferences, "05_posttrain/preferences.py")
    pad, longest = special_id(tokenizer, PAD), sft.config.sequence_length
    train, long = pair_rows(tokenizer, [p for p in pairs if p["split"] == "train"][:args.pairs],
                            longest)
    val_pairs = [p for p in pairs if p["split"] == "val"]
    val, long_val = pair_rows(tokenizer, val_pairs, longest)
    if not train or not val:
        raise BadInput(f"{shown(args.preferences)} holds no pair that fits the context")
    if long + long_val:
        print(f"left out {long + long_val} pairs longer than the context of {longest} tokens")
    model = from_sft(sft, args.seed)
    rate = args.learning_rate or rate_for("reward", sft.config.width)
    with last_good_kept(args.out, model, "reward", digest, rate):
        log = train_reward_model(model, train, pad, batch=args.batch, seed=args.seed,
                                 steps=steps_for(train, args.batch, args.epochs),
                                 learning_rate=rate, precision=args.precision,
                                 progress=Progress(args.out, vars(args), inputs, args.fresh))
    questions = fresh_questions(read_conversations(args.train, "05_posttrain/instructions.py"),
                                48 if args.quick else 192)
    own = sample_answers(sft, tokenizer, questions, seed=args.seed + 7)
    model.centre([a.row for a in own if a.ids], pad)
    numbers = examine(model, val, val_pairs, pad) | {"train_pairs": len(train)}
    save_stage(args.out, model, "reward", digest, len(log))
    write_jsonl(beside(args.out, "log.jsonl"), log)
    write_json(beside(args.out, "result.json"), numbers)
    ceiling = f" (ceiling {numbers['ceiling']:.3f})" if numbers["ceiling"] else ""
    longer = numbers["longer_preferred"]
    print(f"accuracy on {numbers['pairs']} held-out pairs {numbers['accuracy']:.3f}{ceiling}, "
          f"calibration error {numbers['calibration_error']:.3f}, "
          f"correlation with length {numbers['length_correlation']:+.2f}; the longer answer is "
          f"preferred in {longer['model']:.2f} of the pairs (the labels: {longer['labels']:.2f})")
    print(f"wrote {shown(args.out)}")
    job.done()
    Progress(args.out, vars(args), inputs).done()


if __name__ == "__main__":
    command(main)
