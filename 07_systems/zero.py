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

from collections.abc import Iterable

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
    it updates this rank's pieces and gathers everybody's. Groups with their own settings work as
    usual: `params` may be a list of dicts.
    """

    def __init__(self, params, optimizer_class: type, group=None, **kwargs) -> None:
        self.group, self.ranks = group, dist.get_world_size(group)
        self.rank = dist.get_rank(group)
        self.pieces: dict[nn.Parameter, nn.Parameter] = {}
        self.early = False
        self.inner = None                       # add_param_group is called before it exists
        super().__init__(params, kwargs)
        sharded = [{**g, "params": [self.pieces[p] for p in g["params"] if p.requires_grad]}
                   for g in self.param_groups]
        self.inner = optimizer_class(sharded, **kwargs)
        self.state = self.inner.state           # this rank's share, and nothing else
        self.param_groups_follow()

    def param_groups_follow(self) -> None:
        """Let a schedule that sets our groups' rates reach the inner optimizer's groups."""
        for ours, theirs in zip(self.param_groups, self.inner.param_groups):
            for key, value in theirs.items():
                ours.setdefault(key, value)

    def add_param_group(self, param_group: dict) -> None:
        """Own a piece of each new parameter: a copy of this rank's part of it."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for p in group["params"]:
            self.pieces[p] = nn.Parameter(self.own_row([p.detach()]), p.requires_grad)
        if self.inner is not None:
            self.inner.add_param_group({**group, "params": [self.pieces[p]
                                                            for p in group["params"]]})

    def own_row(self, tensors: list[Tensor]) -> Tensor:
        """This rank's share of whole tensors, as one vector of its own."""
        return pack(tensors, self.ranks)[self.rank].clone()

    @property
    def trained(self) -> list[nn.Parameter]:
        return [p for g in self.param_groups for p in g["params"] if p.requires_grad]

    @torch.no_grad()
    def reduce_gradients(self) -> None:
        """ZeRO-1: average over the ranks by ONE reduce-scatter, keep this rank's share.

        Call between backward and step, instead of data parallel's all-reduce. Half of an
        all-reduce's traffic; the other half is the gathering of the weights in `step`.
        """
        ready = [p for p in self.trained if p.grad is not None]
        if not ready:
            return
        # (N, L): row r goes to rank r, and arrives there as the sum of all ranks' rows r.
        share = reduce_scatter(pack([p.grad for p in ready], self.ranks), self.group)[0]
        share /= self.ranks
        # Cut the share into one gradient for each owned piece.
        for p, grad in zip(ready, share.split([piece_length(p, self.ranks) for p in ready])):
            piece = self.pieces[p]
            piece.grad = grad.clone() if piece.grad is None else piece.grad + grad
            # The whole gradient is not needed any more.
            p.grad = None

    def shard_gradients_early(self) -> None:
        """ZeRO-2: from now on every gradient is reduced and freed the moment it exists, so that
        all of them are never in memory together."""
        self.early = True
        for p in self.trained:
            p.register_post_accumulate_grad_hook(self.reduce_one)

    @torch.no_grad()
    def reduce_one(self, p: nn.Parameter) -> None:
        """Average one parameter's gradient over the ranks, keep the own piece, free the rest."""
        share = reduce_scatter(pack([p.grad], self.ranks), self.group)[0] / self.ranks
        piece = self.pieces[p]
        # Micro-batches add up, as in p.grad.
        piece.grad = share if piece.grad is None else piece.grad + share
        p.grad = None

    @torch.no_grad()
    def step(self, closure=None):
        """Update this rank's pieces, then give every rank all of the new weights."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for ours, theirs in zip(self.param_groups, self.inner.param_groups):
            theirs.update({k: v for k, v in ours.items() if k != "params"})
        # A gradient that nobody sharded yet is whole and averaged: take the own part of it.
        for p in self.trained:
            if p.grad is not None:
                self.pieces[p].grad = self.own_row([p.grad])
        updated = [p for p in self.trained if self.pieces[p].grad is not None]
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
        return self.inner.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Take up this rank's share, as `state_dict` gave it at the same number of ranks."""
        self.inner.load_state_dict(state)
        self.state = self.inner.state

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, whole and sharded."""
        super().zero_grad(set_to_none)
        for piece in self.pieces.values():
            piece.grad = None


def clip_sharded(pieces: Iterable[nn.Parameter], max_norm: float, group=None) -> Tensor:
    """Clip gradients of which every rank has only its pieces; gives the joint norm.

    As `clip_gradients` of chapter 4 on the whole: the squares of all ranks' pieces add up to the
    square of the joint norm (padding is zero), so ONE number has to be exchanged.
    """
    grads = [p.grad for p in pieces if p.grad is not None]
    # Each rank's own sum of squares, then everybody's.
    square = torch.stack([g.float().square().sum() for g in grads]).sum()
    all_reduce(square, group)
    norm = square.sqrt()
    # The same scale on every rank: the direction of the whole gradient stays.
    for g in grads:
        g.mul_((max_norm / norm.clamp(min=1e-12)).clamp(max=1.0))
    return norm
