"""One training step, eight ways: what differs between the methods, and nothing else.

    method = parallelise("zero2", model, ranks, rate=1e-3, micros=4, precision="fp32")
    loss = method.backward(ids, targets); norm = method.clip(1.0); method.optimizer.step()

Every method is a list of holdings: a parameter that this rank's optimizer updates, the names of
the whole parameters it belongs to, and the way from the one to the other and back. From that
follow the norm of the whole gradient and checkpoints that any method can load at any world size.
But: our own methods gather whole tensors to save them; torch's FSDP2 saves its shards.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from collectives import all_gather
from ddp import BucketedDDP
from gpt import GPT
from pieces import pack, unpack
from pipeline_parallel import PipelineStage, one_f_one_b
from tensor_parallel import TensorParallelGPT
from zero import FSDP, ShardedOptimizer

METHODS = ("ddp", "zero1", "zero2", "zero3", "tensor", "pipeline", "torch-ddp", "fsdp2")
STATES = ("exp_avg", "exp_avg_sq")              # AdamW's m and v


@dataclass(frozen=True)
class Holding:
    """What one rank keeps of some whole parameters."""
    names: list[str]                            # chapter 4's names
    parameter: nn.Parameter                     # what the optimizer updates here
    gather: Callable[[Tensor], list[Tensor]]    # local values -> whole tensors (a collective)
    cut: Callable[[list[Tensor]], Tensor]       # whole tensors -> local values
    owned: bool                                 # only this rank counts its gradient in the norm


def whole_holdings(named: dict[str, nn.Parameter], owned: bool) -> list[Holding]:
    """Parameters that this rank holds under their own names, whole (or as torch's DTensors)."""
    return [Holding([name], p, lambda t: [t], lambda t: t[0], owned) for name, p in named.items()]


def piece_holding(names: list[str], shapes: list[torch.Size], piece: nn.Parameter) -> Holding:
    """This rank's piece of some parameters, in the layout of pieces.py."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    return Holding(names, piece, lambda t: unpack(all_gather(t.detach()[None]), shapes),
                   lambda whole: pack(whole, ranks)[rank], owned=True)


def split_holding(name: str, p: nn.Parameter, dim: int) -> Holding:
    """This rank's part of a parameter that is split along `dim`."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    return Holding([name], p, lambda t: [all_gather(
        t.detach().transpose(0, dim).contiguous()).transpose(0, dim).contiguous()],
        lambda whole: whole[0].chunk(ranks, dim)[rank], owned=True)


