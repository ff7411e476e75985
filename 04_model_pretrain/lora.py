"""LoRA: fine-tune a large model by training two thin matrices beside each of its large ones.

    model = add_lora(model, rank=8, alpha=16)       # 135M parameters frozen, 0.9M trained
    ... train it with any loop ...
    model = merge_lora(model)                       # an ordinary GPT again, nothing slower

A frozen W (M, C) becomes W + alpha / rank * B A with A (rank, C) and B (M, rank). B starts at zero,
so the model starts as it was. Gradients and the optimizer's moments exist for A and B alone: that
is why a laptop can do it. Source: Hu et al. 2021, LoRA, section 4.1.
"""

import contextlib
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt import GPT

ATTENTION = ("query", "key", "value", "out")
EVERYWHERE = (*ATTENTION, "gate", "up", "down")


class LoRALinear(nn.Module):
    """A frozen linear layer with a trained correction of low rank beside it."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = base.weight.shape
        self.base, self.scale = base, alpha / rank
        self.A = nn.Parameter(torch.empty(rank, columns, device=base.weight.device))
        self.B = nn.Parameter(torch.zeros(rows, rank, device=base.weight.device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))    # as a Linear of that shape starts

    def forward(self, x: Tensor) -> Tensor:
        """x (..., C) -> (..., M): x W^T + b + alpha / rank * (x A^T) B^T.

        A is (rank, C), B (M, rank), `self.scale` alpha / rank. The correction is computed through
        the thin middle, never as an (M, C) matrix; gradients reach x, A and B.
        Source: Hu et al. 2021, equation 3.
        """
        # down to `rank` numbers for each token first: rank (C + M) products instead of C M
        thin = F.linear(x, self.A)
        # up again, scaled, and added to what the frozen layer says
        return self.base(x) + self.scale * F.linear(thin, self.B)

    def merged(self) -> nn.Linear:
        """The ordinary layer that computes the same: W + alpha / rank * B A in W's own dtype."""
        with torch.no_grad():
            # added in 32 bits, or in 16 the small correction would be rounded away first
            weight = self.base.weight.float() + self.scale * (self.B @ self.A).float()
            self.base.weight.copy_(weight)
        return self.base


def add_lora(model: GPT, rank: int = 8, alpha: float = 16.0,
             targets: tuple[str, ...] = ATTENTION) -> GPT:
    """Freeze `model` and put a LoRALinear in place of every linear layer named in `targets`.

    targets: names of layers inside a block (see EVERYWHERE). Changes the model in place and gives
    it; its outputs are as before until B is trained. ValueError for a rank below 1, an alpha
    that is not finite, or if no layer has one of the names; the model is then as it was.
    """
    if rank < 1 or not math.isfinite(alpha):
        raise ValueError(f"rank {rank} must be at least 1, and alpha {alpha} finite")
    found = [(owner, name, layer) for owner in model.modules()
             for name, layer in owner.named_children()
             if name in targets and isinstance(layer, nn.Linear)]
    if not found:
        raise ValueError(f"no linear layer of this model is named {' or '.join(targets)}")
    # everything that is there stays as it is
    for p in model.parameters():
        p.requires_grad_(False)
    for owner, name, layer in found:
        setattr(owner, name, LoRALinear(layer, rank, alpha))
    return model


def merge_lora(model: GPT) -> GPT:
    """Add every correction to its matrix and put the plain layer back: a GPT as before, all of it
    trainable, that computes what the corrected one computed. Changes the model in place."""
    for owner in list(model.modules()):
        for name, layer in list(owner.named_children()):
            if isinstance(layer, LoRALinear):
                setattr(owner, name, layer.merged())
    for p in model.parameters():
        p.requires_grad_(True)
    return model


@contextlib.contextmanager
def without_lora(model: GPT) -> Iterator[GPT]:
    """The model as it was before it was trained, as long as the `with` lasts: the reference that
    KL and DPO ask for costs no memory, for the frozen weights are still there."""
    layers = [layer for layer in model.modules() if isinstance(layer, LoRALinear)]
    scales = [layer.scale for layer in layers]
    for layer in layers:
        layer.scale = 0.0
    try:
        yield model
    finally:
        for layer, scale in zip(layers, scales):
            layer.scale = scale


def lora_state(model: GPT) -> dict[str, Tensor]:
    """The trained numbers alone, by name: what a file of an adapter holds."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


class Adapter:
    """A model's trained numbers alone, for whoever keeps and restores a `state_dict`: SmolLM2's
    progress is 11 MB with the optimizer's, where the frozen weights beside it are 540."""

    def __init__(self, model: GPT) -> None:
        self.model = model

    def state_dict(self) -> dict[str, Tensor]:
        return lora_state(self.model)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put saved numbers back; ValueError if they are not exactly this model's."""
        if state.keys() != (own := lora_state(self.model)).keys():
            raise ValueError(f"an adapter of other matrices: {min(state.keys() ^ own.keys())}")
        self.model.load_state_dict(state, strict=False)
