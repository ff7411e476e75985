"""Rows of prompt + answer: collated into a batch, and scored token by token.

Every stage after pretraining looks at the same thing: the log-probabilities that a model gives to
the tokens of an answer. The conventions live here once:

- rows are padded on the RIGHT with a pad token. Attention is causal, so no real token ever sees a
  pad and no attention mask is needed; padding more changes nothing (a test holds this);
- the logits at position t predict the token at t + 1, so the mask is shifted with the targets:
  `mask[:, 1:]`. The first token of the answer is predicted by <|assistant|>, and is included.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def collate(rows: list[tuple[list[int], list[int]]], pad: int) -> tuple[Tensor, Tensor]:
    """Rows of (ids, mask) -> ids (B, T) long and mask (B, T) float, padded on the right.

    T is the longest row. Pads carry mask 0.
    `collate([([5, 6], [0, 1]), ([7], [0])], pad=9)` -> [[5, 6], [7, 9]], [[0, 1], [0, 0]].
    """
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros(len(rows), width)
    for row, (row_ids, row_mask) in enumerate(rows):
        ids[row, :len(row_ids)] = torch.tensor(row_ids)
        mask[row, :len(row_mask)] = torch.tensor(row_mask, dtype=mask.dtype)
    return ids, mask


def distinct_rows(pairs: list[tuple]) -> tuple[list[tuple], Tensor]:
    """Pairs of rows -> (each row once, (2, P) which of them is a pair's chosen, its rejected one).

    Four answers to a question make six pairs, twelve rows, and four of them to compute.
    """
    places, rows = {}, []
    for row in (row for side in zip(*pairs) for row in side):
        key = (tuple(row[0]), tuple(row[1]))
        if key not in places:
            places[key] = len(rows)
            rows.append(row)
    return rows, torch.tensor([[places[tuple(row[0]), tuple(row[1])] for row in side]
                               for side in zip(*pairs)])


def by_question(pairs: list[tuple]) -> list[list[tuple]]:
    """Pairs of rows -> the pairs of each question together, questions in order of appearance."""
    groups: dict[tuple, list[tuple]] = {}
    for pair in pairs:
        ids, mask = pair[0]
        asked = mask.index(1) if 1 in mask else len(mask)      # an empty answer is all question
        groups.setdefault(tuple(ids[:asked]), []).append(pair)
    return list(groups.values())


def steps_for(pairs: list[tuple], batch: int, epochs: float) -> int:
    """How many steps of `batch` questions are `epochs` passes over the pairs; at least 1."""
    return max(1, round(epochs * len(by_question(pairs)) / batch))


def token_logprobs(logits: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Logits (B, T, V) and ids (B, T) -> log-probability of each next token, (B, T - 1).

    Entry t is log p(ids[t + 1] | ids[:t + 1]): the logits of the last position predict nothing
    that is here, the first token is predicted by nothing. The logits are divided by the sampling
    temperature, so that these are the probabilities the answer was really drawn with.
    Two tokens with logits [[0, ln 3], [0, 0]] and ids [0, 1] -> [ln(3/4)] = [-0.288].
    Float64 logits give float64 results.
    """
    # The logits at t speak about the token at t + 1.
    predictions, targets = logits[:, :-1] / temperature, ids[:, 1:]
    # Cross-entropy is minus the log-probability, computed without overflow.
    return -F.cross_entropy(predictions.flatten(0, 1), targets.flatten(),
                            reduction="none").view(targets.shape)


def answer_logits(model, ids: Tensor, mask: Tensor, hidden: Tensor | None = None) -> Tensor:
    """The logits that predict the answer's tokens, and no others: (answer tokens, V).

    The head is a third of a small model's work, and half of a row is prompt: leaving the prompt's
    logits out saves a fifth of the time. `hidden` (B, T, C), if it was computed already.
    """
    hidden = model.hidden(ids) if hidden is None else hidden
    return model.head(hidden[:, :-1][mask[:, 1:] > 0])


def spread_over(values: Tensor, mask: Tensor) -> Tensor:
    """One number per answer token -> (B, T - 1), 0 everywhere else; the way back of the above."""
    answer = mask[:, 1:] > 0
    return torch.zeros(answer.shape, dtype=values.dtype).masked_scatter(answer, values)


def response_logprobs(model, ids: Tensor, mask: Tensor, temperature: float = 1.0,
                      logits: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(per-token log-probabilities, shifted mask), both (B, T - 1), zero outside the answer.

    ids, mask (B, T) as `collate` makes them. `logits` (answer tokens, V) if already computed.
    """
    answer = mask[:, 1:]
    logits = answer_logits(model, ids, mask) if logits is None else logits
    said = ids[:, 1:][answer > 0]
    logprobs = -F.cross_entropy(logits / temperature, said, reduction="none")
    return spread_over(logprobs, mask), answer


def sequence_logprobs(model, ids: Tensor, mask: Tensor) -> Tensor:
    """log p(answer | prompt), (B,): the SUM over the tokens of the answer, the end included.

    A sum, never a mean: it is the log-probability of the whole answer, and DPO's derivation is
    about whole answers.
    """
    logprobs, _ = response_logprobs(model, ids, mask)
    return logprobs.sum(1)


def token_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of each next-token distribution, (..., V) -> (...). Uniform over V: ln V.

    Safe for large logits: they enter through the log-softmax only.
    """
    logprobs = logits.log_softmax(-1)
    # A token that cannot come (logit -inf) adds 0 ln 0 = 0, not nan.
    return -(logprobs.exp() * logprobs.masked_fill(logprobs == -torch.inf, 0)).sum(-1)


def only_real(values: Tensor, mask: Tensor) -> Tensor:
    """`values` where mask is not 0, and 0 elsewhere, whatever stands there: nan * 0 is nan, so a
    product with the mask would let one bad pad into every sum."""
    return torch.where(mask > 0, values, 0.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where mask is 1; 0 (not nan) if the mask is empty.

    `masked_mean([1, 2, nan], [1, 1, 0])` is 1.5: pads are neither summed nor counted.
    """
    return only_real(values, mask).sum() / mask.sum().clamp(min=1)


def in_order_of_length(rows: list, batch: int) -> list[list[int]]:
    """Batches of row indices, longest rows together, so that little is padded: for scoring only."""
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i][0]), i))
    return [order[i:i + batch] for i in range(0, len(order), batch)]


@torch.no_grad()
def score_rows(function, rows: list[tuple[list[int], list[int]]], pad: int,
               batch: int = 64) -> Tensor:
    """`function(ids, mask) -> (B,)` over all rows, in batches of similar length, order kept."""
    result = torch.zeros(len(rows))
    for indices in in_order_of_length(rows, batch):
        result[indices] = function(*collate([rows[i] for i in indices], pad)).float()
    return result