class Method:
    """A model and its optimizer, taken apart by one of METHODS."""

    def __init__(self, name: str, model: GPT, rate: float, micros: int, precision: str) -> None:
        self.name, self.model = name, model
        self.splits_batch = name not in ("tensor", "pipeline")
        self.device = next(model.parameters()).device
        self.sharded: ShardedOptimizer | None = None
        low = torch.bfloat16 if precision == "bf16" else None
        self.low = low if name not in ("zero3", "fsdp2") else None      # those cast by themselves
        named = dict(model.named_parameters())
        if name == "ddp":
            self.wrapped = BucketedDDP(model)
            self.holdings = whole_holdings(named, owned=False)
        elif name == "torch-ddp":
            self.wrapped = nn.parallel.DistributedDataParallel(model)
            self.holdings = whole_holdings(named, owned=False)
        elif name == "fsdp2":
            self.wrapped = torch_fsdp(model, low)
            self.holdings = whole_holdings(dict(model.named_parameters()), owned=True)
        elif name == "tensor":
            self.wrapped = TensorParallelGPT(model)
            split = self.wrapped.split
            self.holdings = [split_holding(n, p, split[n]) if split[n] is not None
                             else whole_holdings({n: p}, owned=False)[0]
                             for n, p in model.named_parameters()]
        elif name == "pipeline":
            self.wrapped = PipelineStage(model)
            self.schedule = one_f_one_b(self.wrapped.stages, micros)
            self.holdings = whole_holdings(self.wrapped.full_names(), owned=True)
        elif name == "zero3":
            self.wrapped = FSDP(model, compute_dtype=low)
            by_shard = {number: [n for n, (s, _) in self.wrapped.names.items() if s == number]
                        for number in range(len(self.wrapped.shards))}
            self.holdings = [piece_holding(by_shard[number], shard.shapes, shard.piece)
                             for number, shard in enumerate(self.wrapped.shards)]
        else:
            self.wrapped = model
            self.sharded = ShardedOptimizer(model.parameters(), torch.optim.AdamW, lr=rate,
                                            betas=(0.9, 0.95), weight_decay=0.0)
            self.holdings = [piece_holding([n], [p.shape], self.sharded.pieces[p])
                             for n, p in named.items()]
            if name == "zero2":
                self.sharded.shard_gradients_early()
        self.optimizer = self.sharded or torch.optim.AdamW(
            [h.parameter for h in self.holdings], lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
        # Adam's averages exist from the start, so that a checkpoint has somewhere to go.
        inner = self.sharded.inner if self.sharded else self.optimizer
        for h in self.holdings:
            inner.state[h.parameter] = {"step": torch.zeros(())} | {
                key: torch.zeros_like(h.parameter) for key in STATES}
        self.inner = inner

    def backward(self, ids: Tensor, targets: Tensor) -> float:
        """Forward and backward of this rank's part of the batch, and the exchange of gradients;
        gives the mean loss of the whole batch, the same on every rank."""
        low = torch.autocast(self.device.type, self.low) if self.low else contextlib.nullcontext()
        if self.name == "pipeline":
            with low:
                loss = self.wrapped.step(ids, targets, self.schedule)
            dist.all_reduce(loss)                   # only the last stage's is not zero
            return loss.item()
        with low:
            mean = self.wrapped(ids, targets)[1]
        if not self.splits_batch:
            mean.backward()
            self.wrapped.finish_gradient_synchronization()
            return mean.item()
        # Parts with more padding count less: the mean over targets, not over ranks.
        sums = torch.stack([mean.detach() * (targets != -100).sum(), (targets != -100).sum()])
        dist.all_reduce(sums)
        (mean * (targets != -100).sum() * dist.get_world_size() / sums[1]).backward()
        if self.sharded:
            self.sharded.reduce_gradients()
        elif hasattr(self.wrapped, "finish_gradient_synchronization"):
            self.wrapped.finish_gradient_synchronization()
        return (sums[0] / sums[1]).item()

    @torch.no_grad()
    def clip(self, longest: float) -> float:
        """Scale the whole gradient, wherever its parts are, to at most `longest`; gives its norm
        before. Parts that every rank holds count once, owned parts are added up over ranks."""
        squares = torch.zeros(2, device=self.device)
        grads = [(h.owned, h.parameter.grad) for h in self.holdings
                 if h.parameter.grad is not None]
        for owned, grad in grads:
            local = grad.to_local() if hasattr(grad, "to_local") else grad
            squares[int(owned)] += local.float().square().sum()
        dist.all_reduce(squares[1:])
        norm = squares.sum().sqrt().item()
        for _, grad in grads if norm > longest else []:
            grad.mul_(longest / norm)
        return norm

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything that training has changed, under chapter 4's names, whatever the method:
        {"model": ..., "exp_avg": ..., "exp_avg_sq": ...}. A collective."""
        found: dict[str, dict] = {"model": {}, **{key: {} for key in STATES}}
        for h in self.holdings:
            local = {"model": h.parameter.detach(), **self.inner.state[h.parameter]}
            for kind in found:
                found[kind].update(zip(h.names, h.gather(local[kind])))
        return found

    @torch.no_grad()
    def load(self, state: dict[str, dict[str, Tensor]], step: int) -> None:
        """Take up a state as `state()` gives it, after `step` updates."""
        for h in self.holdings:
            local = {"model": h.parameter, **self.inner.state[h.parameter]}
            for kind in ("model", *STATES):
                local[kind].copy_(h.cut([state[kind][name] for name in h.names]))
            self.inner.state[h.parameter]["step"].fill_(step)
        if self.sharded:                            # here the whole weights exist as well
            for name, p in self.model.named_parameters():
                p.copy_(state["model"][name])


def torch_fsdp(model: GPT, low: torch.dtype | None) -> nn.Module:
    """PyTorch's own ZeRO-3 (FSDP2): a unit for each block, prefetched. For real runs."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    device = next(model.parameters()).device
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    return fully_shard(model, mesh=mesh, mp_policy=policy)


def parallelise(name: str, model: GPT, rate: float, micros: int = 4, precision: str = "fp32"
                ) -> Method:
    """`model` and AdamW by one of METHODS, on all ranks of this run; ValueError in words for a
    model that the method cannot split."""
    if name not in METHODS:
        raise ValueError(f"{name!r} is not one of {', '.join(METHODS)}")
    return Method(name, model, rate, micros, precision)
