"""Answers sampled from a model: many questions at once, with the KV cache of chapter 4.

    answers = sample_answers(model, tokenizer, ["What does numpy.argsort do?"], seed=1)
    answers[0].text, answers[0].ended
"""

from dataclasses import dataclass

import torch

from chat_template import END, fit_prompt, question, special_id
from generate import generate_batch


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


def sample_in_two(model, prompts: list[list[int]], max_new_tokens: int, temperature: float,
                  end: int, generator: torch.Generator, first: int = 16) -> list[list[int]]:
    """New tokens for every prompt: `first` of them for all, the rest for the unfinished only.

    A batch runs until its longest row has ended. Most answers are short: starting again with the
    few long ones costs one pass over what they have, and saves all the passes over ended rows.
    """
    how = dict(temperature=temperature, stop=(end,), generator=generator)
    begun = generate_batch(model, prompts, min(first, max_new_tokens), **how)
    open_rows = [i for i, ids in enumerate(begun) if ids and ids[-1] != end]
    if open_rows and max_new_tokens > first:
        rest = generate_batch(model, [prompts[i] + begun[i] for i in open_rows],
                              max_new_tokens - first, **how)
        for i, more in zip(open_rows, rest):
            begun[i] = begun[i] + more
    return begun


def sample_answers(model, tokenizer, questions: list[str], *, seed: int, temperature: float = 1.0,
                   max_new_tokens: int = 48, batch: int = 128) -> list[Answer]:
    """One answer to each question, in order; ask the same question n times for n answers.

    A question that leaves no room for the answer (or takes more than half the context, if that is
    more) loses its first words. Each batch has its own random generator from (seed, number of the
    batch): the same call gives the same answers.
    """
    end, limit = special_id(tokenizer, END), model.config.sequence_length
    room = limit - min(max_new_tokens, limit // 2)
    prompts = [fit_prompt(tokenizer, question(asked), room) for asked in questions]
    answers = []
    for start in range(0, len(prompts), batch):
        generator = torch.Generator().manual_seed(seed * 100_003 + start)
        part = prompts[start:start + batch]
        sampled = sample_in_two(model, part, max_new_tokens, temperature, end, generator)
        answers += [as_answer(tokenizer, asked, prompt, ids, end) for asked, prompt, ids
                    in zip(questions[start:start + batch], part, sampled)]
    return answers
