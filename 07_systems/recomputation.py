"""Activation checkpointing: forget what a layer computed, and compute it again in backward.

    use_recomputation(model, every=1)           # chapter 4's GPT, from outside
    python 07_systems/recomputation.py          # bytes and seconds of each choice, about 20 s

Backward needs what forward computed, and for long texts that is far more than the model itself.
A layer that keeps only its input can compute everything else again when its gradient arrives: one
more forward pass, a third more work, for a fraction of the memory. The results are the same to
the bit. But: whole layers or nothing; choosing the cheap half of a layer (what is large and quick
to recompute) saves most of the bytes for a tenth of the work. Real runs: torch.utils.checkpoint.

Letters: L layers. Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost;
Korthikanti et al. 2022 for the choice inside a layer.
"""

import copy
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from artifacts import CommandLine, command, within
from gpt import GPT, GPTConfig
from memory import saved_bytes


def gradients_again(function: Callable, inputs: list[Tensor], parameters: list[nn.Parameter],
                    gradient: Tensor) -> list[Tensor | None]:
    """Run `function(*inputs)` once more, and give the gradients that its first run did not keep.

    `gradient` is that of the output. The result: one gradient for each of `inputs`, then one for
    each of `parameters`; None for what needs none or was not used. Nothing is added to anybody's
    .grad, and the graph in which the inputs were made is left alone. For function x -> w x, input
    3, w = 2 and gradient 1: [2, 3].
    """
    # The same values, cut off from the graph that made them: we only want to pass through here.
    inputs = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
    # This time everything is recorded; autograd's backward itself runs without recording.
    with torch.enable_grad():
        output = function(*inputs)
    wanted = [t for t in (*inputs, *parameters) if t.requires_grad]
    # Asked for by name instead of .backward(): whoever called us adds them up where they belong.
    found = iter(torch.autograd.grad(output, wanted, gradient, allow_unused=True))
    return [next(found) if t.requires_grad else None for t in (*inputs, *parameters)]


class _Recompute(torch.autograd.Function):
    """`apply(function, count, *inputs, *parameters)`: keeps the `count` inputs, nothing else."""

    @staticmethod
    def forward(ctx, function: Callable, count: int, *tensors: Tensor) -> Tensor:
        ctx.function, ctx.count, ctx.parameters = function, count, tensors[count:]
        ctx.save_for_backward(*tensors[:count])
        # The second run must see the same random numbers and the same precision as the first.
        device = tensors[0].device.type
        ctx.random = torch.get_rng_state()
        ctx.autocast = (device, torch.get_autocast_dtype(device),
                        torch.is_autocast_enabled(device))
        return function(*tensors[:count])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple:
        with torch.random.fork_rng(devices=[]), torch.autocast(*ctx.autocast):
            torch.set_rng_state(ctx.random)
            found = gradients_again(ctx.function, list(ctx.saved_tensors), ctx.parameters, gradient)
        return None, None, *found


def recompute(module: nn.Module, forward: Callable, x: Tensor, *others) -> Tensor:
    """forward(x, *others) of a module, of which only x is kept; `others` have no gradient."""
    if not torch.is_grad_enabled():
        return forward(x, *others)
    # ZeRO-3 has put plain tensors where the parameters were: those count as well.
    places = [t for part in module.modules() for t in (*part._parameters.values(),
                                                       *vars(part).values())]
    parameters = [t for t in places if isinstance(t, Tensor) and t.requires_grad]
    return _Recompute.apply(lambda x: forward(x, *others), 1, x, *parameters)


def use_recomputation(model: GPT, every: int = 1) -> GPT:
    """Let every `every`-th layer of chapter 4's GPT forget and compute again; gives the model."""
    for number, block in enumerate(model.blocks):
        if number % every == 0:
            block.forward = partial(recompute, block, block.forward)
    return model


def measure(model: GPT, ids: Tensor, steps: int) -> dict[str, float]:
    """Bytes that one forward pass keeps for backward, and the CPU seconds of one step (least)."""
    kept, seconds = saved_bytes(model, ids, ids), []
    for _ in range(steps):
        began = time.process_time()
        model(ids, ids)[1].backward()
        seconds.append(time.process_time() - began)
        model.zero_grad()
    return {"bytes": kept, "seconds": min(seconds)}


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--layers", type=within(int, low=1), default=8, help="of the model")
    parser.add_argument("--width", type=within(int, low=64), default=128, help="channels")
    parser.add_argument("--length", type=within(int, low=2), default=256, help="tokens of a row")
    parser.add_argument("--rows", type=within(int, low=1), default=4, help="rows of a batch")
    parser.add_argument("--steps", type=within(int, low=1), default=5, help="timed, least counts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plain = GPT(GPTConfig(vocab_size=512, layers=args.layers, width=args.width,
                          sequence_length=args.length))
    ids = torch.randint(512, (args.rows, args.length))
    choices = [("nothing is forgotten", 0), ("every second layer", 2), ("every layer", 1)]
    first = None
    for words, every in choices:
        model = copy.deepcopy(plain)
        row = measure(use_recomputation(model, every) if every else model, ids, args.steps)
        first = first or row
        print(f"{words:22s}{row['bytes'] / 1e6:9.1f} MB kept ({row['bytes'] / first['bytes']:.2f})"
              f"{row['seconds']:9.3f} CPU seconds a step ({row['seconds'] / first['seconds']:.2f})")


if __name__ == "__main__":
    command(main)
