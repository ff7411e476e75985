"""A target outside the vocabulary is a mistake of the data: say so where it is, on every rank."""

import torch
from torch import Tensor


def check_tokens(ids: Tensor, vocab_size: int) -> None:
    """IndexError unless every id is a token 0 .. vocab_size - 1, as F.embedding says it where the
    table is whole: split over ranks, nobody has the row, and all would add up zeros."""
    check_targets(torch.where(ids == -100, -1, ids), vocab_size)


def check_targets(targets: Tensor, vocab_size: int) -> None:
    """IndexError unless every target is -100 (ignored) or a token 0 .. vocab_size - 1.

    F.cross_entropy does the same. On a GPU nobody waits for the answer: the failed check ends the
    process at the next synchronisation, as torch's own does.
    """
    wrong = (targets != -100) & ((targets < 0) | (targets >= vocab_size))
    if wrong.is_cuda:
        torch._assert_async(~wrong.any(), "a target is outside of the vocabulary")
    elif not wrong.is_meta and wrong.any():
        raise IndexError(f"target {int(targets[wrong][0])} is out of bounds: tokens are 0 to "
                         f"{vocab_size - 1}, and -100 is ignored")
