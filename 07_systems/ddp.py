"""Data parallel: every rank has the whole model and a part of the batch; gradients are averaged.

    model = BucketedDDP(GPT(config), bucket_mb=25)
    loss.backward(); model.finish_gradient_synchronization(); optimizer.step()

Four rungs, the same average: 1 `average_naive` (a call for each parameter, after backward),
2 `average_flat` (one call), 3 `DDP` (a call for each parameter, while backward still runs),
4 `BucketedDDP` (a call for each bucket, while backward still runs). Every rung sends
2 P (N-1)/N elements; they differ in how many calls that takes and how much of it hides behind
backward. But: no gradient compression. Real runs: torch's DistributedDataParallel.

Letters: N ranks, P elements of all gradients. Source: Li et al. 2020 (PyTorch Distributed).
"""

import contextlib
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from collectives import all_reduce, broadcast


def start_equal(module: nn.Module, group=None) -> None:
    """Give every rank the first rank's parameters and buffers: equal updates of unequal weights
    would stay unequal for ever."""
    for tensor in [*module.parameters(), *module.buffers()]:
        broadcast(tensor.data, group)


def average_naive(parameters: Iterable[nn.Parameter], group=None) -> None:
    """Replace every gradient by its mean over the ranks, one all-reduce per parameter.

    Call after backward on every rank. Parameters without a gradient are left out (they must be
    the same ones on every rank). The ranks are those of `group` (None: all). Gradients 1 and 3 on
    two ranks become 2 on both.
    """
    for p in parameters:
        # Nothing arrived here, and on no other rank: there is nothing to exchange.
        if p.grad is None:
            continue
        # The mean: sum first, then divide, so that every rank holds the same bits.
        all_reduce(p.grad, group)
        p.grad /= dist.get_world_size(group)


