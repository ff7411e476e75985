"""One update that cannot spoil a model, and what becomes of a run whose loss is no number.

    loss.backward()
    take_step(optimizer, policy.parameters(), loss, step)      # raises NonFinite before the update

    with last_good_kept(args.out, policy, "dpo", digest, rate):     # in a command
        log = train_dpo(policy, ...)

The rule is chapter 4's: loss and gradient norm are looked at BEFORE the update, so that the weights
in memory are the last good ones. They are kept beside the result, the old result stays as it was,
and one line says which step it was and what to try.
"""

import contextlib
import math
from pathlib import Path
from typing import Iterable, Iterator

import torch
from torch import Tensor

from artifacts import BadInput, shown
from checkpoint import save_checkpoint
from lora import merge_lora
from optimizers import clip_gradients
from training_loop import NonFinite


def take_step(optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor], loss: Tensor | float,
              step: int, max_norm: float = 1.0) -> float:
    """Clip the gradients that are there to `max_norm`, and update; gives their norm before that.

    Raises NonFinite, naming update `step` + 1, if the loss or the norm is nan or infinite: then no
    weight has been touched.
    """
    # One infinite gradient makes the joint norm infinite, one nan makes it nan.
    norm = float(clip_gradients(list(parameters), max_norm))
    value = loss.item() if isinstance(loss, Tensor) else loss
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise NonFinite(f"update {step + 1}: loss {value:g}, gradient norm {norm:g}")
    optimizer.step()
    return norm


def non_finite_tensor(model: torch.nn.Module) -> str:
    """The name of the first tensor of `model` that holds a nan or an infinity; "" if none does."""
    return next((name for name, value in model.state_dict().items()
                 if value.is_floating_point() and not torch.isfinite(value).all()), "")


def save_stage(path: Path, model: torch.nn.Module, stage: str, digest: str, step: int) -> None:
    """Save the checkpoint of a finished stage; BadInput instead of one that holds a nan.

    The last update of a run is followed by no loss that would show what it did. LoRA's matrices
    become part of the weights.
    """
    merge_lora(model)
    if bad := non_finite_tensor(model):
        raise BadInput(f"{shown(path)} was not written: after the last update {bad} holds a number "
                       "that is not finite; try --fresh with a smaller --learning-rate")
    save_checkpoint(path, model=model, stage=stage, tokenizer_sha256=digest, step=step)


@contextlib.contextmanager
def last_good_kept(path: Path, model: torch.nn.Module, stage: str, digest: str,
                   rate: float) -> Iterator[None]:
    """Around the training of `model`: a NonFinite inside saves the weights as they are, the last
    good ones, as `<name>.last_good.pt` beside `path`, and becomes one line with the way out."""
    try:
        yield
    except NonFinite as why:
        kept = Path(path).with_suffix(".last_good.pt")
        merge_lora(model)
        saved = not non_finite_tensor(model)
        if saved:
            save_checkpoint(kept, model=model, stage=stage, tokenizer_sha256=digest)
        raise BadInput(f"training stopped before {why}. "
                       + (f"The last good weights are in {shown(kept)}; " if saved else "")
                       + f"try --fresh --learning-rate {rate / 2:g}") from why
