"""Answers sampled from a model: many questions at once, with the KV cache of chapter 4.

    answers = sample_answers(model, tokenizer, ["What does numpy.argsort do?"], seed=1)
    answers[0].text, answers[0].ended
"""

from dataclasses import dataclass

import torch
from tqdm import tqdm

from batch_generation import generate_batch
from chat_template import END, fit_prompt, question, special_id


@dataclass(frozen=True)
class Answer:
    """One sampled answer. `ids` ends with <|end|> exactly if `ended`; `row` is (ids, mask) of
    prompt and answer together, as `responses.collate` takes it."""
    question: str
    text: str
    ended: bool
    ids: list[int]
    row: tuple[list[int], list[int]]


def as_answer(tokenizer, question: str, prompt: list[int], ids: list[int], end: int) -> Answer:
    """The sampled `ids` behind `prompt` as an Answer."""
    ended = bool(ids) and ids[-1] == end
    text = tokenizer.decode(ids[:-1] if ended else ids).strip()
    mask = [0] * len(prompt) + [1] * len(ids)
    return Answer(question, text, ended, ids, (prompt + ids, mask))


def sample_answers(model, tokenizer, questions: list[str], *, seed: int, temperature: float = 1.0,
                   max_new_tokens: int = 60, batch: int = 128, desc: str = "") -> list[Answer]:
    """One answer to each question, in order; ask the same question n times for n answers.

    A question that leaves no room for the answer (or takes more than half the context, if that is
    more) loses its first words. Questions of similar length are answered together, and each batch
    has its own random generator from (seed, number of the batch): the same call gives the same
    answers.
    """
    end, limit = special_id(tokenizer, END), model.config.sequence_length
    room = limit - min(max_new_tokens, limit // 2)
    prompts = [fit_prompt(tokenizer, question(asked), room) for asked in questions]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: list[Answer | None] = [None] * len(prompts)
    for start in tqdm(range(0, len(prompts), batch), desc=desc, disable=not desc):
        part = order[start:start + batch]
        generator = torch.Generator().manual_seed(seed * 100_003 + start)
        sampled = generate_batch(model, [prompts[i] for i in part], max_new_tokens, temperature,
                                 stop=(end,), generator=generator)
        for i, ids in zip(part, sampled):
            answers[i] = as_answer(tokenizer, questions[i], prompts[i], ids, end)
    return answers


def sample_rounds(model, tokenizer, questions: list[str], rounds: int, **how) -> list[list[Answer]]:
    """`rounds` answers to every question, a list a round. All of them together: then the model
    reads each question once. `how`: as `sample_answers`."""
    answers = sample_answers(model, tokenizer, [q for q in questions for _ in range(rounds)], **how)
    return [answers[k::rounds] for k in range(rounds)]
