"""The models that are measured, and how each of them is asked a question.

    contestants = open_contestants(default_paths(), tokenizer_path)
    answers = answer_all(contestants["sft"], tokenizer, ["What does numpy.sort do?"], seed=0)

A base model has never seen the chat template: it is given the bare question as the beginning of a
document. Every later stage gets <|user|>question<|assistant|>.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import torch

from artifacts import BadInput, out
from batch_generation import generate_batch
from chat_template import fit_prompt
from checkpoint import check_tokenizer, load_model

STAGES = {"base": ("04_model_pretrain", "base.pt"), "sft": ("05_posttrain", "sft.pt"),
          "dpo": ("05_posttrain", "dpo.pt"), "ppo": ("05_posttrain", "ppo.pt"),
          "grpo": ("05_posttrain", "grpo.pt")}


@dataclass(frozen=True)
class Contestant:
    """One model under test: its name on the boards, its stage, and the model itself."""

    name: str
    stage: str
    model: torch.nn.Module


def default_paths() -> dict[str, Path]:
    """{name: path} of the checkpoints that exist under out/, the base model first."""
    return {name: out(*parts) for name, parts in STAGES.items() if out(*parts).exists()}


def named_paths(specs: Sequence[str]) -> dict[str, Path]:
    """["mine=path.pt", "other.pt"] -> {"mine": path, "other": path}; BadInput on a name twice."""
    paths: dict[str, Path] = {}
    for spec in specs:
        name, _, path = spec.rpartition("=")
        name = name or Path(path).stem
        if name in paths:
            raise BadInput(f"two models are called {name!r}: write NAME=PATH for one of them")
        paths[name] = Path(path)
    return paths


def open_contestants(paths: dict[str, Path], tokenizer_path: Path) -> dict[str, Contestant]:
    """Load every checkpoint; BadInput if one is damaged or belongs to another tokenizer."""
    if not paths:
        raise BadInput("no checkpoint to measure: run python 04_model_pretrain/pretrain.py")
    contestants = {}
    for name, path in paths.items():
        model, checkpoint = load_model(path)
        check_tokenizer(checkpoint, tokenizer_path, path)
        contestants[name] = Contestant(name, checkpoint["stage"], model)
    return contestants


def prompt_for(tokenizer, stage: str, messages: list[dict], room: int | None = None) -> list[int]:
    """Token ids after which the model of this stage is to answer, at most `room` of them: the
    oldest turns go first, then the first words of the question, never who speaks.

    Base models continue a document that consists of what was said so far, one turn a line.
    """
    if stage != "base":
        return fit_prompt(tokenizer, messages, room or 10**9)
    said = "\n".join(message["content"] for message in messages) + "\n"
    ids = tokenizer.encode(said)
    return [tokenizer.special_tokens["<|endoftext|>"], *ids[-room + 1 if room else 0:]]


def stop_ids(tokenizer) -> tuple[int, ...]:
    """The tokens that end an answer: <|end|> of the chat template, <|endoftext|> of documents,
    and <|user|>, after which it is the reader's turn."""
    return tuple(tokenizer.special_tokens[name] for name in ("<|end|>", "<|endoftext|>",
                                                             "<|user|>"))


def answer_all(contestant: Contestant, tokenizer, questions: Sequence[str], seed: int,
               max_new_tokens: int = 48, temperature: float = 0.7, batch: int = 64) -> list[dict]:
    """One answer to each question: {"question", "text", "ended", "tokens"}, in order.

    Each batch draws from its own seeded generator, so that the same call answers the same.
    """
    limit = contestant.model.config.sequence_length
    # However long the answer may become, half of the context is the question's.
    stops, room = stop_ids(tokenizer), limit - min(max_new_tokens, limit // 2)
    prompts = [prompt_for(tokenizer, contestant.stage, [{"role": "user", "content": q}], room)
               for q in questions]
    answers = []
    for start in range(0, len(prompts), batch):
        digest = hashlib.sha256(f"{seed} {contestant.name} {start}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
        rows = generate_batch(contestant.model, prompts[start:start + batch], max_new_tokens,
                              temperature, stop=stops, generator=generator)
        for question, ids in zip(questions[start:], rows):
            ended = bool(ids) and ids[-1] in stops
            answers.append({"question": question, "ended": ended, "tokens": len(ids),
                            "text": tokenizer.decode(ids[:-1] if ended else ids).strip()})
    return answers
