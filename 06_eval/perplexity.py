"""Perplexity: between how many tokens does the model hesitate, and what does that cost per byte?

    from perplexity import evaluate_perplexity
    report = evaluate_perplexity(model, documents, start=end_of_text, byte_counts=sizes)

Each document is read on its own, after <|endoftext|>; that marker itself is neither counted in
nats nor in bytes. Long documents go through overlapping windows, so that every token is predicted
once, with at least `context - stride` tokens before it. The result does not depend on the batch.
Perplexity is per token, so it compares models with the same tokenizer only; bits per byte compares
all. Leaves out: compression by arithmetic coding, which would reach these bits within a byte.
"""

import math
from typing import Sequence

import numpy as np
import torch

LN2 = math.log(2.0)


def bits_per_byte(total_nats: float, total_bytes: int) -> float:
    """Bits the model needs per byte of UTF-8 text: total_nats / (ln 2 * total_bytes).

    Nats and bytes must cover the same tokens; special tokens count in neither. A uniform guess
    over 256 bytes is 8 bits. No bytes, or nats or bytes that are nan: ValueError.
    Example: 693.147 nats over 500 bytes -> 2.0.
    """
    # Nothing over nothing is no number: refuse before dividing.
    if not total_bytes > 0:
        raise ValueError("bits per byte of no text is not defined")
    if math.isnan(total_nats):
        raise ValueError("the nats are nan: the model gave a token no probability")
    # One bit is ln 2 nats.
    return total_nats / (LN2 * total_bytes)


def windows(length: int, context: int, stride: int) -> list[tuple[int, int, int]]:
    """(start, end, fresh) of overlapping windows that predict each of `length` tokens once.

    Window inputs are start..end - 1 of the sequence <|endoftext|> + document (length + 1 tokens,
    the last of which is only ever a target); the targets start + 1 .. end from `fresh` on are new.
    Example: 10 tokens, context 6, stride 3 -> (0, 6, 1), (3, 9, 7), (4, 10, 10): the last window
    is moved back to be full. No tokens: no window. ValueError if the stride is not in 1 .. context:
    tokens would be lost.
    """
    if not 0 < stride <= context:
        raise ValueError(f"stride {stride} must lie in 1 .. {context}, the context")
    spans, end = [], 0
    while end < length:
        # What earlier windows have predicted stays theirs: the new targets begin behind it.
        fresh = end + 1
        # The first window takes all it can; each later one moves by the stride, at most to the end.
        end = min(length, context if end == 0 else end + stride)
        spans.append((max(0, end - context), end, fresh))
    return spans


