"""How likely is each of several continuations? Many questions at once, each prompt read once.

    sums, tokens = option_log_probabilities(model, tokenizer, prompts, options)

Every option of a question begins with the same prompt. Read one by one, four options cost four
passes over the prompt; here the prompt is read once, its keys and values are copied to four rows,
and only the options' own tokens are added. `one_by_one` is the slow clear version: the same
numbers to 1e-4, a fifth of the questions per second (measured by the chapter's tests).
Leaves out: sharing the worked examples between the questions of one subject.
"""

from typing import Sequence

import numpy as np
import torch
from torch import Tensor

from artifacts import BadInput
from batch_generation import left_pad
from generate import KVCache


def encode_prompt(tokenizer, prompt: str, room: int) -> list[int]:
    """Token ids of a prompt as a document begins: <|endoftext|>, then its last room - 1 tokens."""
    ids = list(tokenizer.encode(prompt))
    # Not ids[-(room - 1):], which for a room of one keeps everything.
    return [tokenizer.special_tokens["<|endoftext|>"]] + ids[max(0, len(ids) - room + 1):]


@torch.no_grad()
def one_by_one(model, tokenizer, prompt: str, option: str) -> float:
    """log P(" " + option | prompt) in nats: one sequence, one pass, nothing shared.

    The prompt's last token predicts the option's first token, and so on; prompt tokens count
    nothing. A prompt too long for the context loses its beginning.
    """
    answer = list(tokenizer.encode(" " + option))
    ids = encode_prompt(tokenizer, prompt, model.config.sequence_length - len(answer)) + answer
    logits, _ = model(torch.tensor([ids[:-1]]))
    logprobs = logits[0].float().log_softmax(-1)
    # Row t of the logits speaks about token t + 1, so the option's rows are the last ones.
    return float(sum(logprobs[t, ids[t + 1]] for t in range(len(ids) - 1 - len(answer),
                                                            len(ids) - 1)))


def branch_cache(cache: KVCache, branches: int, room: int) -> KVCache:
    """A copy of a cache of B rows as B * branches rows, each row repeated, with `room` to grow."""
    wide = KVCache(len(cache.keys), cache.length + room)
    for layer, (keys, values) in enumerate(zip(cache.keys, cache.values)):
        for store, old in ((wide.keys, keys), (wide.values, values)):
            B, H, _, D = old.shape
            store[layer] = old.new_empty(B * branches, H, wide.capacity, D)
            store[layer][:, :, :cache.length] = (
                old[:, :, :cache.length].repeat_interleave(branches, dim=0))
    wide.newest = [k if k is None else k.repeat_interleave(branches, dim=0) for k in cache.newest]
    wide.length, wide.last = cache.length, cache.last.repeat_interleave(branches, dim=0)
    return wide


@torch.no_grad()
def score_batch(model, prompts: Sequence[list[int]], options: Sequence[list[list[int]]]) -> Tensor:
    """(B, M) log-probabilities of M options for each of B prompts, all given as token ids.

    What `one_by_one` gives, but each prompt is read once: `left_pad` makes a batch of the prompts,
    and `branch_cache` hangs M options on each. Prompts and options may differ in length, from one
    token on; M is any number, the same for all prompts. `model` has `config.layers`, `hidden(ids,
    cache=, positions=, mask=)` and `head`; probabilities are taken in float32.
    """
    M, device = len(options[0]), next(model.parameters()).device
    ids, pads = (z.to(device) for z in left_pad(prompts))
    B, T = ids.shape
    column = torch.arange(T, device=device)
    positions = (column - pads[:, None]).clamp(min=0)                           # (B, T)
    real = column >= pads[:, None]                                              # (B, T)
    # Causal, no pad is seen, except by itself: a softmax over nothing would be nan.
    mask = (column <= column[:, None]) & real[:, None, None, :]
    mask = mask | torch.eye(T, dtype=torch.bool, device=device)                 # (B, 1, T, T)
    cache = KVCache(model.config.layers, T)
    last = model.hidden(ids, cache=cache, positions=positions, mask=mask)[:, -1]
    # The prompt's last position predicts the first token of every option.
    opening = model.head(last).float().log_softmax(-1)                          # (B, V)
    flat = [option for four in options for option in four]                      # B * M lists
    first = torch.tensor([option[0] for option in flat], device=device).view(B, M)
    total = opening.gather(1, first)                                            # (B, M)
    L = max(len(option) for option in flat) - 1
    if L == 0:
        return total
    # The other tokens: four rows a question, padded at the right, where causality hides the pads.
    fed = torch.tensor([(option[:-1] + [0] * L)[:L] for option in flat], device=device)
    wanted = torch.tensor([(option[1:] + [-1] * L)[:L] for option in flat], device=device)
    step = torch.arange(L, device=device)
    seen = torch.cat([real.repeat_interleave(M, 0)[:, None, None, :].expand(-1, 1, L, -1),
                      (step <= step[:, None]).expand(B * M, 1, L, L)], dim=-1)
    after = (T - pads).repeat_interleave(M)[:, None] + step                     # (B M, L)
    hidden = model.hidden(fed, cache=branch_cache(cache, M, L), positions=after, mask=seen)
    used = wanted >= 0
    # Only real targets go through the head: it is the widest matrix of a small model.
    logprobs = model.head(hidden[used]).float().log_softmax(-1)
    gained = torch.zeros_like(wanted, dtype=torch.float32)
    gained[used] = logprobs.gather(1, wanted[used][:, None])[:, 0]
    return total + gained.sum(dim=1).view(B, M)


def option_log_probabilities(model, tokenizer, prompts: Sequence[str],
                             options: Sequence[Sequence[str]],
                             batch_tokens: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """(n, M) log P(" " + option | prompt) in nats, and (n, M) tokens of each option.

    The answer brings its own space, so that its tokens are those of the running text. Every
    question has the same number M of options. Batches hold questions of similar length, about
    `batch_tokens` tokens each; the result does not depend on it. Prompts too long for the context
    lose their beginning; an option longer than the context is BadInput: cut, it would be another.
    """
    coded = [[list(tokenizer.encode(" " + option)) for option in four] for four in options]
    limit = model.config.sequence_length
    for number, four in enumerate(coded, 1):
        if (longest := max(map(len, four))) > limit:
            raise BadInput(f"question {number} has an option of {longest} tokens, more than the "
                           f"model's context of {limit}: leave this question out")
    prefixes = [encode_prompt(tokenizer, prompt, limit - max(map(len, four)) + 1)
                for prompt, four in zip(prompts, coded, strict=True)]
    cost = [len(prefix) + sum(map(len, four)) for prefix, four in zip(prefixes, coded)]
    sums = np.zeros((len(prompts), len(coded[0])))
    batch: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: (cost[i], i)):
        if batch and cost[i] * (len(batch) + 1) > batch_tokens:
            sums[batch] = score_batch(model, [prefixes[j] for j in batch],
                                      [coded[j] for j in batch]).cpu().numpy()
            batch = []
        batch.append(i)
    sums[batch] = score_batch(model, [prefixes[j] for j in batch],
                              [coded[j] for j in batch]).cpu().numpy()
    return sums, np.array([[len(option) for option in four] for four in coded])
