"""Packing: several short conversations in one row, as if each were alone.

A conversation here is 40 tokens and a row of the model 256: padding would waste five sixths of
the work. Packed rows waste little, and equal the unpacked ones exactly if two things are done:
attention may not cross from one conversation into its neighbour (a block-diagonal mask), and every
conversation counts its positions from 0. A test compares the logits with and without packing.
"""

import torch
from torch import Tensor

Row = tuple[list[int], list[int]]


def best_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    """Indices of `lengths` in bins that each sum to at most `capacity`, by best-fit decreasing.

    The longest go first, each into the fullest bin with room for it (of equally full ones the
    first), else into a new one. Bins stand in the order in which they were opened.
    best_fit([3, 6, 4, 7], 10) -> [[3, 0], [1, 2]] (7 + 3, 6 + 4). Ties keep the input order.
    Raises ValueError that names the index of a length above the capacity.
    """
    bins, free = [], []
    # Long ones first: the short ones fill the gaps that are left.
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[i] > capacity:
            raise ValueError(f"item {i} of length {lengths[i]} does not fit {capacity}")
        # The bin with the least room that still suffices.
        fitting = [b for b in range(len(bins)) if free[b] >= lengths[i]]
        if fitting:
            best = min(fitting, key=lambda b: free[b])
        else:
            best = len(bins)
            bins.append([])
            free.append(capacity)
        bins[best].append(i)
        free[best] -= lengths[i]
    return bins


def packed_batch(rows: list[Row], capacity: int,
                 pad: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of (ids, mask) -> ids, mask, positions, conversation numbers, each (B, T) with T at
    most `capacity`.

    Positions count from 0 in every conversation. Conversations are numbered from 0 within their
    row; pads have number -1, mask 0 and position 0. The mask of a conversation's first token is
    always 0: alone, nothing predicts it, and here only its neighbour could.
    """
    bins = best_fit([len(ids) for ids, _ in rows], capacity)
    width = max(sum(len(rows[i][0]) for i in b) for b in bins)
    ids = torch.full((len(bins), width), pad, dtype=torch.long)
    mask = torch.zeros(len(bins), width)
    positions = torch.zeros(len(bins), width, dtype=torch.long)
    numbers = torch.full((len(bins), width), -1, dtype=torch.long)
    for b, members in enumerate(bins):
        start = 0
        for number, i in enumerate(members):
            row_ids, row_mask = rows[i]
            here = slice(start, start + len(row_ids))
            ids[b, here] = torch.tensor(row_ids)
            mask[b, here] = torch.tensor([0, *row_mask[1:]], dtype=mask.dtype)
            positions[b, here] = torch.arange(len(row_ids))
            numbers[b, here] = number
            start += len(row_ids)
    return ids, mask, positions, numbers


def block_mask(numbers: Tensor) -> Tensor:
    """Conversation numbers (B, T) -> who may attend to whom, bool (B, 1, T, T), True = may.

    A token sees itself and what came before it in its own conversation, nothing else. Pads (-1)
    see each other and themselves only: a row of the mask without any True would give nan.
    [[0, 0, 1]] -> [[T, F, F], [T, T, F], [F, F, T]].
    """
    T = numbers.shape[1]
    # The same conversation, ...
    same = numbers[:, :, None] == numbers[:, None, :]
    # ... and not the future.
    causal = torch.ones(T, T, dtype=torch.bool, device=numbers.device).tril()
    return (same & causal)[:, None]
