"""Mixture of experts: eight networks instead of one, and each token visits two of them.

    model = use_moe(GPT(config), experts=8, k=2)        # chapter 4's GPT, from outside
    loss = model(ids, targets)[1] + 0.01 * balance_of(model)

A router scores every expert for every token; the token goes to the k best, and their answers are
mixed by score. Parameters grow with the number of experts, FLOPs per token do not. Left alone the
router sends everything to a few: a balance loss or a bias on the choice holds it level. With
experts on several ranks, tokens travel to them and back by all-to-all. But: a loop over experts
instead of a grouped product, so small experts are slow here.

Letters: n tokens, C width, E experts, k choices per token, M hidden channels of one expert.
Source: Shazeer et al. 2017; Fedus et al. 2021 (Switch); Wang et al. 2024 (bias balancing).
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from collectives import all_to_all
from ddp import average_flat
from gpt import GPT


def route(scores: Tensor, k: int, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Each token's k experts and their shares: probabilities scores (n, E) -> (n, k), (n, k).

    Chosen are the k largest of scores + bias; `bias` (E,) steers the choice only, the shares are
    the scores of the chosen, made to sum to 1 if k > 1. For k = 1 the share is the score itself:
    divided by its own sum it would be 1 for every token, and the router would have no gradient.
    Chosen experts whose scores are all 0 have the shares 0, not nan. Best expert first.
    scores [0.5, 0.3, 0.2], k = 2: experts [0, 1], shares [0.625, 0.375].
    Source: Wang et al. 2024, equation 3; Fedus et al. 2021, equation 2 (k = 1).
    """
    # Choose with the bias ...
    steered = scores if bias is None else scores + bias
    experts = steered.topk(k, dim=1).indices
    # ... but weigh without it: it must not change what the layer computes, only where.
    shares = scores.gather(1, experts)
    # One choice: its probability says how sure the router was, and that is what it learns from.
    if k == 1:
        return shares, experts
    # The bias may choose experts whose scores have all rounded to 0: 0/0 would be nan.
    total = shares.sum(dim=1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)
    return shares / total, experts


def within_capacity(experts: Tensor, count: int, capacity: int) -> Tensor:
    """Which choices are served if every expert takes at most `capacity`: (n, k) -> (n, k) bool.

    First choices of all tokens come before second choices; within those, earlier tokens come
    first. experts [[0, 1], [0, 1], [1, 0]], capacity 2 of 2 experts: the third token's second
    choice and the second token's second choice find their expert full.
    Source: Fedus et al. 2021, section 2.2; GShard's order.
    """
    # Choice by choice: (n, k) -> k n, all first choices before all second ones.
    queue = experts.T.reshape(-1)
    # How many came before me to the same expert? A running count in my expert's column.
    arrivals = F.one_hot(queue, count).cumsum(dim=0)
    place = arrivals.gather(1, queue[:, None])[:, 0] - 1
    # Back to (n, k).
    return (place < capacity).view(experts.shape[1], -1).T


def balance_loss(scores: Tensor, experts: Tensor) -> Tensor:
    """E sum_e f_e P_e: 1 if all experts are used alike, E if one gets everything.

    scores (n, E) probabilities, experts (n, k) choices. f_e: the share of all choices that went
    to e (no gradient); P_e: the mean probability of e (its gradient pushes used ones down). No
    tokens at all: 0. Source: Fedus et al. 2021, equation 4.
    """
    E = scores.shape[1]
    # Where tokens really went: a count, which has no gradient.
    f = torch.bincount(experts.flatten(), minlength=E) / max(1, experts.numel())
    # Where the router wanted to send them, which has one. No tokens at all: zero, not 0/0.
    P = scores.sum(dim=0) / max(1, len(scores))
    return E * (f * P).sum()


def update_bias(bias: Tensor, counts: Tensor, rate: float = 1e-3) -> Tensor:
    """The bias of each expert after a step: up by `rate` if it got fewer tokens than the mean,
    down if more, unchanged if equal. bias and counts (E,). Source: Wang et al. 2024, algorithm 1.
    """
    # Below the mean: be chosen more often, so the bias goes up.
    # Only the sign: a step of fixed size cannot overshoot when the imbalance is large.
    return bias + rate * torch.sign(counts.float().mean() - counts.float())


class MoE(nn.Module):
    """A feed-forward layer of E experts, squared ReLU, in place of chapter 4's MLP.

    `capacity` None: dropless, every choice is served; 1.25: an expert takes at most 1.25 n k / E
    tokens (at least one), and the others' share is lost (the residual carries them on). After
    forward, `balance` is the balance loss and `counts` (E,) the tokens per expert.
    """

    def __init__(self, width: int, experts: int, k: int, hidden: int,
                 capacity: float | None = None) -> None:
        super().__init__()
        if not 1 <= k <= experts or not (capacity is None or capacity > 0):
            raise ValueError(f"k {k} of {experts} experts, capacity {capacity}: a token visits 1 "
                             f"to {experts} of them, and a capacity is above 0 (None: no limit)")
        self.k, self.capacity = k, capacity
        self.router = nn.Linear(width, experts, bias=False)
        self.up = nn.Parameter(torch.randn(experts, width, hidden) * width ** -0.5)
        self.down = nn.Parameter(torch.randn(experts, hidden, width) * hidden ** -0.5)
        self.register_buffer("bias", torch.zeros(experts))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])                           # (n, C)
        # In 32 bits (or 64) also under autocast: 16 cannot tell close scores apart.
        with torch.autocast(rows.device.type, enabled=False):
            wide = torch.promote_types(rows.dtype, self.router.weight.dtype)
            scores = F.linear(rows.to(wide), self.router.weight.to(wide)).to(
                torch.promote_types(wide, torch.float32)).softmax(dim=1)
        shares, experts = route(scores, self.k, self.bias)
        E = scores.shape[1]
        self.balance = balance_loss(scores, experts)
        self.counts = torch.bincount(experts.flatten(), minlength=E)
        if self.capacity is not None:
            most = max(1, int(self.capacity * experts.numel() / E))
            shares = shares * within_capacity(experts, E, most)
        # One row per choice, sorted by expert, so that each expert's tokens lie together.
        order = experts.flatten().argsort(stable=True)              # (n k,)
        token = order // self.k
        share = shares.flatten()[order]
        # What is not served need not be computed: drop it before, not after.
        served = share > 0 if self.capacity is not None else torch.ones_like(share, dtype=bool)
        token, share, expert = token[served], share[served], experts.flatten()[order][served]
        y = self.compute(rows[token], torch.bincount(expert, minlength=E))
        # Added up in the shares' 32 bits, handed on in what the experts computed in.
        mixed = share.new_zeros(rows.shape).index_add(0, token, y.to(share.dtype) * share[:, None])
        return mixed.to(y.dtype).view(x.shape)

    def compute(self, rows: Tensor, counts: Tensor) -> Tensor:
        """rows (m, C), sorted by expert, counts (E,) of them for each -> the experts' answers."""
        return run_experts(rows, counts.tolist(), self.up, self.down)


