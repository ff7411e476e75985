"""Many continuations at once: ragged prompts in one batch, which shrinks as rows end.

    rows = generate_batch(model, [[5, 6, 7], [9]], max_new_tokens=48, stop=(end,))

What `generate` does for one text. A prompt that is there several times is read once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fast_decoding import packed
from generate import KVCache, choose
from gpt import GPT


def left_pad(prompts: Sequence[Sequence[int]], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Ragged prompts as one block, aligned at the right: ids (B, T), and how many pads each row
    begins with (B,). The next token then stands in the same column for every row."""
    T = max(map(len, prompts))
    rows = [[pad] * (T - len(p)) + list(p) for p in prompts]
    return torch.tensor(rows), torch.tensor([T - len(p) for p in prompts])


def read_prompts(model, prompts: list[list[int]], steps: int, device: torch.device
                 ) -> tuple[KVCache, Tensor, Tensor, Tensor]:
    """Read ragged prompts in one pass, each once, however often it is there: (cache with room for
    `steps` more tokens, ids (B, T), pads (B,), the last position's logits (B, V))."""
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    ids, pads = (z.to(device) for z in left_pad(list(numbers)))
    B, T = ids.shape
    column = torch.arange(T, device=device)
    real = column >= pads[:, None]                                                  # (B, T)
    # What fills a short row is its own last token, which no attention sees, and which counts as
    # used already: a pad of its own would be penalised as a repetition.
    ids = ids.where(real, ids[:, -1:])
    positions = mask = None
    if pads.any():
        # Real text starts at position 0 in every row, wherever its first column is. Causal, and
        # no pad is seen, except by itself: softmax over nothing would be NaN.
        positions = (column - pads[:, None]).clamp(min=0)                           # (B, T)
        mask = (column <= column[:, None]) & real[:, None, None]
        mask = mask | torch.eye(T, dtype=torch.bool, device=device)
    cache = KVCache(model.config.layers, T + steps)
    logits = model.head(model.hidden(ids, cache=cache, positions=positions, mask=mask)[:, -1])
    if len(numbers) < len(prompts):
        rows = torch.tensor([numbers[tuple(prompt)] for prompt in prompts], device=device)
        cache.take(rows)
        ids, pads, logits = ids[rows], pads[rows], logits[rows]
    return cache, ids, pads, logits


@torch.inference_mode()
def generate_batch(model: GPT, prompts: Sequence[Sequence[int]], max_new_tokens: int,
                   temperature: float = 1.0, top_k: int | None = None,
                   top_p: float | None = None, stop: Sequence[int] = (), *,
                   min_p: float | None = None, repetition_penalty: float = 1.0,
                   generator: torch.Generator | None = None, return_logprobs: bool = False
                   ) -> list[list[int]] | tuple[list[list[int]], list[list[float]]]:
    """Continue many prompts of different lengths at once; each row equals generating it alone.

    Gives the new tokens of each row. A row ends after a token of `stop`, which IS its last token
    (so a finished answer can be told from a cut one), after `max_new_tokens`, or when the longest
    row reaches the model's sequence length. Prompts longer than what leaves room for one token
    lose their oldest tokens. With `return_logprobs` also the log-probability of each token under
    the model itself (temperature 1, no filter).
    """
    device, limit = next(model.parameters()).device, model.config.sequence_length
    if not all(map(len, prompts)):
        raise ValueError("nothing to continue: begin with <|endoftext|>")
    model, prompts = packed(model), [[int(i) for i in p][-(limit - 1):] for p in prompts]
    new: list[list[int]] = [[] for _ in prompts]
    logprobs: list[list[float]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    steps = min(max_new_tokens, limit - max(map(len, prompts), default=limit))
    if steps < 1:
        return (new, logprobs) if return_logprobs else new
    cache, ids, pads, logits = read_prompts(model, prompts, steps, device)
    T, ragged = ids.shape[1], bool(pads.any())
    # `going` are the numbers of the rows in the batch. Once half of them have ended these leave it:
    # a row that has ended costs as much as one that has not.
    going = list(range(len(prompts)))
    for step in range(steps):
        token = choose(logits, ids, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
                       repetition_penalty=repetition_penalty, generator=generator)
        said = (logits.float().log_softmax(-1).gather(1, token[:, None])[:, 0].tolist()
                if return_logprobs else [0.0] * len(going))
        for number, drawn, value in zip(going, token.tolist(), said):
            if not ended[number]:
                new[number].append(drawn), logprobs[number].append(value)
                ended[number] = drawn in stop
        left = [place for place, number in enumerate(going) if not ended[number]]
        if not left or step + 1 == steps:
            break
        ids = torch.cat([ids, token[:, None]], dim=1)
        if 2 * len(left) <= len(going):
            rows = torch.tensor(left, device=device)
            cache.take(rows)
            ids, pads, going = ids[rows], pads[rows], [going[place] for place in left]
        positions = mask = None
        if ragged:
            positions = T + step - pads[:, None]                                    # (B, 1)
            mask = (torch.arange(T + step + 1, device=device) >= pads[:, None])[:, None, None]
        logits = model.head(model.hidden(ids[:, -1:], cache=cache, positions=positions,
                                         mask=mask)[:, -1])
    return (new, logprobs) if return_logprobs else new