def average_flat(parameters: Iterable[nn.Parameter], group=None) -> None:
    """Replace every gradient by its mean over the ranks, with ONE all-reduce in all.

    As `average_naive`, but each call costs a latency whatever its size, and a small model has
    hundreds of small gradients: copy them into one vector, reduce that, copy back. Beside bf16 one
    in fp32 loses no digit. No gradient at all: no call.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return
    # One long vector, in an order that is the same on every rank.
    flat = torch.cat([g.flatten() for g in grads])
    all_reduce(flat, group)
    flat /= dist.get_world_size(group)
    # Back into the gradients, which keep their shapes.
    for grad, mean in zip(grads, flat.split([g.numel() for g in grads])):
        grad.copy_(mean.view_as(grad))


def make_buckets(sizes: list[int], limit: int) -> list[list[int]]:
    """Group parameters 0..n-1 of these sizes (bytes) into buckets of at most `limit` bytes.

    Buckets are filled from the LAST parameter backwards, because backward finishes those first;
    a parameter larger than `limit` has a bucket of its own; `limit` 0: one each.
    make_buckets([4, 4, 4], 8) is [[2, 1], [0]]. Source: Li et al. 2020, section 3.2.3.
    """
    buckets: list[list[int]] = []
    room = -1
    # The last layer's gradients exist first.
    for index in reversed(range(len(sizes))):
        # A new bucket when this one would overflow.
        if not buckets or sizes[index] > room:
            buckets.append([])
            room = limit
        buckets[-1].append(index)
        room -= sizes[index]
    return buckets


class BucketedDDP(nn.Module):
    """Wrap a module: buckets of gradients are averaged while backward computes the others.

    After backward every gradient is the mean over the ranks, so it may be clipped, looked at or
    thrown away like any other. `finish_gradient_synchronization()` between backward and the
    optimizer takes part for a rank whose backward did not happen. `no_sync()` leaves the exchange
    out for all but the last micro-batch of a step. Parameters that get no gradient in a step take
    part with zeros; those that are frozen or unfrozen later are noticed in the next forward.
    """

    def __init__(self, module: nn.Module, bucket_mb: float = 25, group=None) -> None:
        super().__init__()
        self.module, self.group, self.bucket_bytes = module, group, int(bucket_mb * 2**20)
        start_equal(module, group)
        self.synchronising, self.exchanged, self.running = True, False, False
        self.number: dict[nn.Parameter, int] | None = None      # which bucket a parameter is in
        self.hooked: set[nn.Parameter] = set()
        self.deal_out()

    def deal_out(self) -> None:
        """Put the parameters that are trained now into buckets, and listen for their gradients."""
        trained = [p for p in self.module.parameters() if p.requires_grad]
        if self.number is not None and self.number.keys() == set(trained):
            return
        sizes = [p.numel() * p.element_size() for p in trained]
        self.buckets = [[trained[i] for i in bucket]
                        for bucket in make_buckets(sizes, self.bucket_bytes)]
        self.number = {p: n for n, bucket in enumerate(self.buckets) for p in bucket}
        for p in set(trained) - self.hooked:
            p.register_post_accumulate_grad_hook(self.on_gradient)
        self.hooked.update(trained)
        self.restart()

    def restart(self) -> None:
        """Nothing of the next exchange is launched yet."""
        self.waiting = [len(bucket) for bucket in self.buckets]
        self.launched: list[tuple] = []         # (handle, flat vector), in order of buckets

    def on_gradient(self, parameter: nn.Parameter) -> None:
        """Autograd calls this the moment a parameter's gradient is complete."""
        if not self.synchronising or parameter not in self.number:
            self.exchanged = False
            return
        if not self.running:    # the first of this backward: autograd shall call us at its end
            self.running = True
            torch.autograd.Variable._execution_engine.queue_callback(self.exchange)
        self.waiting[self.number[parameter]] -= 1
        # In the order of buckets on every rank: two ranks that start different all-reduces at
        # the same time would add up different things, or wait for ever.
        while len(self.launched) < len(self.buckets) and not self.waiting[len(self.launched)]:
            self.launch()

    def launch(self) -> None:
        """Start averaging the next bucket, without waiting for the result."""
        bucket = self.buckets[len(self.launched)]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                          for p in bucket])
        self.launched.append((all_reduce(flat, self.group, wait=False), flat))

    def exchange(self) -> None:
        """Launch what is left, wait, and put the means where the gradients are."""
        # Buckets with a parameter that took no part in this forward pass are still here.
        while len(self.launched) < len(self.buckets):
            self.launch()
        for (handle, flat), bucket in zip(self.launched, self.buckets):
            # From here on the vector holds the sum.
            handle.wait()
            flat /= dist.get_world_size(self.group)
            for p, mean in zip(bucket, flat.split([p.numel() for p in bucket])):
                # Into the gradient that is already there, or as a new one.
                mean = mean.view_as(p)
                p.grad = mean.to(p.dtype, copy=True) if p.grad is None else p.grad.copy_(mean)
        # The next backward starts from nothing.
        self.exchanged, self.running = True, False
        self.restart()

    def finish_gradient_synchronization(self) -> None:
        """Call before the optimizer: afterwards every gradient is the mean over the ranks. A rank
        whose backward has not exchanged (none, or all inside `no_sync`) does so now."""
        if not self.exchanged:
            self.exchange()
        self.exchanged = False

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Inside, backward only adds to the local gradients: for gradient accumulation."""
        before, self.synchronising = self.synchronising, False
        try:
            yield
        finally:
            self.synchronising = before

    def forward(self, *args, **kwargs):
        if self.running:        # the last backward broke off with an error: forget it
            for handle, _ in self.launched:
                handle.wait()
            self.running = False
            self.restart()
        self.deal_out()
        return self.module(*args, **kwargs)


class DDP(BucketedDDP):
    """Wrap a module: each gradient is averaged as soon as it exists, one call each. The same as
    buckets of size zero: simple, overlapped, and slow where latency counts."""

    def __init__(self, module: nn.Module, group=None) -> None:
        super().__init__(module, bucket_mb=0, group=group)


def shard_of(batch: Tensor, rank: int, ranks: int) -> Tensor:
    """The rows of a batch that belong to `rank`: equal consecutive parts, or ValueError.

    Parts must be equal for the mean of means to be the mean: 8 rows on 2 ranks are 4 and 4.
    """
    if len(batch) % ranks:
        raise ValueError(f"{len(batch)} rows do not split into {ranks} equal parts")
    size = len(batch) // ranks
    return batch[rank * size:(rank + 1) * size]
