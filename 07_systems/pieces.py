"""One layout for everything that is sharded: N equal pieces of each tensor, side by side.

    packed = pack([weight, bias], ranks)        # (N, L): row r is what rank r owns
    weight, bias = unpack(packed, [weight.shape, bias.shape])

Each tensor is cut by elements into N equal pieces, the last one padded with zeros, so that rank r
owns exactly 1/N of every tensor (rounded up) and ONE collective moves any number of tensors.

Letters: N ranks, L elements of one rank's row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def piece_length(tensor: Tensor, ranks: int) -> int:
    """Elements in one rank's piece of `tensor`: its size divided by `ranks`, rounded up."""
    return -(-tensor.numel() // ranks)


def pack(tensors: list[Tensor], ranks: int) -> Tensor:
    """Lay out tensors for one collective: row r of the (N, L) result is rank r's share.

    A row holds the r-th piece of every tensor, one after another; each tensor is padded with
    zeros to N equal pieces. For N = 2, [1, 2, 3] and [4, 5] give [[1, 2, 4], [3, 0, 5]].
    """
    columns = []
    for tensor in tensors:
        # Zeros behind the tensor, until N pieces of equal length fill it.
        length = piece_length(tensor, ranks)
        padded = F.pad(tensor.flatten(), (0, length * ranks - tensor.numel()))
        columns.append(padded.view(ranks, length))
    # Side by side, so that one row is everything that goes to one rank.
    return torch.cat(columns, dim=1)


def unpack(packed: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    """The inverse of `pack`: the tensors of these shapes out of the (N, L) layout."""
    ranks, tensors, column = packed.shape[0], [], 0
    for shape in shapes:
        # This tensor's pieces stand in the same columns of every row.
        length = -(-shape.numel() // ranks)
        flat = packed[:, column:column + length].reshape(-1)
        # Without the padding, in its own shape again.
        tensors.append(flat[:shape.numel()].view(shape))
        column += length
    return tensors