def run_experts(rows: Tensor, counts: list[int], up: Tensor, down: Tensor) -> Tensor:
    """Each expert on its own rows: rows (m, C) sorted by expert, up (E, C, M), down (E, M, C)."""
    parts = [F.relu(part @ up[e]).square() @ down[e]
             for e, part in enumerate(rows.split(counts)) if len(part)]
    # No rows at all: zeros, but the experts still take part in backward.
    return torch.cat(parts) if parts else rows @ up[0] @ down[0]


class _Exchange(torch.autograd.Function):
    """all_to_all with a gradient: what came from a rank goes back to it."""

    @staticmethod
    def forward(ctx, rows: Tensor, send: list[int], receive: list[int], group) -> Tensor:
        ctx.split = receive, send, group
        return all_to_all(rows, send, receive, group)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        receive, send, group = ctx.split
        return all_to_all(gradient, receive, send, group), None, None, None


class ExpertParallelMoE(MoE):
    """The same layer with E/N experts on each rank; every rank brings its own tokens.

    Made from a whole MoE. The router is data parallel: average its gradient like any other's,
    which `finish_gradient_synchronization()` does. An expert has seen all ranks' tokens, each
    rank's loss being a mean of its own: its gradients are divided by the ranks as they arrive.
    """

    def __init__(self, whole: MoE, group=None) -> None:
        nn.Module.__init__(self)
        ranks, rank = dist.get_world_size(group), dist.get_rank(group)
        if len(whole.up) % ranks:
            raise ValueError(f"{len(whole.up)} experts do not split over {ranks} ranks")
        self.k, self.capacity, self.group = whole.k, whole.capacity, group
        self.router, self.bias = whole.router, whole.bias
        self.up, self.down = (nn.Parameter(p.detach().chunk(ranks)[rank].clone(), p.requires_grad)
                              for p in (whole.up, whole.down))
        self.divided = False
        self.divide_gradients()

    def divide_gradients(self) -> None:
        """Divide every gradient of an expert by the ranks before it is added to p.grad: right for
        any number of micro-batches, and for experts that are unfrozen later."""
        if not self.divided and self.up.requires_grad and self.down.requires_grad:
            self.divided = True
            for p in (self.up, self.down):
                p.register_hook(lambda gradient: gradient / dist.get_world_size(self.group))

    def forward(self, x: Tensor) -> Tensor:
        self.divide_gradients()
        return super().forward(x)

    def compute(self, rows: Tensor, counts: Tensor) -> Tensor:
        """As MoE.compute, but the rows travel to the ranks of their experts and back."""
        own, ranks = len(self.up), dist.get_world_size(self.group)
        # First the numbers: how many rows each rank sends to each of my experts. (N, own)
        theirs = all_to_all(counts, [own] * ranks, [own] * ranks, self.group).view(ranks, own)
        send, receive = counts.view(ranks, own).sum(1).tolist(), theirs.sum(1).tolist()
        arrived = _Exchange.apply(rows, send, receive, self.group)
        # They lie by origin, then by expert; the experts want them by expert.
        expert = torch.arange(own).repeat(ranks).repeat_interleave(theirs.flatten())
        order = expert.argsort(stable=True)
        answers = run_experts(arrived[order], theirs.sum(0).tolist(), self.up, self.down)
        back = torch.empty_like(answers).index_copy(0, order, answers)
        return _Exchange.apply(back, receive, send, self.group)

    def finish_gradient_synchronization(self) -> None:
        """After backward: the router's gradient becomes that of the mean over all ranks' tokens."""
        if self.router.weight.grad is not None:
            average_flat([self.router.weight], self.group)


def use_moe(model: GPT, experts: int = 8, k: int = 2, hidden: int | None = None,
            capacity: float | None = None) -> GPT:
    """Replace every MLP of chapter 4's GPT by a MoE, from outside. `hidden` None: 1/k of the
    MLP's width, so that a token costs the same FLOPs."""
    for block in model.blocks:
        width, inner = block.mlp.up.in_features, block.mlp.up.out_features
        block.mlp = MoE(width, experts, k, hidden or inner // k, capacity)
    return model


def balance_of(model: nn.Module) -> Tensor:
    """The mean balance loss over the MoE layers, after a forward pass; 0 for a model without."""
    losses = [module.balance for module in model.modules() if isinstance(module, MoE)]
    return torch.stack(losses).mean() if losses else torch.zeros(())
