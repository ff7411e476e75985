"""ZeRO: why should every rank keep all of it? Optimizer, gradients, weights: sharded in turn.

    optimizer = ShardedOptimizer(model.parameters(), torch.optim.AdamW, lr=1e-3)
    loss.backward(); optimizer.reduce_gradients(); optimizer.step()             # ZeRO-1
    optimizer.shard_gradients_early()           # once, before training:          ZeRO-2
    model = FSDP(GPT(config), compute_dtype=torch.bfloat16)                     # ZeRO-3

Rank r owns the r-th of N equal pieces of every parameter (pieces.py). The update is computed on
pieces, so it must be elementwise (Adam, SGD); Muon needs whole matrices and does not fit. ZeRO-3
lives in fsdp.py. Real runs: torch's ZeroRedundancyOptimizer and fully_shard (FSDP2).

Letters: N ranks, P parameters. Source: Rajbhandari et al. 2020 (ZeRO); Zhao et al. 2023 (FSDP).
"""

import weakref
from collections.abc import Iterable
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from collectives import all_gather, all_reduce, reduce_scatter
from fsdp import FSDP
from pieces import pack, piece_length, unpack

__all__ = ["FSDP", "ShardedOptimizer", "clip_sharded"]


class ShardedOptimizer(torch.optim.Optimizer):
    """Any elementwise optimizer, with its states for this rank's pieces only (ZeRO-1 and 2).

    `step()` takes p.grad as the finished mean, or what `reduce_gradients` has already sharded;
    it updates this rank's pieces and gathers everybody's. Groups with their own settings,
    schedules, parameters frozen, unfrozen or added later and `zero_grad` of the optimizer or of
    the model work as with any optimizer; `params` may be a list of dicts.
    """

    def __init__(self, params, optimizer_class: type, group=None, **kwargs) -> None:
        self.group, self.ranks = group, dist.get_world_size(group)
        self.rank = dist.get_rank(group)
        self.pieces: dict[nn.Parameter, nn.Parameter] = {}
        self.left: dict[nn.Parameter, tuple[Tensor, int]] = {}      # see `release`
        self.watched: set[nn.Parameter] = set()
        self.early = False
        self.inner = None                       # add_param_group is called before it exists
        super().__init__(params, kwargs)
        sharded = [{**g, "params": [self.pieces[p] for p in g["params"]]}
                   for g in self.param_groups]
        try:
            self.inner = optimizer_class(sharded, **kwargs)
        except ValueError as why:
            raise ValueError(f"{optimizer_class.__name__} gets pieces, which are vectors cut out "
                             f"of the parameters, and says: {why}; an update that needs whole "
                             "matrices cannot be sharded this way") from why
        self.state = self.inner.state           # this rank's share, and nothing else
        self.defaults.update(self.inner.defaults)       # where schedules look for betas or momentum
        self.take_settings()
        self.watch()

    def take_settings(self) -> None:
        """Our groups show what the inner optimizer's groups hold, after a load or at the start."""
        for ours, theirs in zip(self.param_groups, self.inner.param_groups):
            ours.update({key: value for key, value in theirs.items() if key != "params"})

    def give_settings(self) -> None:
        """A schedule sets our groups' rates: let them reach the inner optimizer's groups."""
        for ours, theirs in zip(self.param_groups, self.inner.param_groups):
            theirs.update({key: value for key, value in ours.items() if key != "params"})

    def add_param_group(self, param_group: dict) -> None:
        """Own a piece of each new parameter: a copy of this rank's part of it."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for p in group["params"]:
            self.pieces[p] = nn.Parameter(self.own_row([p.detach()]))
        if self.inner is not None:
            self.inner.add_param_group({**group, "params": [self.pieces[p]
                                                            for p in group["params"]]})
            self.take_settings()
            self.watch()

    def own_row(self, tensors: list[Tensor]) -> Tensor:
        """This rank's share of whole tensors, as one vector of its own."""
        return pack(tensors, self.ranks)[self.rank].clone()

    @property
    def trained(self) -> list[nn.Parameter]:
        return [p for g in self.param_groups for p in g["params"] if p.requires_grad]

    def watch(self) -> None:
        """Listen for the gradients of parameters that can have one (some are unfrozen later)."""
        alive = weakref.ref(self)       # an optimizer that is given up must not go on reducing

        def before(p: nn.Parameter, gradient: Tensor) -> None:
            if alive():
                alive().before_gradient(p)

        def after(p: nn.Parameter) -> None:
            if alive() and alive().early:
                alive().reduce_one(p)

        for p in self.trained:
            if p not in self.watched:
                self.watched.add(p)
                p.register_hook(partial(before, p))
                p.register_post_accumulate_grad_hook(after)

    def release(self, p: nn.Parameter) -> None:
        """Free a gradient that has gone to its owners. One number stays in its place, shown in
        every element: it tells whether anybody calls zero_grad before the next backward."""
        # .data: the same memory, but its version counts only what is done through p.grad.
        p.grad = self.pieces[p].grad.data[:1].expand(p.numel()).view_as(p)
        self.left[p] = p.grad, p.grad._version

    def released(self, p: nn.Parameter) -> bool:
        """Whether p's gradient has gone to its owners, and nobody has forgotten it since."""
        grad, version = self.left.get(p, (None, 0))
        return grad is not None and p.grad is grad and grad._version == version

    def before_gradient(self, p: nn.Parameter) -> None:
        """Autograd is about to add to p.grad: the placeholder must go, and if it was zeroed or
        taken away, so must the sum of the micro-batches before."""
        if not self.released(p):
            self.pieces[p].grad = None
        if p in self.left:
            p.grad = None if p.grad is self.left[p][0] else p.grad
            del self.left[p]

    @torch.no_grad()
    def reduce_gradients(self) -> None:
        """ZeRO-1: average over the ranks by ONE reduce-scatter, keep this rank's share.

        Call between backward and step, instead of data parallel's all-reduce. Half of an
        all-reduce's traffic; the other half is the gathering of the weights in `step`. Shares of
        several calls add up, as micro-batches do, each in its piece's dtype; the parameters' own
        gradients are released (`release`), or they would count again. Parameters without a
        gradient, frozen ones and those `released` before are left out; if none is left, nothing
        is sent.
        """
        ready = [p for p in self.trained if p.grad is not None and not self.released(p)]
        if not ready:
            return
        # (N, L): row r goes to rank r, and arrives there as the sum of all ranks' rows r.
        share = reduce_scatter(pack([p.grad for p in ready], self.ranks), self.group)[0]
        share /= self.ranks
        # Cut the share into one gradient for each owned piece.
        for p, grad in zip(ready, share.split([piece_length(p, self.ranks) for p in ready])):
            piece = self.pieces[p]
            grad = grad.to(piece.dtype, copy=True)      # bf16 beside fp32 is packed as fp32
            piece.grad = grad if piece.grad is None else piece.grad + grad
            # The whole gradient is not needed any more.
            self.release(p)

    def shard_gradients_early(self) -> None:
        """ZeRO-2: from now on every gradient is reduced and freed the moment it exists, so that
        all of them are never in memory together."""
        self.early = True

    @torch.no_grad()
    def reduce_one(self, p: nn.Parameter) -> None:
        """Average one parameter's gradient over the ranks, keep the own piece, free the rest."""
        share = reduce_scatter(pack([p.grad], self.ranks), self.group)[0] / self.ranks
        piece = self.pieces[p]
        # Micro-batches add up, as in p.grad.
        piece.grad = share if piece.grad is None else piece.grad + share
        self.release(p)

    @torch.no_grad()
    def step(self, closure=None):
        """Update this rank's pieces, then give every rank all of the new weights."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.give_settings()
        self.watch()
        if self.early:          # what was unfrozen after the last step is not reduced yet
            self.reduce_gradients()
        updated = []
        for group in self.param_groups:
            for p in group["params"]:
                piece = self.pieces[p]
                if p.grad is None or not p.requires_grad:
                    piece.grad = None
                    continue
                updated.append(p)
                # Somebody may have loaded other weights since.
                piece.copy_(self.own_row([p]))
                # A gradient that nobody sharded yet is whole and averaged: take the own part.
                if not self.released(p):
                    piece.grad = self.own_row([p.grad])
        self.inner.step()
        if updated:
            # One all-gather: row r of the result is rank r's updated pieces.
            row = torch.cat([self.pieces[p].detach() for p in updated])
            packed = all_gather(row[None], self.group)
            for p, new in zip(updated, unpack(packed, [p.shape for p in updated])):
                p.copy_(new)
        return loss

    def state_dict(self) -> dict:
        """This rank's share of the optimizer's state; other ranks have other shares."""
        self.give_settings()
        return self.inner.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Take up this rank's share, as `state_dict` gave it at the same number of ranks."""
        pieces = [p for group in self.inner.param_groups for p in group["params"]]
        for index, values in state["state"].items():
            for name, value in values.items():
                if value is not None and getattr(value, "dim", lambda: 0)() and \
                        value.shape != pieces[index].shape:
                    raise ValueError(f"{name} of parameter {index} has {value.numel()} numbers, "
                                     f"this rank's piece {pieces[index].numel()}: the state was "
                                     "saved at another number of ranks, or of another model")
        self.inner.load_state_dict(state)
        self.state = self.inner.state
        self.take_settings()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, whole and sharded."""
        super().zero_grad(set_to_none)
        for p, piece in self.pieces.items():
            piece.grad = None
            if p in self.left:
                p.grad = None
        self.left.clear()
        self.watch()


def clip_sharded(pieces: Iterable[nn.Parameter], max_norm: float, group=None) -> Tensor:
    """Clip gradients of which every rank has only its pieces; gives the joint norm.

    As `clip_gradients` of chapter 4 on the whole: the squares of all ranks' pieces add up to the
    square of the joint norm (padding is zero), so ONE number has to be exchanged. The norm is in 64
    bits for gradients of 64; ValueError for a `max_norm` below 0 or nan.
    """
    if not max_norm >= 0:
        raise ValueError(f"max_norm is {max_norm}: it must be 0 or more")
    pieces = [pieces] if isinstance(pieces, Tensor) else list(pieces)
    grads = [p.grad for p in pieces if p.grad is not None]
    # Each rank's own sum of squares, then everybody's. Without gradients: zero.
    device = pieces[0].device if pieces else None
    square = sum((g.double().square().sum() for g in grads),
                 torch.zeros((), dtype=torch.float64, device=device))
    all_reduce(square, group)
    norm = square.sqrt()
    # The same scale on every rank: the direction of the whole gradient stays.
    for g in grads:
        g.mul_((max_norm / norm.clamp(min=1e-12)).clamp(max=1.0).to(g.dtype))
    return norm if any(g.dtype == torch.float64 for g in grads) else norm.float()
