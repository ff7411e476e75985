"""What processes say to each other: seven verbs on torch.distributed, and a recorder around them.

    with record() as calls:
        all_reduce(gradient)
    print(sent_bytes(calls), [call.name for call in calls])

Every parallel method of this chapter speaks only through these verbs, so that one recorder can
count its traffic to the byte. A call's cost is what one rank sends in the ring algorithm of its
collective (Patarasuk and Yuan 2009): the least possible for large messages. But: it counts bytes,
not time; a slow link or a bad topology does not show here.

Letters: n elements of a tensor, N ranks of the group.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

# torch 2.13 renamed these two; the old names still work there, with a warning.
_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_recorders: list[list["Call"]] = []     # a stack, so that recordings may nest


@dataclass(frozen=True)
class Call:
    """One collective as one rank saw it: its name, its full tensor's bytes, the bytes it sent."""
    name: str
    payload: int
    sent: float


def ring_bytes(name: str, payload: int, ranks: int) -> float:
    """Bytes that one rank sends for a collective on a full tensor of `payload` bytes.

    all_gather and reduce_scatter: payload (N-1)/N, every piece passes every link but one.
    all_reduce: twice that, because it is a reduce-scatter followed by an all-gather.
    broadcast: payload (N-1)/N on average. ring_bytes("all_reduce", 100, 4) is 150.
    Source: Rajbhandari et al. 2020 (ZeRO), section 7.
    """
    # One trip round the ring moves each of the N pieces over N - 1 links.
    one_trip = payload * (ranks - 1) / ranks
    # An all-reduce goes round twice: once to add up, once to hand the sums out.
    return 2 * one_trip if name == "all_reduce" else one_trip


@contextlib.contextmanager
def record() -> Iterator[list[Call]]:
    """Collect every collective that this process makes inside the `with` block."""
    calls: list[Call] = []
    _recorders.append(calls)
    try:
        yield calls
    finally:
        _recorders.remove(calls)


def sent_bytes(calls: list[Call], name: str | None = None) -> float:
    """Bytes that this rank sent in `calls`, of all collectives or of one."""
    return sum(call.sent for call in calls if name in (None, call.name))


def _note(name: str, payload: int, sent: float) -> None:
    for calls in _recorders:
        calls.append(Call(name, payload, sent))


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _note_ring(name: str, tensor: Tensor, group) -> None:
    _note(name, _size(tensor), ring_bytes(name, _size(tensor), dist.get_world_size(group)))


def all_reduce(tensor: Tensor, group=None, *, op=dist.ReduceOp.SUM, wait: bool = True):
    """Every rank's `tensor` becomes the sum (or op) over ranks, in place. Without `wait`: gives a
    handle, and the tensor must not be touched before `handle.wait()`."""
    _note_ring("all_reduce", tensor, group)
    return dist.all_reduce(tensor, op=op, group=group, async_op=not wait)


def all_gather(piece: Tensor, group=None) -> Tensor:
    """(n, ...) on each rank -> (N n, ...) on all: the ranks' pieces, one after another."""
    ranks = dist.get_world_size(group)
    full = piece.new_empty(ranks * piece.shape[0], *piece.shape[1:])
    _note_ring("all_gather", full, group)
    _gather(full, piece.contiguous(), group=group)
    return full


def reduce_scatter(full: Tensor, group=None) -> Tensor:
    """(N n, ...) on each rank -> (n, ...): rank r gets the r-th piece of the sum over ranks."""
    ranks = dist.get_world_size(group)
    piece = full.new_empty(full.shape[0] // ranks, *full.shape[1:])
    _note_ring("reduce_scatter", full, group)
    _scatter(piece, full.contiguous(), group=group)
    return piece


def broadcast(tensor: Tensor, group=None) -> None:
    """Every rank's `tensor` becomes the first rank's, in place."""
    _note_ring("broadcast", tensor, group)
    dist.broadcast(tensor, src=dist.get_global_rank(group or dist.group.WORLD, 0), group=group)


def all_to_all(rows: Tensor, send: list[int], receive: list[int], group=None) -> Tensor:
    """Rows for everyone -> rows from everyone. `rows` (sum(send), ...) holds first the send[0]
    rows for rank 0, and so on; the result (sum(receive), ...) holds them in order of origin."""
    received = rows.new_empty(sum(receive), *rows.shape[1:])
    per_row = _size(rows[:1]) if rows.shape[0] else 0
    away = sum(send) - send[dist.get_rank(group)]       # what a rank keeps costs nothing
    _note("all_to_all", _size(rows), away * per_row)
    dist.all_to_all_single(received, rows.contiguous(), receive, send, group=group)
    return received


def send(tensor: Tensor, to: int, group=None):
    """Start sending `tensor` to rank `to` of the group; gives a handle to wait on."""
    _note("send", _size(tensor), _size(tensor))
    return dist.isend(tensor.contiguous(), dist.get_global_rank(group or dist.group.WORLD, to),
                      group=group)


def receive(tensor: Tensor, source: int, group=None) -> Tensor:
    """Wait for rank `source` of the group and put what it sent into `tensor`."""
    dist.recv(tensor, dist.get_global_rank(group or dist.group.WORLD, source), group=group)
    return tensor
