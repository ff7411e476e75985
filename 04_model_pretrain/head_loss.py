"""The loss of a batch, without its logits: they are made, used and forgotten in pieces.

    loss = training_loss(model, ids, targets)       # model(ids, targets)[1], and faster on a CPU

A vocabulary of 4,096 makes 16 MB of logits from 1,024 tokens, and the plain way carries them to
memory and back some eight times: logits, logarithms, shares, zeros, gradients. 128 rows of them
stay in the processor's cache. And what `backward` needs of them is already known in forward: the
gradient of a row is its softmax, less one at the target. Where no gradient is asked for, rows that
do not count are not even made: of overlapping windows that is half.
Leaves out: GPUs, ranks and compiled models, which take the plain way (chapter 7 has theirs).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt import GPT, at_least_32_bits

ROWS = 128              # of logits at a time: 2 MB for 4,096 tokens
SMALL = 1 << 19         # so many logits stay in the cache anyway


class HeadLoss(torch.autograd.Function):
    """Summed cross-entropy in nats of logits hidden weight^T; both gradients made in forward."""
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype
                ) -> Tensor:
        # products in `dtype`, exponentials and sums in 32 bits or more
        narrow = weight.to(dtype)
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        total = hidden.new_zeros((), dtype=at_least_32_bits(hidden).dtype)
        place = hidden.new_empty(ROWS, len(weight), dtype=dtype)    # where all pieces are made
        for start in range(0, len(hidden), ROWS):
            rows = slice(start, start + ROWS)
            x, target = hidden[rows].to(dtype), targets[rows, None]
            counted = target != -100                                            # (n, 1)
            target = target.clamp(min=0)
            logits = at_least_32_bits(torch.mm(x, narrow.T, out=place[:len(x)]))    # (n, V)
            logits.sub_(logits.amax(1, keepdim=True))       # no exponential overflows
            right = logits.gather(1, target)
            sums = logits.exp_().sum(1, keepdim=True)
            total += (sums.log() - right)[counted].sum()
            # d loss / d logits: the softmax, less one at the target; nothing where nobody counts
            gradient = logits.div_(sums).scatter_add_(1, target, -torch.ones_like(right))
            if not counted.all():
                gradient.masked_fill_(~counted, 0)      # not times 0: nan times 0 is nan
            gradient = gradient.to(dtype)
            d_hidden[rows] = gradient @ narrow
            if dtype == weight.dtype:
                d_weight.addmm_(gradient.T, x)
            else:
                d_weight += gradient.T @ x
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx, d_loss: Tensor) -> tuple:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * d_loss, d_weight * d_loss, None, None


def loss_alone(hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Summed cross-entropy in nats of the rows that count, as HeadLoss makes it; no gradients."""
    counted = targets != -100
    narrow, total = weight.to(dtype), hidden.new_zeros((), dtype=at_least_32_bits(hidden).dtype)
    for x, target in zip(hidden[counted].to(dtype).split(ROWS), targets[counted].split(ROWS)):
        total += F.cross_entropy(at_least_32_bits(x @ narrow.T), target, reduction="sum")
    return total


def training_loss(model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
    """`model(ids, targets)[1]` and the same gradients: mean cross-entropy in nats, -100 left out.

    The short way for a `GPT` on a CPU whose head is one matrix; any other model is called, and so
    is any for a batch of no more than SMALL logits.
    """
    plain = type(model) is GPT and type(model.lm_head) is nn.Linear and ids.device.type == "cpu"
    small = plain and ids.numel() * model.config.vocab_size <= SMALL
    if not plain or small or model.lm_head.bias is not None:
        return model(ids, targets)[1]
    wrong = (targets != -100) & ((targets < 0) | (targets >= model.config.vocab_size))
    if wrong.any():                             # as F.cross_entropy says it
        raise IndexError(f"Target {int(targets[wrong][0])} is out of bounds.")
    hidden = model.hidden(ids).flatten(0, 1)                                    # (B T, C)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
    with torch.autocast("cpu", enabled=False):
        make = HeadLoss.apply if torch.is_grad_enabled() else loss_alone
        total = make(hidden, model.lm_head.weight, targets.flatten(), dtype)
    return total / (targets != -100).sum().clamp(min=1)
