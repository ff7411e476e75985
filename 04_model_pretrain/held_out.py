"""Loss on held-out documents: nats per token as in training, and the one number of bits per byte.

    evaluation = Evaluation(shard, length=256, rows=8, precision="fp32", part=30_000)
    evaluation(model)                  # a fixed part, packed like the training rows: quick
    evaluation(model, whole=True)      # all documents: what the forecast is about
    held_out_bits(model, shard, 256)   # bits per byte, each token with half a row of context

A token at the beginning of a row has no context, and a row of 256 begins in the middle of most
documents. That is how the model was trained, so the forecast is about it; but it is not all that
the model can do, and a counting model sees its few tokens everywhere. Sliding windows are fair.
"""

from collections.abc import Iterator

import numpy as np
import torch

from batches import IGNORE, PackedBatches, Shard
from gpt import GPT
from training_loop import mean_loss

LN2 = 0.6931471805599453


class Evaluation:
    """Mean loss over the rows of a shard, each token once, as {val_loss}: nats per token."""

    def __init__(self, shard: Shard, length: int, rows: int, precision: str, part: int) -> None:
        self.batches = PackedBatches(shard, length, rows, shuffle=False, use_mixture=False)
        self.tokens_per_byte = float(shard.length.sum() / shard.bytes.sum())
        # neighbouring rows are of one document: a small part has to be drawn from all over
        self.drawn = PackedBatches(shard, length, rows, use_mixture=False)
        self.some = max(1, min(len(self.batches), part // (rows * length)))
        self.precision = precision

    def __call__(self, model: GPT, whole: bool = False) -> dict:
        """{val_loss} on a fixed part of the documents, or on all of them."""
        batches, count = ((self.batches, len(self.batches)) if whole else
                          (self.drawn, self.some))
        loss = mean_loss(model, batches, count, self.precision)
        return {"val_loss": round(loss, 6)}


def windows(lengths: np.ndarray, T: int) -> Iterator[tuple[int, int, int, int]]:
    """Windows of up to T tokens over documents of these lengths: (document, begin, counted, end).

    The window reads tokens begin to end and scores those from `counted` on, so that every token
    is scored once, and with at least T/2 tokens before it where the document has them. Lengths
    [7] with T = 4 give (0, 0, 0, 4), (0, 2, 4, 6), (0, 3, 6, 7).
    """
    for document, n in enumerate(lengths.tolist()):
        counted = 0
        while counted < n:
            # half a row of context, or more: the last window ends with the document
            begin = max(0, min(counted - T // 2, n - T))
            end = min(begin + T, n)
            yield document, begin, counted, end
            counted = end


def sliding_loss(model: GPT, shard: Shard, T: int, precision: str = "fp32", rows: int = 8
                 ) -> float:
    """Mean loss in nats per token of text over the shard's documents in overlapping windows; the
    end tokens are no text and do not count."""
    # windows of similar length side by side: hardly any padding
    todo = sorted(windows(shard.length, T), key=lambda w: (w[3] - w[1], w))

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = todo[step * rows:(step + 1) * rows]
        width = chosen[-1][3] - chosen[-1][1]
        ids = np.full((len(chosen), width), shard.eot, dtype=np.int64)
        targets = np.full_like(ids, IGNORE)
        for line, (document, begin, counted, end) in enumerate(chosen):
            start = shard.start[document]
            text = np.append(shard.eot, shard.tokens[start:start + end])
            ids[line, :end - begin] = text[begin:end]           # the token before each target
            wanted = text[counted + 1:end + 1]
            targets[line, counted - begin:end - begin] = np.where(wanted == shard.eot, IGNORE,
                                                                  wanted)
        return torch.from_numpy(ids), torch.from_numpy(targets)
    return mean_loss(model, batch, -(-len(todo) // rows), precision)


def held_out_bits(model: GPT, shard: Shard, T: int, precision: str = "fp32") -> float:
    """Bits per byte of the held-out documents: THE number of this project for a model of text.

    Nats of all tokens of text (not of the end tokens) over ln 2 and the bytes of the text, each
    token read with at least half a context of T before it. Chapter 6 computes the same.
    """
    last = shard.tokens[shard.start + shard.length - 1]
    count = int(shard.length.sum() - (last == shard.eot).sum())
    return sliding_loss(model, shard, T, precision) * count / LN2 / int(shard.bytes.sum())
