"""Products with weights kept in 4, 8, 16 or 32 bits, filled with a matrix as its rows are read.

    product = Product8(768, [query, key, value])        # 768 rows in all, one below the other
    y = product(x)                                      # (N, C) -> (N, 768), float32

The room for a matrix is taken first, in its few bits, and filled some hundred rows at a time: in 32
bits there are never more of them, so that a process that loads a model is not larger than one
that has it. Below 32 bits vectors are rounded to 16, on a CPU.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from artifacts import BadInput

AT_ONCE = 256       # rows


class Product:
    """x @ W^T + b. `parts` are the matrices that W (rows, C) is made of, from top to bottom."""

    def __init__(self, rows: int, parts: Iterable[Tensor], bias: Tensor | None = None) -> None:
        self.bias, at = bias, 0
        for part in parts:
            for some in part.split(AT_ONCE):
                if at == 0:
                    self.allocate(rows, part.shape[1])
                self.put(at, some.float())
                at += len(some)
        self.finish()

    def finish(self) -> None:
        """What remains to be done when all rows are there."""

    def __call__(self, x: Tensor) -> Tensor:
        """x (N, C) float32 -> (N, rows) float32."""
        y = self.times(x)
        return y if self.bias is None else y + self.bias


class Product32(Product):
    """All of it in 32 bits; a matrix that is in memory already is not copied."""

    def __init__(self, rows: int, parts: Iterable[Tensor], bias: Tensor | None = None) -> None:
        parts, self.bias = [part.float() for part in parts], bias
        self.weight = parts[0] if len(parts) == 1 else torch.cat(parts)

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def look_up(self, ids: Tensor) -> Tensor:
        """Rows of W by their numbers: (N,) -> (N, C) float32."""
        return self.weight[ids]


class Product16(Product):
    """W in 16 bits."""

    def allocate(self, rows: int, columns: int) -> None:
        self.weight = torch.empty(rows, columns, dtype=torch.bfloat16)

    def put(self, at: int, some: Tensor) -> None:
        self.weight[at:at + len(some)] = some

    def times(self, x: Tensor) -> Tensor:
        # One vector: read 16-bit weights. Many: a processor without 16-bit products is 6 times
        # faster when the matrix is widened once.
        return F.linear(x.to(torch.bfloat16), self.weight).float() if len(x) <= 4 else \
            F.linear(x, self.weight.float())

    def look_up(self, ids: Tensor) -> Tensor:
        return self.weight[ids].float()


class Product8(Product):
    """W in 8 bits and a float32 scale for each row; x is rounded to 16 bits."""

    def allocate(self, rows: int, columns: int) -> None:
        self.rows, self.scale = torch.empty(rows, columns, dtype=torch.int8), torch.empty(rows)
        self.ones = torch.ones(rows, dtype=torch.bfloat16)

    def put(self, at: int, some: Tensor) -> None:
        scale = some.abs().amax(dim=1).clamp(min=1e-12) / 127
        self.scale[at:at + len(some)] = scale
        self.rows[at:at + len(some)] = (some / scale[:, None]).round_()

    def times(self, x: Tensor) -> Tensor:
        # torch's kernel would take the scale in 16 bits, a gain of its own for every row: ours
        # comes after, in 32
        y = torch._weight_int8pack_mm(x.to(torch.bfloat16), self.rows, self.ones).float() \
            if len(x) <= 4 else F.linear(x, self.rows.float())
        return y.mul_(self.scale)

    def look_up(self, ids: Tensor) -> Tensor:
        return self.rows[ids] * self.scale[ids, None]


class Product4(Product):
    """W in the 4 bits of Q4_1: 32 neighbours of a row share scale and minimum.

    The weights of a Q4_1 file come through unchanged, for every block of it uses both ends of its
    16 steps. x is rounded to 16 bits. BadInput for rows that are no whole blocks.
    """

    def allocate(self, rows: int, columns: int) -> None:
        if columns % 32:
            raise BadInput(f"4 bits come in blocks of 32 numbers, and this model has rows of "
                           f"{columns}: give --bits 8")
        self.packed = torch.empty(rows, columns // 2, dtype=torch.uint8)
        self.scale = torch.empty(columns // 32, rows, 2, dtype=torch.bfloat16)
        self.steps = torch.empty(rows, columns, dtype=torch.uint8)

    def put(self, at: int, some: Tensor) -> None:
        blocks = some.unflatten(1, (-1, 32))                                # (R, C / 32, 32)
        low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
        d = (high - low) / 15
        self.steps[at:at + len(some)] = ((blocks - low) / d.clamp(min=1e-30)).round_().flatten(1)
        # torch's kernel computes (q - 8) scale + zero
        pair = torch.cat([d, low + 8 * d], dim=-1)                          # (R, C / 32, 2)
        self.scale[:, at:at + len(some)] = pair.transpose(0, 1)

    def finish(self) -> None:
        # the kernel's order interleaves up to 64 rows: packed when all are there
        for packed, steps in zip(self.packed.split(AT_ONCE), self.steps.split(AT_ONCE)):
            packed.copy_(torch._convert_weight_to_int4pack_for_cpu(steps.to(torch.int32), 1))
        del self.steps

    def times(self, x: Tensor) -> Tensor:
        return torch._weight_int4pack_mm_for_cpu(x.to(torch.bfloat16), self.packed, 32,
                                                 self.scale).float()


PRODUCTS = {4: Product4, 8: Product8, 16: Product16, 32: Product32}
