"""The training loop, one for all: the scaling sweep of chapter 3 and the main run use this code.

    losses = train(GPT(config), batches, steps=500, recipe=Recipe(learning_rate=0.02))

`batches(step) -> (ids, targets)` is a function of the step alone, so any run can be stopped and
continued. `training_steps` is the same loop as a generator: it gives one record per update and
leaves checkpoints, evaluation and logs to the caller, who acts between two updates.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpt import GPT
from head_loss import training_loss
from optimizers import AdamW, Muon, clip_gradients, cosine_schedule, linear_schedule

Batches = Callable[[int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Recipe:
    """How to train: the part of a plan that is not the model's shape. Plain values only."""
    optimizer: str = "muon"         # "muon": Muon on the blocks' matrices, AdamW on the rest;
    learning_rate: float = 0.02     # "adamw": AdamW at this rate on everything
    embedding_rate: float = 0.05    # with Muon, AdamW's rate for the embedding tables,
    head_rate: float = 0.01         # for the output matrix,
    vector_rate: float = 0.03       # and for gains, biases and mixing shares
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.95
    weight_decay: float = 0.0
    schedule: str = "linear"        # "linear" | "cosine", both to zero
    warmup: float = 0.02            # share of all steps
    warmdown: float = 1.0           # share of all steps, for "linear"
    clip: float = 1.0               # longest gradient; 0: no clipping
    said_twice: float = 0.05        # share of rows that say random tokens twice (copying.py)


class NonFinite(Exception):
    """The loss or the gradient is no number any more; the weights have not been touched by it."""


class SpikeGuard:
    """Says which updates to leave out: losses far above what the last ones were.

    A loss more than `sigmas` standard deviations above the mean of the last `window` losses is
    a spike. At most `patience` in a row are caught: after that it is the new level, not a spike.
    Source: the rule of OLMo's training code, 6 sigma over 128 steps.
    """

    def __init__(self, window: int = 128, sigmas: float = 6.0, patience: int = 5) -> None:
        self.window, self.sigmas, self.patience = window, sigmas, patience
        self.losses: list[float] = []
        self.caught = 0

    def is_spike(self, loss: float) -> bool:
        """True if the update that comes with this loss should be left out; else remembers the loss.

        Judges once window // 4 losses are known; a deviation under 0.01 counts as 0.01.
        """
        recent = self.losses[-self.window:]
        # too few losses say nothing; too many spikes in a row are no spikes, but how it is now
        if recent and len(recent) >= self.window // 4 and self.caught < self.patience:
            mean = sum(recent) / len(recent)
            deviation = math.sqrt(sum((x - mean) ** 2 for x in recent) / len(recent))
            # the fall of the loss itself is part of the deviation: only real jumps are above it
            if loss > mean + self.sigmas * max(deviation, 0.01):
                self.caught += 1
                return True
        self.caught = 0
        self.losses = recent + [loss]
        return False