@torch.no_grad()
def token_losses(model, documents: Sequence[Sequence[int]], start: int, context: int | None = None,
                 stride: int | None = None, batch_tokens: int = 2048
                 ) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Nats of every token of every document, and the entropy (nats) of the model's guess there.

    documents: lists of token ids without the separator `start`, which is put in front. context:
    at most the model's own; stride: half of it. Returns two lists of arrays, one number a token.
    """
    context = min(context or model.config.sequence_length, model.config.sequence_length)
    stride = stride or max(1, context // 2)
    nats = [np.zeros(len(d)) for d in documents]
    entropies = [np.zeros(len(d)) for d in documents]
    spans = [(i, *span) for i, d in enumerate(documents) for span in windows(len(d), context,
                                                                             stride)]
    spans.sort(key=lambda s: (s[2] - s[1], s[0], s[1]))         # equal lengths: little padding
    device, at = next(model.parameters()).device, 0
    while at < len(spans):
        rows = max(1, batch_tokens // (spans[at][2] - spans[at][1]))
        batch = spans[at:at + rows]
        at += len(batch)
        T = max(end - begin for _, begin, end, _ in batch)
        inputs = np.full((len(batch), T), start, dtype=np.int64)
        targets = np.zeros((len(batch), T), dtype=np.int64)
        for row, (i, begin, end, _) in enumerate(batch):
            text = [start, *documents[i][:end]] if begin == 0 else documents[i][begin - 1:end]
            inputs[row, :end - begin], targets[row, :end - begin] = text[:-1], text[1:]
        hidden = model.hidden(torch.from_numpy(inputs).to(device))
        for row, (i, begin, end, fresh) in enumerate(batch):
            # Only the new targets go through the head; pads at the right never do.
            new = slice(fresh - 1 - begin, end - begin)
            logprobs = model.head(hidden[row, new][None])[0].float().log_softmax(-1)
            wanted = torch.from_numpy(targets[row, new]).to(device)
            nats[i][fresh - 1:end] = -logprobs.gather(1, wanted[:, None])[:, 0].cpu().numpy()
            entropies[i][fresh - 1:end] = -(logprobs.exp() * logprobs).sum(-1).cpu().numpy()
    return nats, entropies


def evaluate_perplexity(model, documents: Sequence[Sequence[int]], *, start: int,
                        byte_counts: Sequence[int], domains: Sequence[str] | None = None,
                        context: int | None = None, stride: int | None = None,
                        batch_tokens: int = 2048) -> dict:
    """Perplexity, bits per byte and effective choices of a model on held-out documents.

    documents: token ids of each document without <|endoftext|> (`start`); byte_counts: UTF-8 bytes
    of each; domains: a name for each, for a table by domain. Returns tokens, bytes, nats,
    loss (nats per token), perplexity = exp(loss), effective_choices = exp(mean entropy), the number
    of equally likely tokens that would leave the model as unsure as it says it is, bits_per_byte,
    interval (95 % of bits per byte, documents drawn with replacement), by_domain and by_position.
    No tokens at all: ValueError.
    """
    if not sum(map(len, documents)):
        raise ValueError("no tokens to measure")
    nats, entropies = token_losses(model, documents, start, context, stride, batch_tokens)
    per_document = np.array([n.sum() for n in nats])
    sizes = np.asarray(byte_counts, dtype=float)
    report = summarise_losses(nats, entropies, sizes)
    # Documents without a byte can be in no ratio: they are not drawn.
    real = np.flatnonzero(sizes > 0)
    draws = real[np.random.default_rng(0).integers(0, len(real), (200, len(real)))]
    resampled = per_document[draws].sum(axis=1) / (LN2 * sizes[draws].sum(axis=1))
    report["interval"] = [float(x) for x in np.percentile(resampled, [2.5, 97.5])]
    report["by_position"] = by_position(nats)
    report["by_domain"] = {}
    for name in sorted(set(domains or ())):
        rows = [i for i, domain in enumerate(domains) if domain == name]
        if not sum(len(nats[i]) for i in rows):
            continue
        report["by_domain"][name] = summarise_losses(
            [nats[i] for i in rows], [entropies[i] for i in rows], sizes[rows])
    return report


def summarise_losses(nats: Sequence[np.ndarray], entropies: Sequence[np.ndarray],
                     byte_counts: np.ndarray) -> dict:
    """Totals: tokens, bytes, nats, loss, perplexity, effective_choices, bits_per_byte.

    nats and entropies: a number per token, an array per document. perplexity = exp(mean nats),
    effective_choices = exp(mean entropy). Means are over tokens, never means of documents' or
    batches' means, and right to five digits also of many tokens in float32.
    Example: nats [[1, 2, 3], [10]] -> loss 4.0 (not 6.0, the mean of the two means).
    """
    # Totals over all documents first; divide once, at the end.
    tokens = sum(map(len, nats))
    total = float(sum(n.sum() for n in nats))
    surprise = float(sum(e.sum() for e in entropies))
    # exp(mean loss) is the perplexity; exp(mean entropy) asks the model itself how many tokens
    # it hesitates between, whatever the right one was.
    return {"tokens": tokens, "bytes": int(sum(byte_counts)), "nats": total,
            "loss": total / tokens, "perplexity": exp(total / tokens),
            "effective_choices": exp(surprise / tokens),
            "bits_per_byte": bits_per_byte(total, sum(byte_counts))}


def exp(nats: float) -> float:
    """e^nats; infinity beyond what a float can hold, where math.exp raises OverflowError."""
    return math.inf if nats >= 709.78 else math.exp(nats)


def by_position(nats: Sequence[np.ndarray]) -> list[dict]:
    """Mean nats by place in the document, in groups that double: 1, 2-3, 4-7, 8-15, ...

    Each row: first, last (places counted from 1), tokens, loss. Later places have more context.
    """
    longest = max(map(len, nats))
    rows, first = [], 1
    while first <= longest:
        values = np.concatenate([n[first - 1:2 * first - 1] for n in nats])
        rows.append({"first": first, "last": min(2 * first - 1, longest), "tokens": len(values),
                     "loss": float(values.mean())})
        first *= 2
    return rows
