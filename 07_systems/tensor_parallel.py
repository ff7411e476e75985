"""Tensor parallel: every matrix is split over the ranks, and each layer is computed together.

    model = TensorParallelGPT(GPT(config))              # sequence=True: sequence parallel as well
    loss = model(ids, targets)[1]; loss.backward(); model.finish_gradient_synchronization()

The first matrix of each pair (query/key/value, up) is split by columns of its output, the second
(out, down) by rows of its input: between them no rank needs another's numbers. One sum after each
pair forward, one before it backward: 4 all-reduces of (B, T, C) per layer. Sequence parallel
splits those sums into reduce-scatter and all-gather, for the same bytes, and norms and residuals
hold T/N positions. The vocabulary is split in the embedding and in the loss. But: no overlap of
sums and products. Real runs: torch.distributed.tensor.parallel.

Letters: B batch, T time, C channels, V vocabulary, N ranks.
Source: Shoeybi et al. 2019 (Megatron-LM), section 3; Korthikanti et al. 2022 (sequence parallel).
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from collectives import all_gather, all_reduce, reduce_scatter
from gpt import GPT
from target_range import check_targets, check_tokens

FIRST = ("query", "key", "value", "up", "gate")         # split by output: heads, hidden channels
SECOND = ("out", "down")                                # split by input: what FIRST produced


def split_dimension(name: str) -> int | None:
    """Along which dimension a parameter of chapter 4's GPT is split over the ranks, by its name.

    Linear weights are stored (out, in). 0: weights and biases of the first matrix of a pair, and
    the rows (tokens) of `embedding.weight` and `lm_head.weight`. 1: weights of the second matrix
    of a pair. None: everything else, on every rank whole; pairs are in "blocks" only.
    "blocks.0.mlp.down.weight" is 1, its bias None. Source: Megatron-LM, section 3.
    """
    # Tables are split by the vocabulary's rows.
    if name in ("embedding.weight", "lm_head.weight"):
        return 0
    # Outside of the blocks nothing else is split, whatever its name.
    if not name.startswith("blocks."):
        return None
    module, kind = name.split(".")[-2:]
    # The first of a pair: each rank computes its own output channels, bias included.
    if module in FIRST:
        return 0
    # The second: each rank multiplies its own input channels; the bias is added once, to the sum.
    return 1 if module in SECOND and kind == "weight" else None


class _Copy(torch.autograd.Function):
    """f of the paper: forward the same, backward the sum over ranks."""

    @staticmethod
    def forward(ctx, x: Tensor, group) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        gradient = gradient.clone()
        all_reduce(gradient, ctx.group)
        return gradient, None


class _Sum(torch.autograd.Function):
    """g of the paper: forward the sum over ranks, backward the same."""

    @staticmethod
    def forward(ctx, x: Tensor, group) -> Tensor:
        total = x.clone()
        all_reduce(total, group)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient, None


def gather_time(x: Tensor, group) -> Tensor:
    """(B, T/N, C) on each rank -> (B, T, C) on all."""
    return all_gather(x.transpose(0, 1), group).transpose(0, 1)


def scatter_time(x: Tensor, group) -> Tensor:
    """(B, T, C) on each rank -> (B, T/N, C): the own positions of the sum over ranks."""
    return reduce_scatter(x.transpose(0, 1), group).transpose(0, 1)


class _Gather(torch.autograd.Function):
    """g-bar: forward gather positions, backward sum and scatter them."""

    @staticmethod
    def forward(ctx, x: Tensor, group) -> Tensor:
        ctx.group = group
        return gather_time(x, group)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return scatter_time(gradient, ctx.group), None


class _SumScatter(torch.autograd.Function):
    """Forward sum and scatter positions, backward gather them."""

    @staticmethod
    def forward(ctx, x: Tensor, group) -> Tensor:
        ctx.group = group
        return scatter_time(x, group)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gather_time(gradient, ctx.group), None


class _Split(torch.autograd.Function):
    """Forward keep the own positions of what all ranks hold, backward gather the gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, group) -> Tensor:
        ctx.group = group
        return x.chunk(dist.get_world_size(group), dim=1)[dist.get_rank(group)].contiguous()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gather_time(gradient, ctx.group), None


class RowLinear(nn.Module):
    """The second matrix of a pair: partial products, summed over ranks, then the bias once."""

    def __init__(self, linear: nn.Linear, combine) -> None:
        super().__init__()
        self.weight, self.bias, self.combine = linear.weight, linear.bias, combine

    def forward(self, x: Tensor) -> Tensor:
        y = self.combine(F.linear(x, self.weight))
        return y if self.bias is None else y + self.bias


def lookup_own_rows(ids: Tensor, rows: Tensor, first: int) -> Tensor:
    """One rank's share of an embedding: its rows for its own tokens, zeros for the others'.

    ids (B, T) of the whole vocabulary, rows (V/N, C) are tokens first, first + 1, ... ->
    (B, T, C). The sum over the ranks is the whole embedding. Gradients reach own rows only, and
    what stands in a row (nan) reaches its own tokens only.
    """
    # Whose token is it?
    own = (ids >= first) & (ids < first + len(rows))
    # Look up something that exists for every token, then wipe out what is not ours.
    found = F.embedding(torch.where(own, ids - first, 0), rows)
    return torch.where(own[..., None], found, 0.0)


class VocabEmbedding(nn.Module):
    """An embedding whose rows (tokens) are split over the ranks."""

    def __init__(self, weight: nn.Parameter, group) -> None:
        super().__init__()
        self.weight, self.group = weight, group

    def forward(self, ids: Tensor) -> Tensor:
        first = dist.get_rank(self.group) * len(self.weight)
        return _Sum.apply(lookup_own_rows(ids, self.weight, first), self.group)


class VocabCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of logits whose vocabulary is split: `apply(logits, targets, group)`.

    logits (n, V/N), targets (n,) of the whole vocabulary, -100 ignored -> a scalar, in nats,
    the same on every rank. Three numbers a token travel instead of V logits: the largest logit,
    the sum of exponentials, the target's logit.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor, group) -> Tensor:
        check_targets(targets, logits.shape[1] * dist.get_world_size(group))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        largest = logits.amax(dim=1)
        all_reduce(largest, group, op=dist.ReduceOp.MAX)
        exponentials = torch.exp(logits - largest[:, None])
        column = targets - dist.get_rank(group) * logits.shape[1]
        own = (column >= 0) & (column < logits.shape[1])
        column = torch.where(own, column, 0)
        # Two sums in one call: (2, n).
        sums = torch.stack([exponentials.sum(1),
                            torch.where(own, logits.gather(1, column[:, None])[:, 0], 0.0)])
        all_reduce(sums, group)
        counted = targets != -100
        losses = largest + sums[0].log() - sums[1]
        ctx.save_for_backward(exponentials / sums[0][:, None], column, own, counted)
        # Nothing counts: zero, not 0/0.
        return losses[counted].sum() / counted.sum().clamp(min=1)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        probabilities, column, own, counted = ctx.saved_tensors
        # Softmax minus one at the target, on the rank that has the target.
        grad = probabilities.scatter_add(1, column[:, None], -own[:, None].to(probabilities.dtype))
        # Rows that do not count have no gradient, whatever stands in them: nan * 0 is nan.
        grad = torch.where(counted[:, None], grad, 0.0)
        return grad * (gradient / counted.sum().clamp(min=1)), None, None


class TensorParallelGPT(nn.Module):
    """Chapter 4's GPT, taken apart over the ranks of a group from outside.

    Every rank calls it with the same batch. forward gives this rank's logits (B, T, V/N) and the
    whole loss. With `sequence`, what lies between the pairs holds T/N positions per rank.
    """

    def __init__(self, model: GPT, group=None, sequence: bool = False) -> None:
        super().__init__()
        self.model, self.group, self.sequence = model, group, sequence
        rank, ranks = dist.get_rank(group), dist.get_world_size(group)
        config = model.config
        for what, size in (("heads", config.heads), ("kv_heads", config.kv_heads or config.heads),
                           ("vocab_size", config.vocab_size)):
            if size % ranks:
                raise ValueError(f"{what} {size} does not split over {ranks} ranks")
        if config.late_keys and ranks > 1 and (config.kv_heads or config.heads) // ranks % 2:
            raise ValueError("every second head has late keys: each rank needs an even number of "
                             "heads")
        self.split = {name: split_dimension(name) for name, _ in model.named_parameters()}
        for name, p in list(model.named_parameters()):
            if self.split[name] is not None:
                owner, _, kind = name.rpartition(".")
                part = p.detach().chunk(ranks, self.split[name])[rank].clone()
                setattr(model.get_submodule(owner), kind, nn.Parameter(part, p.requires_grad))
        enter, leave = (_Gather, _SumScatter) if sequence else (_Copy, _Sum)
        self.enter = lambda x: enter.apply(x, group)
        for block in model.blocks:
            for pair, second in ((block.attention, "out"), (block.mlp, "down")):
                pair.register_forward_pre_hook(lambda _, args: (self.enter(args[0]), *args[1:]))
                setattr(pair, second, RowLinear(getattr(pair, second),
                                                lambda y: leave.apply(y, group)))
        if sequence:
            model.blocks[0].register_forward_pre_hook(
                lambda _, args: (_Split.apply(args[0], group), *args[1:]))
        model.embedding = VocabEmbedding(model.embedding.weight, group)
        if config.tied:
            model.lm_head.weight = model.embedding.weight
        self.summed: set[str] = set()
        self.sum_partial_gradients()

    def sum_partial_gradients(self) -> None:
        """Let every gradient of which this rank sees a part be summed over the ranks as it
        arrives, before it is added to p.grad: so it does not matter how many micro-batches a
        step has, and whether one is left out. Parameters unfrozen later are noticed."""
        for name, p in self.model.named_parameters():
            if p.requires_grad and name not in self.summed and self.partial(name):
                self.summed.add(name)
                p.register_hook(lambda gradient: _Sum.apply(gradient, self.group))

    def forward(self, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        check_tokens(ids, self.model.config.vocab_size)
        ranks = dist.get_world_size(self.group)
        if self.sequence and ids.shape[1] % ranks:
            raise ValueError(f"{ids.shape[1]} positions do not split over {ranks} ranks, as "
                             "sequence parallel has to")
        self.sum_partial_gradients()
        logits = self.model.head(self.enter(self.model.hidden(ids)))        # (B, T, V/N)
        return logits, VocabCrossEntropy.apply(logits.flatten(0, 1), targets.flatten(), self.group)

    def partial(self, name: str) -> bool:
        """Whether a whole parameter sees only a part of the work here: its gradients must be
        summed. Norms of heads always; with `sequence` all norms and biases of the blocks."""
        if self.split[name] is not None:
            return False
        return "q_norm" in name or "k_norm" in name or (
            self.sequence and (name.startswith("blocks.") or name.startswith("final_norm.")))

    def finish_gradient_synchronization(self) -> None:
        """Nothing is left to do: backward has summed what needs it. All wrappers have this."""

    def gather_full_params(self) -> dict[str, Tensor]:
        """The whole parameters by chapter 4's names, on every rank."""
        full = {}
        for name, p in self.model.named_parameters():
            p, dim = p.detach(), self.split[name]
            full[name] = p if dim is None else all_gather(p.transpose(0, dim).contiguous(),
                                                          self.group).transpose(0, dim)
        return full