def make_optimizers(model: GPT, recipe: Recipe, precision: str = "fp32"
                    ) -> list[torch.optim.Optimizer]:
    """The recipe's optimizers, every parameter in exactly one group, each at its peak rate.

    Muon takes the matrices inside the blocks; tables and the head look like matrices, but their
    rows are tokens, and most rows have no gradient in most steps: they stay with AdamW.
    Muon's own products are of the run's `precision`, "fp32" or "bf16": a processor without
    16-bit products imitates them, and its step of width 128 then took 793 ms instead of 45.
    """
    matrices, groups = [], {"embedding": [], "tied": [], "head": [], "vector": []}
    for name, p in model.named_parameters():
        if p.dim() < 2:
            groups["vector"].append(p)
        elif "embedding" in name:       # a table that is the head too: all rows have gradients
            groups["tied" if p is model.lm_head.weight else "embedding"].append(p)
        elif "lm_head" in name:
            groups["head"].append(p)
        else:
            matrices.append(p)
    if recipe.optimizer == "adamw":
        # decay is for matrices: pulling a gain towards zero would switch its channel off
        decayed = matrices + groups["embedding"] + groups["tied"] + groups["head"]
        made = [AdamW([dict(params=decayed, weight_decay=recipe.weight_decay),
                       dict(params=groups["vector"])], lr=recipe.learning_rate,
                      betas=recipe.betas)]
    elif recipe.optimizer == "muon":
        rates = {"embedding": recipe.embedding_rate, "tied": recipe.embedding_rate,
                 "head": recipe.head_rate, "vector": recipe.vector_rate}
        adamw = AdamW([dict(params=group, lr=rates[kind], lazy=kind == "embedding")
                       for kind, group in groups.items() if group], betas=recipe.betas)
        muon = Muon(matrices, lr=recipe.learning_rate, momentum=recipe.momentum,
                    weight_decay=recipe.weight_decay,
                    dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
        made = [muon, adamw]
    else:
        raise ValueError(f"optimizer {recipe.optimizer!r} is not 'muon' or 'adamw'")
    for group in (g for optimizer in made for g in optimizer.param_groups):
        group["peak"] = group["lr"]
    return made


def rate_at(step: int, steps: int, recipe: Recipe) -> float:
    """The recipe's share of the peak learning rate at `step` of `steps`."""
    warmup = math.ceil(recipe.warmup * steps)
    if recipe.schedule not in ("linear", "cosine"):
        raise ValueError(f"schedule {recipe.schedule!r} is not 'linear' or 'cosine'")
    if recipe.schedule == "cosine":
        return cosine_schedule(step, steps, warmup)
    return linear_schedule(step, steps, warmup, recipe.warmdown)


def training_steps(model: nn.Module, optimizers: list[torch.optim.Optimizer], batches: Batches,
                   steps: int, recipe: Recipe, *, start: int = 0, accumulate: int = 1,
                   precision: str = "fp32", guard: SpikeGuard | None = None,
                   average: Callable[[Tensor], Tensor] | None = None) -> Iterator[dict]:
    """Train from step `start` to `steps`; after each update give {step, loss, lr, grad_norm,
    skipped}.

    batches(s) are the ids and targets of step s, from 0; the record counts from 1. The model is set
    to train; parameters that need no gradient stay out of it all. A batch is split by rows into
    `accumulate` parts whose gradients add up to the whole batch's, each weighed by its targets that
    are not -100 (a part without any is left out, a batch without any has loss 0); small parts stay
    in a CPU's caches (1.12 times faster here than one part of 4,096 tokens). Where the model has
    `no_sync` (ranks), all parts but the last run within it. `precision` "bf16": products in 16 bits
    (`autocast`), weights in 32. Gradients are clipped to recipe.clip, 0: not at all; grad_norm is
    the length before. Each group's lr is its "peak" times `rate_at` of the step, lr in the record
    recipe.learning_rate times that. What `guard` calls a spike by the step's loss is skipped: no
    update, the record is given. `average` gives the mean of a number over ranks: with it the loss
    is the mean over all ranks' targets. Raises NonFinite, naming the record's step, before the
    update that would have used a loss or gradient that is not finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    model.train()
    for step in range(start, steps):
        ids, targets = batches(step)
        loss, counted = torch.zeros((), device=device), (targets != -100).sum().item()
        if average:     # ranks hold unlike numbers of targets: over all of them it is one mean
            counted = float(average(torch.tensor(float(counted), device=device)))
        parts = list(zip(ids.chunk(accumulate), targets.chunk(accumulate)))
        # nothing but padding in a part: it has no mean loss, and nothing to teach
        parts = [part for part in parts if (part[1] != -100).any()] or parts[:1]
        for number, (x, y) in enumerate(parts, start=1):
            # each part weighs as much as it has targets: then the sum is the whole batch's mean
            weight = (y != -100).sum().item() / max(1, counted)
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            # with several ranks, gradients are exchanged once, after the last part
            wait = number < len(parts) and hasattr(model, "no_sync")
            with model.no_sync() if wait else contextlib.nullcontext():
                with autocast(device, precision):
                    part_loss = weight * training_loss(model, x, y)
                part_loss.backward()
            loss += part_loss.detach()
        norm = clip_gradients(parameters, recipe.clip or float("inf"))
        loss_value = float(average(loss) if average else loss)
        if not (math.isfinite(loss_value) and math.isfinite(float(norm))):
            raise NonFinite(f"step {step + 1}: loss {loss_value}, gradient norm {float(norm)}")
        skipped = guard is not None and guard.is_spike(loss_value)
        share = rate_at(step, steps, recipe)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * share
            if not skipped:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        yield {"step": step + 1, "loss": loss_value, "lr": recipe.learning_rate * share,
               "grad_norm": float(norm), "skipped": skipped}


def autocast(device: torch.device, precision: str):
    """The context in which products are computed in `precision`, "fp32" or "bf16"."""
    if precision == "fp32":
        return contextlib.nullcontext()
    if precision != "bf16":
        raise ValueError(f"precision {precision!r} is not 'fp32' or 'bf16'")
    return torch.autocast(device.type, dtype=torch.bfloat16)


def train(model: GPT, batches: Batches, steps: int, recipe: Recipe = Recipe(), **options
          ) -> list[float]:
    """Train `model` in place for `steps` updates; gives the loss (nats per token) of each batch.

    `options` are those of `training_steps`. What chapter 3's sweep calls.
    """
    optimizers = make_optimizers(model, recipe, options.get("precision", "fp32"))
    return [record["loss"] for record in
            training_steps(model, optimizers, batches, steps, recipe, **options)]


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Batches, count: int, precision: str = "fp32") -> float:
    """Mean loss in nats per token over batches 0 to `count` - 1, each token counted once."""
    model.eval()
    device = next(model.parameters()).device
    nats = tokens = 0
    for step in range(count):
        ids, targets = batches(step)
        with autocast(device, precision):
            loss = training_loss(model, ids.to(device), targets.to(device))
        counted = int((targets != -100).sum())
        if counted:         # rows of nothing but padding have no mean
            nats, tokens = nats + float(loss) * counted, tokens + counted
    return nats / max(1, tokens)
